"""The course of a demo: start, wait until ready, play, drain, audit, end, report."""
from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from crossspec_ros import __version__
from crossspec_ros.demo.counts import events_by_topic, stream_window_ids
from crossspec_ros.demo.live import LiveView
from crossspec_ros.demo.options import WORLD_SECONDS, DemoOptions, SourceTopics, free_domain
from crossspec_ros.demo.processes import Processes
from crossspec_ros.demo.report import write_html, write_json
from crossspec_ros.demo.summary import DEFINITIONS, hardware, summarise
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import LIFECYCLE_NODES, NodeSpec, declare, node_environment
from crossspec_ros.interrupts import interruptible
from crossspec_ros.nodes.tap import Tap, open_tap
from crossspec_ros.recordings.outlook import Passing, why_few, why_never_together, why_nothing
from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.tracing.summary import in_words, keep
from crossspec_ros.tracing.summary import summarise as summarise_paths
from crossspec_ros.view.drops import dropped_by_node
from crossspec_ros.view.record import Recorder, WindowRecord

_log = logging.getLogger(__name__)

READY_TIMEOUT_S = 240.0
_PLAY_TIMEOUT_S = 60.0
DRAIN_S = 3.0                       # after the last message at most, for the last windows to end and be answered
SETTLE_S = 6.0                      # after the player has ended: captions still to come
AUDIT_TIMEOUT_S = 600.0
_CLOSE_AFTER_MS = 2500.0            # a window without a final caption by then has none
_FRAME_GRACE_MS = 500.0              # a busy machine delivers late; frames in time are not waited for any longer
_LAST_LOOK_S = 0.6                  # the last caption stays in the film for a moment
_DIAGNOSTICS_S = 1.3                # nodes tell their counts every second: wait for the last ones
_TICK_S = 0.1
_NAMESPACE = 'crossspec'
_PARTS = 'trace'                    # in the folder of the logs
_MAX_ALIGN_MS = 60_000.0
# The slowest to start is started first.
_ORDER = ('verifier', 'qualifier', 'drafter', 'overlay', 'monitor', 'viewer', 'player')


@dataclass(frozen=True)
class _Stream:
    """When the stream ran, in the graph's clock (ns), and when it was started on the monotonic clock (ns)."""

    first_ns: int
    last_ns: int
    started_ns: int


def declare_nodes(options: DemoOptions, topics: SourceTopics, work: Path) -> list[NodeSpec]:
    """The graph of the demo: that of every vehicle, with a player for its cameras."""
    out = options.out.resolve()
    seconds = options.seconds if options.seconds is not None else (WORLD_SECONDS if options.bag is None else 0.0)
    arguments = {'namespace': _NAMESPACE, 'bag': options.source, 'image_transport': topics.image_transport or 'raw',
                 'viewer': 'false' if options.view is None else 'true', 'model': options.verifier,
                 'drafter_model': options.drafter, 'qualifier': options.qualifier, 'device': options.device,
                 'trace': '' if options.trace is None else str((work / _PARTS).resolve())}
    grid = {'window.frame_interval_ms': options.frame_interval_ms}
    stride_ms = options.grid.stride_ns / 1e6                    # the stream begins with a window
    specs = declare(arguments, {
        'player': {'clock': 'wall', 'seconds': seconds, 'autostart': False, 'drain_s': drain_s(options),
                   'wait_for_subscribers': 2, 'align_ms': min(stride_ms, _MAX_ALIGN_MS),
                   **({'topics': list(topics.names)} if topics.names else {})},
        'drafter': {'prompt': options.prompt, **grid},
        'qualifier': {'prompt': options.prompt, **grid, 'frames.grace_ms': _FRAME_GRACE_MS},
        'verifier': {'prompt': options.prompt, **grid, 'audit.keep': True, 'audit.rate': 0.0,
                     'frames.grace_ms': _FRAME_GRACE_MS},
        'overlay': {'record_path': str(out / 'overlay.mp4'), 'show_events': topics.events,
                    'snapshot_dir': str((work / 'pictures').resolve()), **grid},
        'viewer': {'port': options.view or 0, 'show_events': topics.events, **grid},
        'monitor': {'csv_path': str(out / 'latency.csv'), 'close_after_ms': _CLOSE_AFTER_MS, **grid},
    })
    return sorted(specs, key=lambda spec: _ORDER.index(spec.name))


def drain_s(options: DemoOptions) -> float:
    """How long to go on after the last message, s: until the last window has ended and been answered."""
    return max(DRAIN_S, options.grid.span_ns / 1e9 + DRAIN_S - 1.0)


class _Demo:
    """One demo while it runs."""

    def __init__(self, options: DemoOptions, topics: SourceTopics, work: Path, screen: IO[str]) -> None:
        self._options, self._work = options, work
        self.record = Recorder()
        self._domain = options.domain_id if options.domain_id is not None else free_domain(1 + os.getpid() % 101)
        self._specs = declare_nodes(options, topics, work)
        self._environment = {**node_environment(domain_id=self._domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
        # The tap is a participant of this process: it needs the same transport as the nodes.
        os.environ.update({name: self._environment[name] for name in
                           ('FASTDDS_DEFAULT_PROFILES_FILE', 'ROS_AUTOMATIC_DISCOVERY_RANGE')})
        self._view = LiveView(self.record, file=screen, title=f'crossspec demo: {options.source_name}',
                              grid=options.grid)
        self._next_sample = self._next_tick = 0.0
        self._processes: Processes | None = None

    def run(self) -> dict[str, Any]:
        """Everything up to the numbers; the processes are ended whatever happens."""
        began = time.monotonic()
        with Processes(self._work) as processes:
            self._processes = processes
            self._start(processes)
            # The processes end before the tap: it could wait for ever for a connection to one that is silent.
            with open_tap(self.record, self._listen, domain_id=self._domain, namespace=_NAMESPACE) as tap, processes, \
                    self._view:
                self._wait_until_ready(processes, tap)
                ready_s = time.monotonic() - began
                stream = self._play(processes, tap)
                self._settle(processes, tap)
                self._watch(processes, tap, _DIAGNOSTICS_S)
                done = [spec.name for spec in self._specs if spec.name in ('drafter', 'qualifier', 'monitor')]
                processes.end(*done)                            # their part is done
                audit = self._audit(processes, tap)
                self._view.say('ending')
                self._watch(processes, tap, _DIAGNOSTICS_S)
            numbers = {'audit': audit, 'ready_s': round(ready_s, 2), 'rss_mb': processes.rss_mb(),
                       'cpu_s': processes.cpu_s(), 'exit_codes': processes.exit_codes()}
        return self._report(stream, numbers)

    def unfinished(self, why: str) -> dict[str, Any] | None:
        """The numbers of a demo that did not come to its end, with the reason; None where nothing was heard yet."""
        windows = self.record.ordered()
        if not windows or self._processes is None:
            return None
        last_ns = self._view.last_ns or windows[-1].window_end_ns
        started_ns = int(self._player_value('started_ns')) or self.record.first_draft_ns or 0
        stream = _Stream(self._view.first_ns or min(windows[0].window_end_ns - 1, last_ns), last_ns, started_ns)
        processes = self._processes
        numbers = {'audit': {'checked': 0, 'mismatched': 0}, 'ready_s': None, 'rss_mb': processes.rss_mb(),
                   'cpu_s': processes.cpu_s(), 'exit_codes': processes.exit_codes(), 'unfinished': why}
        return self._report(stream, numbers)

    # ---- phases

    def _start(self, processes: Processes) -> None:
        (self._work / 'pictures').mkdir(parents=True, exist_ok=True)
        self._view.say(f'starting {len(self._specs)} processes in DDS domain {self._domain} '
                       f'(ROS_DOMAIN_ID={self._domain} ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST to look in)')
        for spec in self._specs:
            processes.start(spec.name, spec.command(), self._environment)

    def _wait_until_ready(self, processes: Processes, tap: Tap) -> None:
        """Models loaded, nodes active, player there. What is played before that would be lost."""
        until = time.monotonic() + READY_TIMEOUT_S
        waiting = [spec.name for spec in self._specs]
        while waiting:
            self._watch(processes, tap, 0.1)
            waiting = [name for name in waiting if not self._ready(name, tap)]
            if waiting and time.monotonic() > until:
                raise CrossSpecError(f'{", ".join(waiting)} not ready within {READY_TIMEOUT_S:g} s; '
                                     f'the end of the log of {waiting[0]}:\n{processes.log_tail(waiting[0])}')

    @staticmethod
    def _ready(name: str, tap: Tap) -> bool:
        if name in LIFECYCLE_NODES:
            return tap.lifecycle_state(name) == 'active'
        return tap.service_is_there(f'{name}/{"play" if name == "player" else "get_parameters"}')

    def _play(self, processes: Processes, tap: Tap) -> _Stream:
        """From the player's first message to its last."""
        reply = tap.call('player/play', _PLAY_TIMEOUT_S)
        if reply is None or not reply[0]:
            raise CrossSpecError(f'the player does not start: {reply[1] if reply else "it does not answer"}; '
                                 f'the end of its log:\n{processes.log_tail("player")}')
        page = self._node_value('viewer', 'page')
        self._view.say(f'playing; live at {page}' if page else 'playing')
        while processes.running('player') and self._view.last_ns is None:
            self._watch(processes, tap, _TICK_S)
        self._view.say('the stream has ended; the last windows')
        until = time.monotonic() + drain_s(self._options)
        while time.monotonic() < until and not self._last_is_verified():
            self._watch(processes, tap, _TICK_S)
        self._watch(processes, tap, _LAST_LOOK_S)
        processes.end('player', 'overlay')                      # what follows the stream is not worth filming
        if self._view.last_ns is None:
            raise CrossSpecError(f'the player played nothing; the end of its log:\n{processes.log_tail("player")}')
        return _Stream(self._view.first_ns, self._view.last_ns, int(self._player_value('started_ns')))

    def _stream_windows(self) -> list[WindowRecord]:
        ids = stream_window_ids(self.record, self._view.first_ns or 0, self._view.last_ns or 0,
                                self._options.grid)
        return [self.record.windows[window_id] for window_id in ids]

    def _last_is_verified(self) -> bool:
        """Whether the stream's last window has its caption; older ones without one by then were skipped."""
        windows = self._stream_windows()
        return bool(windows) and windows[-1].final and self._view.last_ns <= windows[-1].window_end_ns

    def _node_value(self, node: str, key: str) -> str:
        diagnostic = self.record.diagnostics.get(f'/{_NAMESPACE}/{node}')
        return diagnostic.values.get(key, '') if diagnostic else ''

    def _player_value(self, key: str) -> str:
        return self._node_value('player', key) or '0'

    def _follow_player(self) -> None:
        """Take over what the player has told about its stream."""
        self._view.first_ns = int(self._player_value('first_ns')) or None
        if self._view.first_ns and self._player_value('playing') == 'False':
            self._view.last_ns = int(self._player_value('last_ns'))

    def _settle(self, processes: Processes, tap: Tap) -> None:
        """Wait for final captions that are still to come, and for the monitor's rows."""
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            if all(window.latency and (window.final or window.newest is None) for window in self._stream_windows()):
                return
            self._watch(processes, tap, _TICK_S)

    def _audit(self, processes: Processes, tap: Tap) -> dict[str, int]:
        """Have the windows decoded again without drafts, as many as are kept and there is time for."""
        until = time.monotonic() + AUDIT_TIMEOUT_S
        while True:
            reply = tap.call('verifier/audit', 30.0)
            if reply is None or not reply[0]:
                raise CrossSpecError(f'the audit does not answer; the end of the log of the verifier:\n'
                                     f'{processes.log_tail("verifier")}')
            state = json.loads(reply[1])
            if not state['pending'] or time.monotonic() > until:
                return {'checked': int(state['checked']), 'mismatched': int(state['mismatched'])}
            self._view.progress(f'decoding again without drafts: {state["checked"]} done, {state["pending"]} to go')
            self._watch(processes, tap, 0.5)

    # ---- meanwhile

    def _listen(self, what: str, window: WindowRecord) -> None:
        (self._view.draft if what == 'draft' else self._view.caption)(window)

    def _watch(self, processes: Processes, tap: Tap, seconds: float) -> None:
        """Listen for a while, look after the processes, redraw."""
        tap.poll(seconds)
        self._follow_player()
        processes.check(ended_ok=('player',))
        now = time.monotonic()
        if now >= self._next_sample:
            processes.sample()
            self._next_sample = now + 1.0
        if now >= self._next_tick:                      # drawing takes time from the models on a small machine
            self._view.tick()
            self._next_tick = now + 0.2

    def _report(self, stream: _Stream, numbers: dict[str, Any]) -> dict[str, Any]:
        record = self.record.only(stream_window_ids(self.record, stream.first_ns, stream.last_ns,
                                                    self._options.grid))
        first_draft_ms = None
        if record.first_draft_ns is not None:
            first_draft_ms = round((record.first_draft_ns - stream.started_ns) / 1e6, 1)
        return {
            'version': __version__, 'created': datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z'),
            'source': self._options.source_name, 'stream_s': round((stream.last_ns - stream.first_ns) / 1e9, 2),
            **summarise(record), 'first_draft_ms': first_draft_ms, 'dropped': dropped_by_node(self.record.diagnostics),
            'events': events_by_topic(self.record.diagnostics),
            'critical_path': critical_path(self._work / _PARTS, self._options.trace, record.windows),
            **numbers, 'hardware': hardware(),
            'definitions': DEFINITIONS}


def critical_path(parts: Path, trace: Path | None, windows: Container[int]) -> dict[str, Any] | None:
    """The timeline written to ``trace``, and what it says of these windows; None where none was asked for or written.
    """
    if trace is None:
        return None
    try:
        paths = keep(parts, trace)
    except CrossSpecError as error:                     # the report of the run is worth more
        _log.warning('no timeline: %s', error)
        return None
    return summarise_paths([path for path in paths if path.window_id in windows])


def _fresh_work_folder(out: Path) -> Path:
    """A folder for logs and pictures inside the output folder, without those of an earlier demo."""
    work = out / 'logs'
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    except OSError as error:
        raise CrossSpecError(f'{work} cannot be made: {error.strerror}') from error
    return work


def outcome(report: dict[str, Any], passing: Passing | None, grid: WindowGrid) -> dict[str, Any]:
    """``notes`` on the recording and what came of it, and the ``reason`` why a recording with images gave no caption,
    or one without them no draft; None where something came.

    Of the synthetic world nothing is said: what does not come of it is for the counts to tell.
    """
    if passing is None:
        return {'notes': [], 'reason': None}
    dropped: Counter[str] = Counter()
    for causes in report['dropped'].values():
        dropped.update(causes)
    if not report['captions' if passing.images.stamps_ns else 'drafts']:
        return {'notes': list(passing.notes), 'reason': why_nothing(passing, dropped, grid, _FRAME_GRACE_MS)}
    drafted, captioned = ({entry['window_id'] for entry in report['captions_by_window'] if entry[kind] is not None}
                          for kind in ('draft', 'caption'))
    told = (why_never_together(passing, drafted, captioned),
            why_few(passing.images, dropped['window_few_frames'], grid))
    return {'notes': [*passing.notes, *(each for each in told if each)], 'reason': None}


def run_demo(options: DemoOptions, topics: SourceTopics, passing: Passing | None = None, *, screen: IO[str]
             ) -> dict[str, Any]:
    """Run one demo and leave its report in ``options.out``; returns what ``report.json`` holds.

    ``passing`` is what the recording holds, so that the report can say why nothing came of it. Where it ends early, by
    an error or a signal, the report is of what there was, and says why under ``unfinished``.

    Raises:
        CrossSpecError: a process failed or did not get ready; the text holds the end of its log.
    """
    work = _fresh_work_folder(options.out)
    with interruptible(signal.SIGINT, signal.SIGTERM):          # either way its processes are ended first
        demo = _Demo(options, topics, work, screen)
        try:
            report = demo.run()
        except (CrossSpecError, KeyboardInterrupt) as error:
            _keep_unfinished(demo.unfinished(str(error).splitlines()[0] if str(error) else 'interrupted'), options.out)
            raise
    report |= outcome(report, passing, options.grid)
    _write(report, options.out)
    print(closing_words(report, options.out), file=screen)
    return report


def _write(report: dict[str, Any], out: Path) -> None:
    write_json(out / 'report.json', report)
    write_html(out / 'report.html', report, out / 'logs' / 'pictures')


def _keep_unfinished(report: dict[str, Any] | None, out: Path) -> None:
    """Write what there is of a demo that ends with an error, which must come out and not one of writing."""
    if report is None:
        return
    try:
        _write(report, out)
    except CrossSpecError as error:
        _log.warning('no report of the unfinished demo: %s', error)


def closing_words(report: dict[str, Any], out: Path) -> str:
    """What a person wants to know at the end."""
    def ages(name: str) -> str:
        values = report[name]
        return 'none' if values['p50'] is None else f'p50 {values["p50"]:.0f} ms, p99 {values["p99"]:.0f} ms'

    audit, acceptance = report['audit'], report['acceptance']
    lines = [f'{report["windows"]} windows, {report["drafts"]} drafted, {report["captions"]} verified; '
             f'mode {report["mode"]}',
             f'draft age {ages("draft_age_ms")}; caption age {ages("caption_age_ms")}']
    if acceptance['tau'] is not None:
        checked = f'{audit["checked"]}' + (f' of {report["captions"]}' if audit['checked'] < report['captions'] else '')
        lines.append(f'{acceptance["tau"]:.2f} tokens a target pass; '
                     f'audit: {checked} decoded again without drafts, {audit["mismatched"]} differ')
    if report.get('critical_path') is not None:
        lines += in_words(report['critical_path'])
    lines.append(f'{sum(report["rss_mb"].values()) / 1000:.2f} GB in {len(report["rss_mb"])} processes; '
                 f'report: {out / "report.html"}')
    return '\n'.join(lines)
