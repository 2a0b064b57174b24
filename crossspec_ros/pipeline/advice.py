"""What to tell people about messages that are dropped for seconds on end: the numbers, and what to do."""
from __future__ import annotations

from dataclasses import dataclass

from crossspec_ros.pipeline.account import FORGOTTEN, FRAMES, UNCHANGED
from crossspec_ros.timing.arrivals import OFF, UNSTAMPED, offset_in_words

QUIET = frozenset({'unused', 'inactive', 'disabled', FORGOTTEN, UNCHANGED})
"""Causes that are no reason to warn: a camera faster than the slots, what somebody asked for, a still scene."""


@dataclass(frozen=True)
class Facts:
    """What is known of an input when a text about it is made; times in ms, None where not measured."""

    kind: str
    latency_ms: float | None = None
    grace_max_ms: float = 0.0
    interval_ms: float = 0.0

    @property
    def messages(self) -> str:
        return 'images' if self.kind == FRAMES else 'event packets'

    @property
    def stamps(self) -> str:
        """The parameter that says what stands for a stamp."""
        return 'frames.stamps' if self.kind == FRAMES else 'events.stamps'


def of_drops(cause: str, count: int, seconds: float, facts: Facts) -> str | None:
    """One line about a cause that has lasted; None where it is nothing to tell."""
    if cause in QUIET:
        return None
    what = facts.messages
    head = f'{count} {what} in {seconds:.0f} s '
    if cause == 'late' and facts.kind == FRAMES:
        return _late(head, facts)
    texts = {
        'late': 'came when their windows were drafted; draft.grace_max_ms is '
                f'{facts.grace_max_ms:g}: raise it, or shorten the way from the camera',
        'overflow': 'had to go since they come faster than they are taken in: send fewer, or use a faster device',
        'lost': 'were lost on the way: give the publisher the transport profile of this package (config/fastdds.xml), '
                'raise net.core.rmem_max to 8388608, send smaller messages, or relieve this machine',
        'damaged': 'cannot be unpacked: look at the driver and at the encoding',
        'refused': 'cannot be read: look at the driver and at the encoding',
        'unusable': 'were refused by the decoder, whose dropped_* counts say why: look at the event camera\'s driver',
        'duplicate': 'have the stamp of one before them: the driver repeats images or stamps',
        'skipped': 'lie in a gap that no window reaches: something stops for seconds; look at the load of this machine',
        'no_window': 'belong to windows that were given up: look at window_* counts',
        'window_few_frames': 'are in windows with images in fewer than half of their slots, of '
                             f'{facts.interval_ms:g} ms each: raise the camera\'s rate or window.frame_interval_ms',
        'window_overtaken': 'are in windows that newer ones overtook: answers take too long here; lower '
                            'decode.max_new_tokens, widen window.stride_frames, or use a faster device',
        'window_unfinished': 'are in windows whose answer was cut off: raise decode.timeout_ms or use a faster device',
        'window_cut': 'are in windows of which there was no time to say all before the verifier answers: raise '
                      'draft.lead_ms, look at fewer frames (frames.every), or use a smaller model or a faster device',
        'window_skipped': 'are in windows that were never drafted: drafting does not keep up; relieve this machine',
        UNSTAMPED: f'have a stamp of zero: mend the driver, or set {facts.stamps}: arrival',
        OFF: 'have stamps far from those around them: look at the driver, and for a second publisher',
    }
    return head + texts.get(cause, f'were dropped ({cause})')


def _late(head: str, facts: Facts) -> str:
    took = '' if facts.latency_ms is None else f'images come {facts.latency_ms:.0f} ms after their stamps; '
    return (f'{took}frames.grace_max_ms is {facts.grace_max_ms:g}: {head}came when their slots were settled; '
            'raise it, or shorten the way from the camera')


def of_stamps(fault: str, offset_ns: int | None, by_arrival: bool, facts: Facts) -> str:
    """One line about stamps that are all zero (``fault`` zero) or of another clock (behind, ahead)."""
    what = 'image' if facts.kind == FRAMES else 'event packet'
    meanwhile = 'the time of arrival stands for them' if by_arrival else 'they are taken as they are'
    if fault == 'zero':
        meanwhile = meanwhile if by_arrival else 'messages are dropped'
        return f'{what} stamps are zero; {meanwhile}; mend the driver, or set {facts.stamps}: arrival'
    return (f'{what} stamps are {offset_in_words(offset_ns or 0)} the ROS clock; {meanwhile}; synchronise the clocks '
            f'(PTP, NTP), follow the clock of the recording (use_sim_time), or set {facts.stamps}: arrival')
