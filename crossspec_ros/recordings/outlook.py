"""Why a recording gives no captions, in numbers, with what to set so that it does. Pure functions."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from crossspec_ros.recordings.replay import ReplayMessage
from crossspec_ros.timing.window import WindowGrid

_INTERVALS_MS = (10, 20, 25, 40, 50, 75, 100, 125, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000,
                 7500, 10_000, 15_000, 20_000, 30_000, 60_000)
_GRACES_MS = (100, 200, 300, 500, 1000, 1500, 2000, 3000, 5000, 10_000)
_ENOUGH = 0.6                   # of the slots' rate: half of them are filled but where a recording begins and ends
_TOLERANCE = 1.02               # cameras are not exact


@dataclass
class Passed:
    """What a stream held of one role (images, or events): stamps and due times, ns."""

    topic: str = ''
    stamps_ns: list[int] = field(default_factory=list)
    due_ns: list[int] = field(default_factory=list)

    def add(self, message: ReplayMessage) -> None:
        """Note a message."""
        self.topic = message.topic
        self.stamps_ns.append(message.stamp_ns)
        self.due_ns.append(message.due_ns)

    @property
    def span_s(self) -> float:
        """From the first to the last stamp, s."""
        return (max(self.stamps_ns) - min(self.stamps_ns)) / 1e9 if self.stamps_ns else 0.0

    @property
    def rate_hz(self) -> float | None:
        """Messages a second of stamps, None where they span no time."""
        return (len(self.stamps_ns) - 1) / self.span_s if self.span_s > 0 else None


class Passing:
    """Notes what passes: ``images`` and ``events``; `watch` hands the messages through.

    ``notes`` are those of the source: what was wrong with its times, a line each.
    """

    def __init__(self, notes: Iterable[str] = ()) -> None:
        self.images, self.events = Passed(), Passed()
        self.notes = tuple(notes)

    def watch(self, messages: Iterable[ReplayMessage]) -> Iterator[ReplayMessage]:
        """The same messages, noted."""
        for message in messages:
            self.note(message)
            yield message

    def note(self, message: ReplayMessage) -> None:
        """Note one message."""
        if message.role == 'events':
            self.events.add(message)
        elif message.role in ('image', 'compressed'):
            self.images.add(message)


def filled_slots(stamps_ns: Iterable[int], grid: WindowGrid) -> dict[int, int]:
    """Slots with a picture of their own by window, of pictures with these stamps."""
    slots = {grid.slot_index(stamp_ns) for stamp_ns in stamps_ns}
    counts: Counter[int] = Counter()
    for slot in slots:
        counts.update(grid.containing(slot * grid.interval_ns))
    return dict(counts)


def gives_windows(stamps_ns: Iterable[int], grid: WindowGrid) -> bool:
    """Whether pictures with these stamps fill at least half of some window: fewer are not captioned."""
    return any(2 * count >= grid.window_frames for count in filled_slots(stamps_ns, grid).values())


def why_no_window(images: Passed, grid: WindowGrid) -> str | None:
    """Why pictures with these stamps fill no window, and what to set; None where they fill one."""
    if not images.stamps_ns or gives_windows(images.stamps_ns, grid):
        return None
    rate, needed = images.rate_hz, 1000 / grid.frame_interval_ms
    if len(images.stamps_ns) > 1 and (rate or 0.0) * _TOLERANCE < needed / 2:
        return _too_slow(images, grid)
    many = f'{len(images.stamps_ns)} images in {images.span_s:.1f} s' if len(images.stamps_ns) > 1 else '1 image'
    return (f'{many} on {images.topic}; {_window(grid)} is {grid.span_ns / 1e9:g} s long and needs images in half of '
            f'it: {_way_out(images, grid)}')


def why_few(images: Passed, given_up: int, grid: WindowGrid) -> str | None:
    """What to say where windows were given up for too few images, of a camera much slower than their slots."""
    needed = 1000 / grid.frame_interval_ms
    if not given_up or images.rate_hz is None or images.rate_hz * _TOLERANCE >= _ENOUGH * needed:
        return None
    return f'{given_up} windows had images in fewer than half of their slots: {_too_slow(images, grid)}'


def _window(grid: WindowGrid) -> str:
    return f'a window of {grid.window_frames} frames {grid.frame_interval_ms:g} ms apart'


def _too_slow(images: Passed, grid: WindowGrid) -> str:
    return (f'{images.rate_hz or 0:.1f} images/s on {images.topic} ({len(images.stamps_ns)} in {images.span_s:.1f} s); '
            f'{_window(grid)} needs {1000 / grid.frame_interval_ms:g} images/s: {_way_out(images, grid)}')


def _way_out(images: Passed, grid: WindowGrid) -> str:
    interval_ms = _fitting_interval_ms(images, grid)
    return (f'set window.frame_interval_ms to {interval_ms}' if interval_ms else
            f'record at least {2 * grid.span_ns / 1e9:g} s')


def _fitting_interval_ms(images: Passed, grid: WindowGrid) -> int | None:
    """The shortest usual interval that the camera keeps up with and that gives a window."""
    if images.rate_hz is None:
        return None
    fitting = (interval for interval in _INTERVALS_MS if interval * _TOLERANCE >= 1000 / images.rate_hz)
    return next((interval for interval in fitting
                 if gives_windows(images.stamps_ns, replace(grid, frame_interval_ms=float(interval)))), None)


def why_late(images: Passed, late: int, grace_ms: float) -> str | None:
    """Why pictures came after their slots were settled, and what to set; None where it was fewer than half."""
    if not images.stamps_ns or 2 * late < len(images.stamps_ns):
        return None
    delays_ms = (np.array(images.due_ns) - np.array(images.stamps_ns)) / 1e6
    usual_ms, most_ms = float(np.median(delays_ms)), float(np.percentile(delays_ms, 95))
    enough_ms = next((grace for grace in _GRACES_MS if grace > most_ms), _GRACES_MS[-1])
    return (f'{late} of {len(images.stamps_ns)} images on {images.topic} came too late, {usual_ms:.0f} ms after their '
            f'stamps (median); a slot waits {grace_ms:g} ms for its image: set frames.grace_ms to {enough_ms}')


def why_nothing(passing: Passing, dropped: Mapping[str, int], grid: WindowGrid, grace_ms: float) -> str:
    """One line: why nothing was made of what passed."""
    images, events = passing.images, passing.events
    counts = ', '.join(f'{cause} {count}' for cause, count in sorted(dropped.items()) if count) or 'nothing'
    if not images.stamps_ns and not events.stamps_ns:
        return f'nothing to caption came; dropped: {counts}'
    if not images.stamps_ns:
        return (f'{len(events.stamps_ns)} packets in {events.span_s:.3f} s on {events.topic} gave no draft; '
                f'dropped: {counts}')
    refused = sum(count for cause, count in dropped.items()
                  if cause in ('image_refused', 'compressed_refused', 'frame_refused', 'frames_damaged'))
    late = dropped.get('frames_late', 0)
    return (why_late(images, late, grace_ms) or why_no_window(images, grid)
            or (f'{refused} of {len(images.stamps_ns)} images on {images.topic} cannot be used; dropped: {counts}'
                if refused else f'{len(images.stamps_ns)} images in {images.span_s:.1f} s on {images.topic} gave no '
                                f'caption; dropped: {counts}'))


def why_never_together(passing: Passing, drafted: set[int], captioned: set[int]) -> str | None:
    """What to say where windows were drafted and captioned, but never the same one; None otherwise."""
    images, events = passing.images, passing.events
    if not drafted or not captioned or drafted & captioned:
        return None
    start_ns = min(min(images.stamps_ns), min(events.stamps_ns))

    def between(passed: Passed) -> str:
        return f'{(min(passed.stamps_ns) - start_ns) / 1e9:.1f} to {(max(passed.stamps_ns) - start_ns) / 1e9:.1f} s'
    return (f'no window has both a draft and a caption: events on {events.topic} are from {between(events)}, '
            f'images on {images.topic} from {between(images)} of the recording')
