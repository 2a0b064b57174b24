"""``crossspec bench link``: cameras, drafter, overlay and monitor on one host, the verifier on another, and a link
between them that delays, loses and breaks.

The hosts are network namespaces of this one; all nodes are real processes over real DDS. What is between them is
`crossspec_ros.bench.relay`, so nothing of the kernel's traffic control is needed. Ages are those at the edge.
"""
from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossspec_ros.bench.relay import Conditions
from crossspec_ros.bench.two_hosts import ADDRESSES, HOSTS, TwoHosts, obstacle
from crossspec_ros.demo.options import free_domain
from crossspec_ros.demo.processes import Processes
from crossspec_ros.demo.summary import acceptance, hardware, percentiles
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import SERVER_NODES, NodeSpec, declare, node_environment
from crossspec_ros.resources import share_path
from crossspec_ros.view.drops import dropped_by_node
from crossspec_ros.view.record import Recorder, WindowRecord

if TYPE_CHECKING:
    from crossspec_ros.nodes.tap import Tap

_NAMESPACE = 'bench'
_READY_TIMEOUT_S = 240.0
_AUDIT_TIMEOUT_S = 600.0
_SETTLE_S = 3.0                                                 # after a change of conditions
_LATE_S = 5.0                                                   # answers still on their way
_BAG_S = 20.0
_QUALITY = 90
_DELAY_MS, _CUT_S = 10.0, 10.0                                  # of the conditions that are about something else


@dataclass(frozen=True)
class Trial:
    """Conditions held for ``seconds``, and what people call them."""

    name: str
    conditions: Conditions
    seconds: float


def trials(seconds: float) -> list[Trial]:
    """All conditions; after the cut, the way back is a trial of its own."""
    plain = Conditions(_DELAY_MS)
    return [*(Trial(f'{delay:g} ms', Conditions(delay), seconds) for delay in (0.0, _DELAY_MS, 50.0, 100.0)),
            *(Trial(f'{loss:.0%} lost', Conditions(_DELAY_MS, loss), seconds) for loss in (0.01, 0.3)),
            Trial(f'cut for {_CUT_S:g} s', Conditions(_DELAY_MS, cut=True), _CUT_S),
            Trial('after the cut', plain, seconds)]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the bench."""
    parser = subparsers.add_parser('link', help='verifier on another host: delay, loss, cuts of the link')
    parser.add_argument('--seconds', type=float, default=20.0, help='how long each condition is held, s (20)')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='these conditions only, such as "100 ms"')
    parser.add_argument('--images', choices=('reliable', 'best_effort'), default='reliable',
                        help='QoS of the images over the link (reliable)')
    parser.add_argument('--model', default='builtin', help='verifier: builtin or a checkpoint folder')
    parser.add_argument('--drafter', default='builtin', metavar='MODEL', help='drafter: builtin or a checkpoint folder')
    parser.add_argument('--profile', metavar='FILE', help='Fast DDS profile (config/fastdds_link.xml)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure; exit code 1 where a caption was wrong or something was lost without a count."""
    if not args.seconds > 0:
        raise CrossSpecError(f'seconds must be > 0, got {args.seconds}')
    why = obstacle()
    if why is not None:
        print(json.dumps({'skipped': why}) if args.json else f'skipped: {why}')
        return 0
    chosen = [trial for trial in trials(args.seconds) if not args.only or trial.name in args.only]
    if not chosen:
        names = ', '.join(trial.name for trial in trials(args.seconds))
        raise CrossSpecError(f'only must name some of {names}, got {", ".join(args.only)}')
    say = (lambda text: None) if args.json else (lambda text: print(text, flush=True))
    graph = declare({'namespace': _NAMESPACE, 'model': args.model, 'drafter_model': args.drafter, 'bag': 'world:1',
                     'image_transport': 'compressed', 'image_reliability': args.images},
                    {'verifier': {'audit.keep': True, 'audit.rate': 0.0},
                     'monitor': {'close_after_ms': 1000 * _LATE_S}})
    report = measure(graph, chosen, Path(args.profile) if args.profile else share_path('config', 'fastdds_link.xml'),
                     say)
    if args.json:
        print(json.dumps(report, indent=2))
    return 1 if report['audit']['mismatched'] or report['images']['unaccounted'] else 0


def describe(result: dict[str, Any]) -> str:
    """One line for people."""
    def ages(name: str) -> str:
        values = result[name]
        return 'none' if not values['n'] else f'p50 {values["p50"]:.0f} p99 {values["p99"]:.0f} ms'

    tau = result['tau']
    return (f'{result["name"]:<14} {result["captions"]} captions of {result["windows"]} windows, '
            f'{result["cross_modal"]} with drafts; draft age {ages("draft_age_ms")}; caption age '
            f'{ages("caption_age_ms")}; tau {"none" if tau is None else f"{tau:.2f}"}; link {result["link"]}; '
            f'dropped {result["dropped"]}')


def record_bag(path: Path, seconds: float) -> None:
    """The synthetic world with JPEG pictures, as a camera driver with image_transport sends them."""
    from PIL import Image

    from crossspec_ros.recordings.bag import BagWriter
    from crossspec_ros.recordings.sources import open_source

    source, writer = open_source('world:1'), BagWriter(path)
    try:
        for message in source.messages(0):
            if message.due_ns > seconds * 1e9:
                break
            if message.role == 'events':
                writer.write_packet('/event_camera/events', message.due_ns, message.data)
                continue
            data = io.BytesIO()
            Image.fromarray(message.data.rgb()).save(data, 'JPEG', quality=_QUALITY)
            writer.write_compressed('/camera/image_raw/compressed', message.due_ns, message.stamp_ns, 'rgb8; jpeg '
                                    'compressed bgr8', data.getvalue())
    finally:
        writer.close()
        source.close()


def measure(graph: Sequence[NodeSpec], chosen: Sequence[Trial], profile: Path, say: Any) -> dict[str, Any]:
    """Run the graph on two hosts through all conditions. Raises CrossSpecError when a process fails."""
    record = Recorder()
    with tempfile.TemporaryDirectory(prefix='crossspec-link-') as folder, TwoHosts() as hosts, \
            Processes(Path(folder)) as processes:
        bag = Path(folder, 'bag')
        record_bag(bag, _BAG_S)
        environments = _environments(profile, free_domain(1 + os.getpid() % 101))
        hosts.set(Conditions(_DELAY_MS))
        for spec in graph:
            if spec.name == 'player':
                spec.parameters.update({'source': str(bag), 'clock': 'wall', 'loop': True, 'autostart': False,
                                        'wait_for': ''})
            host = 'server' if spec.name in SERVER_NODES else 'edge'
            processes.start(spec.name, hosts.command(host, spec.command()), environments[host])
        with hosts.inside('edge'), _environment(environments['edge']):
            from crossspec_ros.nodes.tap import open_tap
            with open_tap(record, domain_id=int(environments['edge']['ROS_DOMAIN_ID']),
                          namespace=_NAMESPACE) as tap, processes:
                return _Run(hosts, processes, tap, record, say).all(chosen) | {'hardware': hardware()}


def _environments(profile: Path, domain: int) -> dict[str, dict[str, str]]:
    """What a person would set on each machine: the profile, the domain, and where the other machine is."""
    base = {name: value for name, value in os.environ.items()
            if name not in ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'FASTDDS_DEFAULT_PROFILES_FILE', 'ROS_STATIC_PEERS')}
    return {host: node_environment(base | {'FASTDDS_DEFAULT_PROFILES_FILE': str(profile),
                                           'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
                                           'ROS_STATIC_PEERS': ADDRESSES[other]}, domain_id=domain)
            for host, other in zip(HOSTS, reversed(HOSTS))}


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    names = ('FASTDDS_DEFAULT_PROFILES_FILE', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_STATIC_PEERS')
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: wanted[name] for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@dataclass
class _Run:
    """The course of it."""

    hosts: TwoHosts
    processes: Processes
    tap: Tap
    record: Recorder
    say: Any

    def all(self, chosen: Sequence[Trial]) -> dict[str, Any]:
        """Every condition, then the account of all messages and the audit of all captions."""
        self._wait_until_ready()
        if (reply := self.tap.call('player/play', 10.0)) is None or not reply[0]:
            raise CrossSpecError(f'the player does not start; the end of its log:\n{self.processes.log_tail("player")}')
        self._watch(_LATE_S)
        results = []
        for trial in chosen:
            results.append(self._try(trial))
            self.say(describe(results[-1]))
        self.hosts.set(Conditions(_DELAY_MS))
        self.tap.call('player/stop', 10.0)
        self._watch(_LATE_S)
        images, drafts = self._images(), self._drafts()
        self.processes.sample()
        cpu_s = self.processes.cpu_s()
        self.say(f'images {images}; drafts {drafts}; CPU s {cpu_s}')
        audit = self._audit()
        self.say(f'audit: {audit["checked"]} captions decoded again by the model alone, {audit["mismatched"]} differ')
        return {'conditions': results, 'images': images, 'drafts': drafts, 'audit': audit, 'cpu_s': cpu_s}

    def _try(self, trial: Trial) -> dict[str, Any]:
        self.hosts.set(trial.conditions)
        if not trial.conditions.cut and trial.name != 'after the cut':
            self._watch(_SETTLE_S)
        before = self._dropped()
        self.hosts.set(trial.conditions)
        begin_ns = self.tap.now_ns()
        self._watch(trial.seconds)
        end_ns = self.tap.now_ns()
        link = self.hosts.set(trial.conditions)
        if not trial.conditions.cut:
            self._watch(_SETTLE_S)                              # the last windows are answered, counts are told
        windows = [window for window in self.record.ordered() if begin_ns <= window.window_end_ns < end_ns]
        dropped = self._dropped()
        dropped.subtract(before)
        return _summary(trial, windows) | {'link': link, 'dropped': {key: count for key, count in dropped.items()
                                                                     if count}}

    # ---- the account

    def _value(self, node: str, key: str) -> int:
        status = self.record.diagnostics.get(f'/{_NAMESPACE}/{node}')
        return int(status.values.get(key, 0)) if status else 0

    def _dropped(self) -> Counter[str]:
        return Counter({f'{node}: {cause}': count
                        for node, causes in dropped_by_node(self.record.diagnostics).items()
                        for cause, count in causes.items() if node in ('drafter', 'verifier')})

    def _images(self) -> dict[str, Any]:
        """What became of the images that the edge sent to the server."""
        sent, told = self._value('player', 'played_compressed'), self._value('verifier', 'image_lost')
        received, used = self._value('verifier', 'frames_received'), self._value('verifier', 'frames_used')
        status = self.record.diagnostics.get(f'/{_NAMESPACE}/verifier')
        causes = {key: int(value) for key, value in (status.values if status else {}).items()
                  if (key.startswith('frames_') or key == 'image_refused') and value.isdecimal()
                  and key not in ('frames_received', 'frames_used', 'frames_repeated')}
        return {'sent': sent, 'received': received, 'lost_on_the_link': sent - received, 'lost_as_told_by_dds': told,
                'used': used, 'others': causes, 'unaccounted': received - used - sum(causes.values())}

    def _drafts(self) -> dict[str, int]:
        return {'sent': self._value('drafter', 'drafts'), 'received': self._value('verifier', 'drafts'),
                **{cause: count for cause in ('draft_late', 'draft_stale', 'draft_foreign_window')
                   if (count := self._value('verifier', cause))}}

    def _audit(self) -> dict[str, int]:
        until = time.monotonic() + _AUDIT_TIMEOUT_S
        while True:
            reply = self.tap.call('verifier/audit', 60.0)
            if reply is None or not reply[0]:
                raise CrossSpecError('the audit does not answer; the end of the log of the verifier:\n'
                                     f'{self.processes.log_tail("verifier")}')
            state = json.loads(reply[1])
            if not state['pending'] or time.monotonic() > until:
                return {name: int(state[name]) for name in ('checked', 'mismatched', 'pending', 'dropped')}
            self._watch(1.0)

    # ---- meanwhile

    def _watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tap.poll(min(0.25, left))
            self.processes.check(ended_ok=('player',))

    def _wait_until_ready(self) -> None:
        until, waiting = time.monotonic() + _READY_TIMEOUT_S, ['verifier', 'drafter', 'player']
        while waiting:
            self._watch(0.2)
            waiting = [name for name in waiting if not (
                self.tap.service_is_there('player/play') if name == 'player'
                else self.tap.lifecycle_state(name) == 'active')]
            if waiting and time.monotonic() > until:
                raise CrossSpecError(f'{", ".join(waiting)} not ready within {_READY_TIMEOUT_S:g} s; the end of the '
                                     f'log of {waiting[0]}:\n{self.processes.log_tail(waiting[0])}')


def _summary(trial: Trial, windows: Sequence[WindowRecord]) -> dict[str, Any]:
    done = [window for window in windows if window.caption is not None]
    return {'name': trial.name, 'seconds': trial.seconds, 'delay_ms': trial.conditions.delay_ms,
            'loss': trial.conditions.loss, 'cut': trial.conditions.cut, 'windows': len(windows),
            'drafted': sum(bool(window.drafts) for window in windows), 'captions': len(done),
            'cross_modal': sum(window.caption.mode.value == 'cross_modal' for window in done),
            'lossless': sum(window.caption.lossless for window in done),
            'draft_age_ms': percentiles(window.draft_age_ms for window in windows),
            'caption_age_ms': percentiles(window.caption_age_ms for window in done),
            'tau': acceptance(windows)['tau']}
