"""Trials of a graph whose processes live on: freezes, unplugged cameras, overload, nonsense, jumps of time, a bad link.

Each gives what was sent, used and counted, how long it took to the next caption, and what the referee says of it.
"""
from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossspec_ros.bench.resilience.referee import Referee
from crossspec_ros.bench.resilience.spread import spread
from crossspec_ros.bench.resilience.stage import Account, Playing, accounts, playing, scene
from crossspec_ros.graph import PAIR
from crossspec_ros.nodes.stand_ins import ROLES, Relay, Stranger, event_relay, draft_relay

_S = 1_000_000_000
Advance = Callable[[float], None]


@dataclass
class Trials:
    """Trials one after another on one graph, each with an account of its own; ``advance`` hears of each step."""

    graph: Playing
    referee: Referee
    advance: Advance
    results: dict[str, Any] = field(default_factory=dict)
    _before: dict[str, Account] = field(default_factory=dict)
    _captions: int = 0

    def close_account(self, name: str, **values: Any) -> None:
        """Settle the account of a trial that has ended, and judge its captions."""
        after = self.graph.settle()
        result = {**values, 'inputs': accounts(self._before, after)}
        captions = self.graph.heard.captions[self._captions:]
        self._before, self._captions = after, len(self.graph.heard.captions)
        result['words'] = self.referee.check(captions, self.graph.cameras.pictures)
        self.results[name] = result

    def again(self) -> None:
        """The cameras play as they did."""
        self.graph.cameras.play()
        for node in PAIR:
            self.graph.next_word(node)

    # ---- trials

    def freezes(self, count: int, longest_s: float) -> None:
        """Stop each node with a model in turn (SIGSTOP) for 1 s and longer."""
        times: dict[str, list[float]] = {node: [] for node in PAIR}
        for number in range(count):
            node = PAIR[number % 2]
            pid, stopped_s = self.graph.processes.pid(node), 1.0 + (longest_s - 1.0) * number / max(1, count - 1)
            os.kill(pid, signal.SIGSTOP)
            try:
                self.graph.tap.poll(stopped_s)
            finally:
                os.kill(pid, signal.SIGCONT)
            times[node].append(self.graph.next_word())
            self.graph.next_word('drafter')
            self.advance(1)
        self.close_account('freezes', n=count, next_caption_s={node: spread(each) for node, each in times.items()})

    def unplugged(self, seconds: float) -> None:
        """Each camera, then both, silent for a while."""
        times, warned = [], {}
        for roles in ({'image'}, {'events'}, set(ROLES)):
            self.graph.cameras.unplugged |= roles
            self.graph.tap.poll(seconds)
            for role in roles:
                status = self.graph.heard.record.diagnostics.get(f'/crossspec/{_NODE[role]}')
                warned[role] = warned.get(role, False) or bool(status and status.level)
            self.graph.cameras.unplugged.clear()
            times.append(self.graph.next_word())
            self.graph.next_word('drafter')
            self.advance(1)
        self.close_account('unplugged', n=3, silent_s=seconds, warned=warned, next_caption_s=spread(times))

    def overload(self, times: int, seconds: float) -> None:
        """So many times the events and the pictures a second."""
        self.graph.cameras.pause()
        self.graph.cameras.show(scene(times))
        self.graph.cameras.play()
        began_s, before = time.monotonic(), len(self.graph.heard.times)
        self.graph.tap.poll(seconds)
        within = self.graph.heard.times[before:]
        self.graph.cameras.pause()
        self.graph.cameras.show(scene())
        self.graph.cameras.play()
        back_s = self.graph.next_word()
        self.advance(1)
        self.close_account('overload', times=times, seconds=seconds, captions_meanwhile=len(within),
                           longest_gap_s=_longest_gap([began_s, *within, began_s + seconds]),
                           next_caption_s=round(back_s, 2))

    def hostile(self, stranger: Stranger, each: int, rate_hz: float = 50.0) -> None:
        """Drafts, verdicts and prompts that nobody should believe, then stamps that cannot be."""
        found: dict[str, Any] = {}
        for what in ('draft', 'verdict', 'prompt'):
            began_s, before = time.monotonic(), len(self.graph.heard.times)
            for _ in range(each):
                stranger.send(what, time.time_ns())
                self.graph.tap.poll(1.0 / rate_hz)
            within = self.graph.heard.times[before:]
            found[what] = {'sent': each, 'captions_meanwhile': len(within),
                           'longest_gap_s': _longest_gap([began_s, *within, time.monotonic()]),
                           'next_caption_s': round(self.graph.next_word(), 2)}
            self.advance(1)
        values = self.graph.heard.record.diagnostics['/crossspec/verifier'].values
        found['refused'] = {name: int(count) for name, count in values.items()
                            if name.startswith('draft_') and count.isdigit()}
        found['clocks'] = self._clocks(each / rate_hz)
        self.close_account('hostile', **found)

    def _clocks(self, seconds: float) -> dict[str, Any]:
        """Single stamps that are zero, an hour ahead, years ago; the rest are right."""
        random, cameras = np.random.default_rng(3), self.graph.cameras
        right = cameras.stamp_ns

        def stamp() -> int:
            wrong = [0, time.time_ns() + 3600 * _S, 7 * _S, time.time_ns() - 30 * _S]
            return wrong[random.integers(0, 4)] if random.random() < 0.1 else right()

        began_s, before = time.monotonic(), len(self.graph.heard.times)
        cameras.stamp_ns = stamp
        self.graph.tap.poll(seconds)
        cameras.stamp_ns = right
        within = self.graph.heard.times[before:]
        self.advance(1)
        return {'captions_meanwhile': len(within),
                'longest_gap_s': _longest_gap([began_s, *within, time.monotonic()]),
                'next_caption_s': round(self.graph.next_word(), 2)}

    def audit(self) -> None:
        """What the verifier itself says of the windows that it kept, which also holds where stamps were replaced."""
        import json
        counts = {'pending': 1}
        while counts['pending']:
            reply = self.graph.tap.call('verifier/audit', 30.0)
            counts = json.loads(reply[1]) if reply else counts
            self.graph.tap.poll(0.5)
            self.graph.alive()
        self.results['audit'] = {'checked': counts['checked'], 'dropped': counts['dropped'],
                                 'words': {'checked': counts['checked'], 'untraced': 0, 'wrong': counts['mismatched']}}


_NODE = {'events': 'drafter', 'image': 'verifier'}


def _longest_gap(times: list[float]) -> float:
    return round(max((later - earlier for earlier, later in zip(times, times[1:])), default=0.0), 2)


def steady(referee: Referee, advance: Advance, *, freezes: int, longest_s: float, silent_s: float, overload_s: float,
           nonsense: int) -> dict[str, Any]:
    """All trials of one graph that runs through."""
    strangers: list[Stranger] = []
    with playing({'verifier': {'audit.keep': True}}, on_stage=lambda node: strangers.append(Stranger(node))) as graph:
        trials = Trials(graph, referee, advance)
        trials.freezes(freezes, longest_s)
        trials.again()
        trials.unplugged(silent_s)
        trials.again()
        trials.overload(10, overload_s)
        trials.again()
        trials.hostile(strangers[0], nonsense)
        trials.audit()
        return trials.results


def jumps(referee: Referee, advance: Advance, count: int) -> dict[str, Any]:
    """``/clock`` and all stamps jump ahead and back."""
    origin_ns, began_ns, shift_ns = 1_000_000 * _S, time.monotonic_ns(), [0]

    def clock() -> int:
        return origin_ns + shift_ns[0] + time.monotonic_ns() - began_ns

    with playing(sim_time=True, stamp_ns=clock) as graph:
        trials, times, random = Trials(graph, referee, advance), [], np.random.default_rng(5)
        for number in range(count):
            graph.tap.poll(1.0 + float(random.random()))
            shift_ns[0] += round((1 if number % 2 else -1) * _S * float(random.uniform(2.0, 600.0)))
            times.append(graph.next_word())
            graph.next_word('drafter')
            advance(1)
        trials.close_account('jumps', n=count, next_caption_s=spread(times))
        return trials.results


def bad_link(referee: Referee, advance: Advance, seconds: float, loss: float = 0.3, reorder: float = 0.3
             ) -> dict[str, Any]:
    """Drafts and event packets go over a relay that loses a share of them and lets others overtake."""
    relays: dict[str, Relay] = {}

    def link(node: Any) -> None:
        relays['events'] = event_relay(node, '/event_camera/sent', '/event_camera/events', loss, reorder)
        relays['drafts'] = draft_relay(node, 'draft_sent', 'draft', loss, reorder)

    with playing(remaps={'drafter': {'draft': 'draft_sent'}}, events_topic='/event_camera/sent',
                 on_stage=link) as graph:
        trials, before = Trials(graph, referee, advance), len(graph.heard.times)
        began_s = time.monotonic()
        graph.tap.poll(seconds)
        within = graph.heard.times[before:]
        advance(1)
        trials.close_account('loss', seconds=seconds, captions_meanwhile=len(within),
                             longest_gap_s=_longest_gap([began_s, *within, began_s + seconds]))
        for relay in relays.values():
            relay.flush()
        graph.tap.poll(2.2)
        result = trials.results['loss']
        sent = result['inputs']['events']['sent']
        through, events = relays['events'].counts, graph.input('events')
        result['relays'] = {name: dict(relay.counts) for name, relay in relays.items()}
        result['inputs']['events'] |= {
            'lost_by_relay': through['lost'], 'received': events.received,
            'unaccounted': abs(sent - through['received']) + abs(through['received'] - through['lost']
                                                                 - events.received - events.lost)}
        return trials.results
