"""``crossspec bench stream``: events from the player to the drafter over DDS, at rising rates until packets are lost.

Player and drafter are the nodes of the graph, in processes of their own. The packets are encoded beforehand, so that
the way is measured and not a sensor's model.
"""
from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossspec_ros.demo.options import free_domain
from crossspec_ros.demo.processes import Processes
from crossspec_ros.demo.summary import hardware
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import declare, node_environment
from crossspec_ros.recordings.load import PERIOD_US, LoadSource
from crossspec_ros.view.record import Recorder

if TYPE_CHECKING:
    from crossspec_ros.nodes.tap import Tap

_NAMESPACE = 'bench'
_READY_TIMEOUT_S = 90.0
_SETTLED_S = 5.0
_GROWTH = 1.5
_MAX_MEV_S = 150.0
_TOO_LATE_MS = 1000.0
# What the drafter counts that is a loss of events on the way, and not something in the packets.
_LOSSES = ('packets_overflow', 'dropped_lost_packets', 'dropped_seq_back', 'dropped_duplicate_packet', 'packet_refused')


@dataclass
class Watched:
    """What was seen while a rate was held."""

    rss_mb: dict[str, list[float]] = field(default_factory=dict)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the bench."""
    parser = subparsers.add_parser('stream', help='player to drafter over DDS: the rate of the first loss')
    parser.add_argument('--rate', type=float, default=10.0, metavar='MEV_S',
                        help='million events a second to hold (10)')
    parser.add_argument('--seconds', type=float, default=60.0, help='how long to hold it, s (60)')
    parser.add_argument('--sweep-seconds', type=float, default=8.0, metavar='S',
                        help='how long each higher rate is tried for the first loss, s (8; 0: none is tried)')
    parser.add_argument('--drafter', default='builtin', metavar='MODEL', help='drafter: builtin or a checkpoint folder')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Hold the rate, then look for the first loss; exit code 1 when the rate to hold lost packets."""
    if not args.seconds > 0 or args.sweep_seconds < 0:
        raise CrossSpecError(f'seconds must be > 0 and sweep seconds >= 0, got {args.seconds} and {args.sweep_seconds}')
    say = (lambda text: None) if args.json else (lambda text: print(text, flush=True))
    held = measure(args.rate, args.seconds, args.drafter)
    say(describe(held))
    tried = []
    rate = args.rate
    while args.sweep_seconds and not lost(tried[-1] if tried else held) and rate * _GROWTH <= _MAX_MEV_S:
        rate *= _GROWTH
        tried.append(measure(rate, args.sweep_seconds, args.drafter))
        say(describe(tried[-1]))
    last = tried[-1] if tried else held
    report = {**held, 'sweep': tried, 'first_loss_mev_s': last['rate_mev_s'] if lost(last) else None,
              'first_loss_at': last['limit'] if lost(last) else None, 'hardware': hardware()}
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(f'{"first loss at" if lost(last) else "no loss up to"} {last["rate_mev_s"]:g} million events a second')
    return 1 if lost(held) else 0


def lost(result: dict[str, Any]) -> bool:
    """Whether anything was lost, or the rate could not be reached at all."""
    return result['limit'] is not None


def describe(result: dict[str, Any]) -> str:
    """One line for people."""
    age = result['draft_age_ms']
    ages = 'no drafts' if age is None else f'draft age p50 {age["p50"]:.0f} p99 {age["p99"]:.0f} ms'
    rss = ', '.join(f'{name} {mb["max"]:.0f}' for name, mb in result['rss_mb'].items())
    return (f'{result["rate_mev_s"]:g} Mev/s ({result["mb_s"]:.0f} MB/s) for {result["seconds"]:g} s: '
            f'{result["received_packets"]} of {result["sent_packets"]} packets, {result["lost_packets"]} lost; {ages}; '
            f'memory MB: {rss}' + (f'; limit: {result["limit"]}' if result['limit'] else ''))


def measure(rate_mev_s: float, seconds: float, drafter: str) -> dict[str, Any]:
    """Play one rate from a fresh player to a fresh drafter. Raises CrossSpecError when a process fails."""
    domain = free_domain(1 + os.getpid() % 101)
    environment = {**node_environment(domain_id=domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    os.environ.update({name: environment[name] for name in
                       ('FASTDDS_DEFAULT_PROFILES_FILE', 'ROS_AUTOMATIC_DISCOVERY_RANGE')})
    specs = declare({'bag': f'load:{rate_mev_s:g}', 'namespace': _NAMESPACE, 'drafter_model': drafter},
                    {'player': {'clock': 'wall', 'seconds': float(seconds), 'autostart': False, 'drain_s': 2.0}})
    record, watched = Recorder(), Watched()
    with tempfile.TemporaryDirectory(prefix='crossspec-stream-') as folder, Processes(Path(folder)) as processes:
        for spec in specs:
            if spec.name in ('drafter', 'player'):
                processes.start(spec.name, spec.command(), environment)
        from crossspec_ros.nodes.tap import open_tap
        with open_tap(record, domain_id=domain, namespace=_NAMESPACE) as tap, processes:   # which end before the tap
            _wait(lambda: tap.lifecycle_state('drafter') == 'active' and tap.service_is_there('player/play'), tap,
                  processes, watched, _READY_TIMEOUT_S, 'drafter and player are not ready')
            reply = tap.call('player/play', 10.0)
            if reply is None or not reply[0]:
                raise CrossSpecError(f'the player does not start; the end of its log:\n{processes.log_tail("player")}')
            _wait(lambda: not processes.running('player'), tap, processes, watched, 3 * seconds + 60.0,
                  'the player does not end')
            _settle(tap, processes, watched, record)
        cpu_s = processes.cpu_s()
    return _result(rate_mev_s, seconds, record, watched, cpu_s)


def _watch(tap: Tap, processes: Processes, watched: Watched) -> None:
    """Listen for a moment; once a second look at the processes."""
    tap.poll(0.25)
    processes.check(ended_ok=('player',))
    processes.sample()
    for name, rss_mb in processes.rss_mb().items():
        watched.rss_mb.setdefault(name, []).append(rss_mb)


def _wait(done: Callable[[], bool], tap: Tap, processes: Processes, watched: Watched, timeout_s: float,
          complaint: str) -> None:
    until = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > until:
            raise CrossSpecError(f'{complaint} within {timeout_s:g} s; the end of the log of the drafter:\n'
                                 f'{processes.log_tail("drafter")}')
        _watch(tap, processes, watched)


def _settle(tap: Tap, processes: Processes, watched: Watched, record: Recorder) -> None:
    """Until the drafter's counts stand still: what is on the way is not lost."""
    until = time.monotonic() + _SETTLED_S
    before = None
    while time.monotonic() < until:
        for _ in range(5):
            _watch(tap, processes, watched)
        now = _values(record, 'drafter').get('packets')
        if now is not None and now == before:
            return
        before = now


def _values(record: Recorder, node: str) -> dict[str, str]:
    status = record.diagnostics.get(f'/{_NAMESPACE}/{node}')
    return status.values if status else {}


def _result(rate_mev_s: float, seconds: float, record: Recorder, watched: Watched, cpu_s: dict[str, float]
            ) -> dict[str, Any]:
    player, drafter = _values(record, 'player'), _values(record, 'drafter')
    load = LoadSource(rate_mev_s * 1e6)
    planned = int(seconds * 1e6) // PERIOD_US - 1               # the last one is due at the end or after it
    sent, received = int(player.get('played_events', 0)), int(drafter.get('packets', 0))
    lost_packets = max(0, sent - received)                      # what the drafter throws away it has not counted
    causes = {cause: int(drafter[cause]) for cause in _LOSSES if int(drafter.get(cause, 0))}
    worst_late_ms = float(player['worst_late_ms']) if 'worst_late_ms' in player else None
    limit = None
    if sent < planned or worst_late_ms is None or worst_late_ms > _TOO_LATE_MS:
        limit = 'the player cannot send this rate'
    if lost_packets or causes:
        limit = 'packets lost'
    ages = [window.draft_age_ms for window in record.ordered() if window.draft_age_ms is not None]
    return {'rate_mev_s': rate_mev_s, 'seconds': seconds, 'mb_s': rate_mev_s * load.bytes_per_event,
            'sent_packets': sent, 'received_packets': received, 'lost_packets': lost_packets, 'loss_causes': causes,
            'events': int(drafter.get('events', 0)), 'sent_events': sent * load.events_per_packet,
            'drafts': int(drafter.get('drafts', 0)), 'windows_drafted': len(ages), 'draft_age_ms': _percentiles(ages),
            'worst_late_ms': worst_late_ms, 'limit': limit, 'cpu_s': cpu_s,
            'rss_mb': {name: {'median': float(np.median(values)), 'max': max(values)}
                       for name, values in watched.rss_mb.items()}}


def _percentiles(ages: Sequence[float]) -> dict[str, float] | None:
    if not ages:
        return None
    return {f'p{q}': round(float(np.percentile(ages, q)), 1) for q in (50, 95, 99)}
