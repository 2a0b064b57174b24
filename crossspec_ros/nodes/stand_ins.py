"""Stand-ins for what a graph lives among, for benches: cameras that count what they send, a bad network, and strangers
that publish nonsense. Real publishers and subscriptions in a context of their own.
"""
from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

from crossspec_ros.events.types import Packet
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import image_to, packet_to, to_time
from crossspec_ros.nodes.process import starting

_S = 1_000_000_000
_CLOCK_HZ = 100.0
_DEADLINE_MS = 2500.0                                           # the monitor asks for no less
ROLES = ('events', 'image')


@dataclass(frozen=True)
class Shot:
    """One message of the cameras: due so long after a pass begins, a packet or an RGB picture (H, W, 3) uint8."""

    due_ns: int
    packet: Packet | None = None
    rgb: np.ndarray | None = None


@dataclass
class Cameras:
    """An event camera and an RGB camera that show the same scene over and over. `sent` counts by role.

    ``stamp_ns`` gives stamps (the wall clock, or the one of ``/clock``); roles in ``unplugged`` are silent.
    ``pictures``: all that were sent, by stamp. ``node`` is the event camera's driver, ``image_node`` that of the other
    one: a participant each, as drivers have.
    """

    node: Node
    image_node: Node
    shots: Sequence[Shot]
    events_topic: str
    image_topic: str
    sim_time: bool = False
    stamp_ns: Callable[[], int] = time.time_ns
    unplugged: set[str] = field(default_factory=set)
    sent: Counter[str] = field(default_factory=Counter)
    pictures: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._publishers = {'events': self.node.create_publisher(EventPacket, self.events_topic, qos.events()),
                            'image': self.image_node.create_publisher(Image, self.image_topic, qos.image())}
        self._clock = self.node.create_publisher(Clock, '/clock', qos.clock()) if self.sim_time else None
        self.show(self.shots)
        self._ended, self._playing, self._idle = threading.Event(), threading.Event(), threading.Event()
        self._idle.set()
        self._seq = 0
        self._threads = [threading.Thread(target=target, daemon=True) for target in
                         ([self._run, self._tick] if self.sim_time else [self._run])]
        for thread in self._threads:
            thread.start()

    def show(self, shots: Sequence[Shot]) -> None:
        """Another scene from the next `play` on; for a pause only."""
        self.shots = shots
        self._messages = [packet_to(shot.packet) if shot.packet is not None else image_to(shot.rgb, 0)
                          for shot in shots]

    def readers(self) -> dict[str, int]:
        """Subscriptions that match, by role."""
        return {role: publisher.get_subscription_count() for role, publisher in self._publishers.items()}

    def play(self) -> None:
        """Send from now on."""
        self._playing.set()

    def pause(self) -> None:
        """Send no more; the last few come slowly, so that their numbers show what was lost before them."""
        self._playing.clear()
        self._idle.wait(10.0)
        for _ in range(3):
            time.sleep(0.15)
            for role in ROLES:
                number = next(i for i, shot in enumerate(self.shots) if (shot.rgb is None) == (role == 'events'))
                self._send(number, time.monotonic_ns())

    def close(self) -> None:
        """End the threads."""
        self._ended.set()
        self._playing.set()
        for thread in self._threads:
            thread.join(5.0)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._idle.set()
            self._playing.wait()
            self._idle.clear()
            self._pass()

    def _pass(self) -> None:
        begin_ns = time.monotonic_ns()
        for number, shot in enumerate(self.shots):
            left_s = (begin_ns + shot.due_ns - time.monotonic_ns()) / _S
            if left_s > 0 and self._ended.wait(left_s) or not self._playing.is_set():
                return
            if ('events' if shot.rgb is None else 'image') not in self.unplugged:
                self._send(number, begin_ns + shot.due_ns)

    def _send(self, number: int, sensor_ns: int) -> None:
        shot, message, stamp_ns = self.shots[number], self._messages[number], max(0, self.stamp_ns())
        role = 'events' if shot.rgb is None else 'image'
        message.header.stamp = to_time(stamp_ns)
        if shot.rgb is None:
            message.seq, self._seq = self._seq, self._seq + 1
            message.time_base = sensor_ns                       # goes on while the scene begins again
        else:
            self.pictures[stamp_ns] = shot.rgb
        self.sent[role] += 1                                    # before: what is received was sent
        self._publishers[role].publish(message)

    def _tick(self) -> None:
        while not self._ended.wait(1.0 / _CLOCK_HZ):
            self._clock.publish(Clock(clock=to_time(max(0, self.stamp_ns()))))


class Relay:
    """Hands messages of a topic on to another, but loses a share of them and lets others overtake."""

    def __init__(self, node: Node, kind: type, source: str, target: str, profile: QoSProfile, *, loss: float,
                 reorder: float, seed: int) -> None:
        self.counts: Counter[str] = Counter(received=0, lost=0, reordered=0, passed=0)
        self._loss, self._reorder, self._random = loss, reorder, np.random.default_rng(seed)
        self._held: list[Any] = []
        self._publisher = node.create_publisher(kind, target, profile)
        # Best effort: it must match who offers no more.
        node.create_subscription(kind, source, self._on_message, qos.best_effort(profile))

    def _on_message(self, message: Any) -> None:
        self.counts['received'] += 1
        draw = self._random.random()
        if draw < self._loss:
            self.counts['lost'] += 1
        elif draw < self._loss + (1 - self._loss) * self._reorder and len(self._held) < 3:
            self.counts['reordered'] += 1
            self._held.append(message)                          # the next ones overtake it
        else:
            self._pass(message)
            self.flush()

    def _pass(self, message: Any) -> None:
        self.counts['passed'] += 1
        self._publisher.publish(message)

    def flush(self) -> None:
        """Hand on what is held back."""
        held, self._held = self._held, []
        for message in held:
            self._pass(message)


def event_relay(node: Node, source: str, target: str, loss: float, reorder: float) -> Relay:
    """A relay of event packets."""
    return Relay(node, EventPacket, source, target, qos.played_events(), loss=loss, reorder=reorder, seed=1)


def draft_relay(node: Node, source: str, target: str, loss: float, reorder: float) -> Relay:
    """A relay of drafts."""
    return Relay(node, DraftMsg, source, target, qos.draft(_DEADLINE_MS), loss=loss, reorder=reorder, seed=2)


class Stranger:
    """Publishes drafts, verdicts and prompts that nobody should believe. `sent` counts by topic."""

    def __init__(self, node: Node, seed: int = 0) -> None:
        self.sent: Counter[str] = Counter()
        self._random = np.random.default_rng(seed)
        self._publishers = {'draft': node.create_publisher(DraftMsg, 'draft', qos.draft(_DEADLINE_MS)),
                            'verdict': node.create_publisher(VerdictMsg, 'verdict', qos.verdict()),
                            'prompt': node.create_publisher(String, 'prompt', qos.prompt())}

    def send(self, what: str, now_ns: int) -> None:
        """Publish one message of a topic."""
        self.sent[what] += 1
        self._publishers[what].publish(getattr(self, f'_{what}')(now_ns))

    def _numbers(self, most: int, high: int) -> list[int]:
        return self._random.integers(0, high, self._random.integers(0, most)).tolist()

    def _window(self, now_ns: int) -> tuple[int, int]:
        """A window's number and end: of the next one, of another one, or ones that do not belong together."""
        window_id = -(-now_ns // _S)
        return [(window_id, window_id * _S), (window_id + 1, window_id * _S), (0, 0),
                (window_id + 1000, (window_id + 1000) * _S), ((1 << 64) - 1, 1)][self._random.integers(0, 5)]

    def _draft(self, now_ns: int) -> DraftMsg:
        window_id, end_ns = self._window(now_ns)
        tokens = self._numbers(400, 1 << int(self._random.integers(4, 32)))
        parents = [[], self._random.integers(-(1 << 31), 1 << 31, len(tokens)).tolist(),
                   [-1] * len(tokens), self._random.integers(-1, 5, len(tokens)).tolist()][self._random.integers(0, 4)]
        message = DraftMsg(window_id=window_id, revision=int(self._random.integers(0, 1 << 32)), token_ids=tokens,
                           prompt_key=['', 'x' * 4000, 'other'][self._random.integers(0, 3)], tokenizer_key='other',
                           text=['', '\x00\ufffd' * 2000, 'a red car'][self._random.integers(0, 3)], parents=parents,
                           base_length=int(self._random.integers(0, 1 << 32)), base_hash=(1 << 64) - 1,
                           weights=self._numbers(400, 1 << 32), source=['', 'event_drafter', 'x' * 300][window_id % 3],
                           events_used=(1 << 64) - 1, compute_ms=float('nan'))
        message.header.stamp = to_time(end_ns)
        return message

    def _verdict(self, now_ns: int) -> VerdictMsg:
        window_id, end_ns = self._window(now_ns)
        message = VerdictMsg(window_id=window_id, committed=self._numbers(300, 1 << 32), committed_hash=7,
                             target_passes=(1 << 32) - 1, final=bool(self._random.integers(0, 2)),
                             sources=['', 'x' * 500], drafted=self._numbers(5, 1 << 32),
                             accepted=self._numbers(9, 1 << 32), refused_causes=['none'], refused=[1, 2, 3])
        message.header.stamp = to_time(end_ns)
        return message

    def _prompt(self, now_ns: int) -> String:
        return String(data=['', ' ', '\x00', '<image>' * 50, 'why? ' * 5000, '\U0001f697' * 300,
                            '<|im_end|>\n'][self._random.integers(0, 7)])


@contextmanager
def open_stage(*, domain_id: int, namespace: str, name: str = 'stage') -> Iterator[Node]:
    """A node for stand-ins in a context of its own, spun in a thread of its own until the block ends."""
    context, ended = rclpy.Context(), threading.Event()
    with starting():
        rclpy.init(context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
    node = Node(name, context=context, namespace=namespace, enable_rosout=False, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, name=name, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        ended.set()
        thread.join(5.0)
        executor.shutdown(1)
        node.destroy_node()
        rclpy.shutdown(context=context)
