"""The graph on a stage: real nodes over real DDS, cameras that count, an ear, and one account of it all."""
from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from crossspec_ros.demo.options import free_domain
from crossspec_ros.demo.processes import Processes
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Events
from crossspec_ros.graph import PAIR, declare, node_environment
from crossspec_ros.nodes.stand_ins import ROLES, Cameras, Shot, open_stage
from crossspec_ros.nodes.tap import Tap, open_tap
from crossspec_ros.speculation.types import Caption, Stage
from crossspec_ros.view.record import CameraInput, Recorder, WindowRecord
from crossspec_ros.world import World

NAMESPACE = 'crossspec'
EVENTS_TOPIC, IMAGE_TOPIC = '/event_camera/events', '/camera/image_raw'
NODE_OF = {'events': 'drafter', 'image': 'verifier'}
_READY_S, _SETTLE_S = 240.0, 30.0
_SCENE_S = 8.0


@dataclass
class Heard:
    """What was said: when last, on the monotonic clock, s, and each final caption."""

    drafter: float = 0.0
    verifier: float = 0.0
    drafts: int = 0
    captions: list[Caption] = field(default_factory=list)
    times: list[float] = field(default_factory=list)            # of final captions
    record: Recorder = field(default_factory=Recorder)

    def listen(self, what: str, window: WindowRecord) -> None:
        """For a tap."""
        if what == 'draft':
            self.drafter, self.drafts = time.monotonic(), self.drafts + 1
        elif window.newest is not None and window.newest.stage is Stage.FINAL:
            self.verifier = time.monotonic()
            self.times.append(self.verifier)
            self.captions.append(window.newest)
        self.record.keep(50)


@lru_cache
def scene(speed: int = 1) -> tuple[Shot, ...]:
    """Some seconds of the synthetic world, shown so many times faster: as many more events and pictures a second."""
    world, packetizer, shots = World(1), Packetizer('mono', 320, 240), []
    for stamp_ns, kind, payload in world.stream(0.0, _SCENE_S):
        if kind == 'image':
            shots.append(Shot(stamp_ns // speed, rgb=payload.copy()))
        elif len(payload):
            events = Events(payload.t_ns // speed, payload.x, payload.y, payload.p, payload.width, payload.height)
            shots.append(Shot(stamp_ns // speed, packetizer.packet(events, 0)))
    return tuple(shots)


@dataclass
class Account:
    """Messages of a role at one moment: sent by the cameras, and what the node says of them."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    used: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def unaccounted(self) -> int:
        """Neither received nor lost with a count, or counted more than once."""
        return abs(self.sent - self.received - self.lost)

    def since(self, before: Account) -> Account:
        """What was added."""
        dropped = {cause: count - before.dropped.get(cause, 0) for cause, count in self.dropped.items()}
        return Account(self.sent - before.sent, self.received - before.received, self.lost - before.lost,
                       self.used - before.used, {cause: count for cause, count in dropped.items() if count})

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {'sent': self.sent, 'received': self.received, 'used': self.used, 'lost_counted': self.lost,
                'dropped': self.dropped, 'unaccounted': self.unaccounted}


@dataclass
class Playing:
    """A running graph with its cameras and an ear."""

    tap: Tap
    heard: Heard
    cameras: Cameras
    alive: Callable[[], None]                                   # raises CrossSpecError where a node has ended
    stage: Any = None
    processes: Processes | None = None

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """Listen until something holds; returns when it did, monotonic s. Raises CrossSpecError after ``seconds``."""
        until_s = time.monotonic() + seconds
        while not condition():
            self.alive()
            if time.monotonic() > until_s:
                raise CrossSpecError(f'{what} not within {seconds:g} s')
            self.tap.poll(0.02)
        return time.monotonic()

    def next_word(self, node: str = 'verifier', seconds: float = 120.0) -> float:
        """How long from now to the next draft or final caption, s."""
        began_s = time.monotonic()
        return self.wait(lambda: getattr(self.heard, node) > began_s, seconds, f'a word of the {node}') - began_s

    def input(self, role: str) -> CameraInput | None:
        """What the node with this input has told last."""
        return self.heard.record.inputs.get(f'/{NAMESPACE}/{NODE_OF[role]} {role}')

    def begin(self) -> None:
        """Wait for the nodes, then let the cameras play until both models speak."""
        self.wait(lambda: all(self.tap.lifecycle_state(node) == 'active' for node in PAIR), _READY_S,
                  'active drafter and verifier')
        self.wait(lambda: all(self.cameras.readers().values()), 30.0, 'subscriptions of the inputs')
        self.tap.poll(1.5)                                      # both sides have to know of each other
        self.cameras.play()
        for node in PAIR:
            self.next_word(node, _READY_S)

    def settle(self, reset: bool = True) -> dict[str, Account]:
        """Pause the cameras and let the graph forget open windows; the account since the start, by role.

        Raises CrossSpecError where messages still wait then.
        """
        self.cameras.pause()
        reports = {role: [self.input(role)] for role in ROLES}  # the first is of before, or of a node that was killed
        self.tap.poll(0.5)
        until_s = time.monotonic() + _SETTLE_S
        while not all(_at_rest(each, reset) for each in reports.values()):
            if time.monotonic() >= until_s:
                raise CrossSpecError(f'the inputs did not come to rest in {_SETTLE_S:g} s: '
                                     f'{ {role: _numbers(each[-1]) for role, each in reports.items()} }')
            if reset:
                for node in PAIR:
                    self.tap.call(f'{node}/reset', 10.0)
            self.tap.poll(0.3)
            for role, told in reports.items():
                if self.input(role) is not told[-1]:
                    told.append(self.input(role))
        self.tap.poll(1.2)                                      # a report later the numbers are whole
        return {role: self._account(role) for role in ROLES}

    def _account(self, role: str) -> Account:
        told = self.input(role)
        return Account(self.cameras.sent[role], told.received, told.lost, told.used, dict(told.dropped))


def _numbers(told: CameraInput | None) -> tuple[int, int, int] | None:
    return told and (told.received, told.lost, told.waiting)


def _at_rest(reports: Sequence[CameraInput | None], none_waits: bool) -> bool:
    """Whether a node has said the same twice since the cameras paused; one that gets no time to speak is not at rest.
    """
    newest = reports[-1]
    return len(reports) > 2 and _numbers(newest) == _numbers(reports[-2]) and not (none_waits and newest.waiting)


def accounts(before: Mapping[str, Account], after: Mapping[str, Account]) -> dict[str, Any]:
    """What became of the messages between two moments, for reports."""
    parts = {role: after[role].since(before.get(role, Account())) for role in after}
    return {role: part.as_dict() for role, part in parts.items()}


def share_transport(domain: int) -> dict[str, str]:
    """The environment of nodes of a domain; participants of this process get the same transport."""
    environment = node_environment(domain_id=domain)
    os.environ.update({name: environment[name] for name in
                       ('FASTDDS_DEFAULT_PROFILES_FILE', 'ROS_AUTOMATIC_DISCOVERY_RANGE') if name in environment})
    return environment


@contextmanager
def playing(parameters: Mapping[str, Mapping[str, Any]] | None = None, *, sim_time: bool = False,
            stamp_ns: Callable[[], int] = time.time_ns, remaps: Mapping[str, Mapping[str, str]] | None = None,
            events_topic: str = EVENTS_TOPIC, given: Mapping[str, str] | None = None,
            environment: Mapping[str, str] | None = None,
            on_stage: Callable[[Any], None] = lambda node: None, without: Sequence[str] = ()) -> Iterator[Playing]:
    """The graph's nodes in processes of their own, once both models speak; ended with the block."""
    domain = free_domain(1 + os.getpid() % 101)
    own = {**share_transport(domain), **(environment or {})}
    specs = declare({**(given or {}), 'use_sim_time': str(sim_time).lower()}, parameters)
    heard = Heard()
    with (tempfile.TemporaryDirectory(prefix='crossspec-resilience-') as folder,
          open_stage(domain_id=domain, namespace=NAMESPACE) as stage,
          open_stage(domain_id=domain, namespace=NAMESPACE, name='camera') as camera,
          open_tap(heard.record, heard.listen, domain_id=domain, namespace=NAMESPACE) as tap,
          Processes(Path(folder)) as processes):
        on_stage(stage)
        cameras = Cameras(stage, camera, scene(), events_topic, IMAGE_TOPIC, sim_time, stamp_ns)
        try:
            for spec in specs:
                if spec.name not in without:
                    spec = replace(spec, remaps={**spec.remaps, **(remaps or {}).get(spec.name, {})})
                    processes.start(spec.name, spec.command(), own)
            graph = Playing(tap, heard, cameras, processes.check, stage, processes)
            graph.begin()
            yield graph
        finally:
            cameras.close()

