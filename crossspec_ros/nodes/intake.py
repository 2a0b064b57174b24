"""One camera's way into a node: its subscription, the account of its messages, their stamps, latency and deadlines.

Deadlines: where all publishers of the topic offer one, the subscription is made again with the longest of them, for a
reader must not ask for more than is offered. Else gaps are counted by a clock of the node's own.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from crossspec_ros.msg import FrameLatency
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import to_ns
from crossspec_ros.nodes.frame_latency import frame_latency_to
from crossspec_ros.nodes.health import Health
from crossspec_ros.nodes.process import since_ms
from crossspec_ros.pipeline import advice
from crossspec_ros.pipeline.account import Account, Lasting, Sequences
from crossspec_ros.pipeline.advice import Facts
from crossspec_ros.pipeline.frame_latency import AgeBook
from crossspec_ros.timing.arrivals import StampJudge, offset_in_words
from crossspec_ros.timing.deadline import DeadlineKeeper
from crossspec_ros.tracing.tracer import TRACER

_S, _MS = 1_000_000_000, 1_000_000
_OLDEST_NS = 600 * _S                                           # no message waits longer in a reader
_HANDOVER_TICKS = 5                                             # seconds that two subscriptions may overlap


@dataclass(frozen=True)
class InputSpec:
    """What an input is: ``name`` events or image, ``kind`` of its account, topic and type, and its parameters."""

    name: str
    kind: str
    topic: str
    message_type: type
    profile: QoSProfile
    stamps: str
    gap_ms: float
    silence_s: float
    grace_max_ms: float
    interval_ms: float


class Intake:
    """Receives the messages of an input and gives them to ``callback``, each once. All but `account` and `ages` is for
    the executor's thread.
    """

    def __init__(self, node: Node, health: Health, spec: InputSpec, callback: Callable[[Any], None],
                 options: Mapping[str, Any]) -> None:
        self.account, self.ages = Account(), AgeBook()
        self.switched: Callable[[], None] = lambda: None        # called where arrival begins to stand for stamps
        self.latency_ns: Callable[[], int | None] = lambda: self._judge.offset_ns
        self._node, self._health, self._spec, self._callback = node, health, spec, callback
        self._judge = StampJudge(spec.stamps)
        self._sequences, self._lasting = Sequences(), Lasting()
        self._keeper = DeadlineKeeper(round(spec.gap_ms * _MS))
        self._deadlines_missed = 0
        self._frame_id = ''
        self._received_ns = 0
        self._system_time = not node.get_parameter('use_sim_time').value
        self._subscription = self._subscribe(spec.profile, options)
        self._profile = self._subscription.qos_profile          # with what parameters override
        self._requested_ns = qos.deadline_ns(self._profile)
        self._by_user = self._requested_ns > 0
        self._old: Subscription | None = None
        self._overlap = 0
        self._touch = health.watch(spec.topic, spec.message_type, spec.silence_s)
        self._publisher = node.create_publisher(FrameLatency, 'frame_latency', qos.frame_latency())
        health.add_source(self)

    # ---- messages

    def judge(self, stamp_ns: int, frame_id: str = '') -> int | None:
        """The time that a message which arrives now is taken with, ROS time in ns; None: it is dropped, and counted."""
        self._frame_id = frame_id
        judged = self._judge.judge(stamp_ns, self._arrival_ns(), time.perf_counter_ns())
        if judged.cause is not None:
            self.account.drop(judged.cause)
            self._health.say(f'{self._spec.name}_{judged.cause}', f'a message with the stamp {stamp_ns / _S:.3f} s was '
                             'dropped: zero, or far from those around it')
        if judged.jumped:
            self._health.count(f'{self._spec.name}_stamps_jumped')
        if judged.switched:
            self._health.count(f'{self._spec.name}_stamps_by_arrival')
            self.ages.reset()
            self.switched()
        return judged.stamp_ns

    def reset(self) -> None:
        """Time jumped, or the node begins to work: what was learnt of stamps and intervals no longer holds."""
        self._judge.reset()
        self._keeper.rest()
        self.ages.reset()

    def _arrival_ns(self) -> int:
        """When the message being looked at arrived: by the middleware, which receives while callbacks wait, so that a
        backlog is not taken for another clock; by the clock where that is not the system's.
        """
        now_ns = self.now_ns()
        behind_ns = now_ns - self._received_ns
        return self._received_ns if self._system_time and 0 <= behind_ns < _OLDEST_NS else now_ns

    def now_ns(self) -> int:
        """The ROS clock."""
        return self._node.get_clock().now().nanoseconds

    def _on_message(self, message: Any, info: Mapping[str, Any]) -> None:
        gid = info.get('publisher_gid')
        publisher = bytes(gid['data']) if isinstance(gid, Mapping) else None
        missing = self._sequences.note(publisher, info.get('publication_sequence_number'))
        if missing is None:                                     # by the subscription that takes over
            return
        if missing:
            self.account.lose(missing)
        self._received_ns = info.get('received_timestamp') or 0
        self.account.receive()
        self._touch()
        self._keeper.seen(time.perf_counter_ns(), info.get('source_timestamp'))
        with self._telling(message, info):
            self._callback(message)

    def _telling(self, message: Any, info: Mapping[str, Any]) -> AbstractContextManager:
        """Around the callback: a slice of the trace with where the message was before."""
        name = f'{self._spec.name} arrives'
        if not TRACER.on:
            return TRACER.span(name)
        stamp_ns = to_ns(message.header.stamp)
        return TRACER.span(name, stamp_ns=stamp_ns, since_stamp_ms=(self.now_ns() - stamp_ns) / 1e6,
                           since_sent_ms=since_ms(info.get('source_timestamp')),
                           since_received_ms=since_ms(self._received_ns))

    # ---- the subscription

    def _subscribe(self, profile: QoSProfile, options: Mapping[str, Any] | None = None) -> Subscription:
        spec, told = self._spec, self._health.subscription_events(self._spec.name)
        # No message_lost: Fast DDS gives nonsense after a stall, and the numbers of the messages say it exactly.
        events = SubscriptionEventCallbacks(incompatible_qos=told.incompatible_qos, deadline=self._on_deadline)
        return self._node.create_subscription(spec.message_type, spec.topic, self._on_message, profile,
                                              event_callbacks=events, **(options or {}))

    def _on_deadline(self, event: Any) -> None:
        if 0 < event.total_count_change < 1 << 31:
            self._deadlines_missed += event.total_count_change

    def _follow_offers(self) -> None:
        """Ask for a deadline where all publishers offer one, and for none where one does not."""
        if self._old is not None:
            self._overlap += 1
            if self._subscription.get_publisher_count() and self._overlap > 1 or self._overlap >= _HANDOVER_TICKS:
                self._node.destroy_subscription(self._old)
                self._old = None
            return
        infos = self._node.get_publishers_info_by_topic(self._subscription.topic_name)
        if self._by_user or not infos:
            return
        offers = [qos.deadline_ns(info.qos_profile) for info in infos]
        wanted_ns = max(offers) if all(offers) else 0
        if (wanted_ns == 0) == (self._requested_ns == 0) and wanted_ns <= self._requested_ns:
            return
        self._old, self._overlap, self._requested_ns = self._subscription, 0, wanted_ns
        self._subscription = self._subscribe(qos.with_deadline(self._profile, wanted_ns))
        self._node.get_logger().info(
            f'{self._subscription.topic_name}: deadline of {wanted_ns / 1e6:g} ms requested, as its publishers offer'
            if wanted_ns else f'{self._subscription.topic_name}: no deadline requested, not all publishers offer one')

    # ---- what is told, each second

    def tick(self) -> dict[str, str]:
        """Look at offers and deadlines and publish what was measured; returns warnings by their cause."""
        self._follow_offers()
        self._keeper.check(time.perf_counter_ns())
        balance, spec = self.account.balance(), self._spec
        message = frame_latency_to(self.ages.summary(), balance, self._judge.offset_ns)
        message.node, message.input = self._node.get_fully_qualified_name(), spec.name
        message.topic, message.stamps = self._subscription.topic_name, self._stamps()
        message.header.stamp, message.header.frame_id = self._node.get_clock().now().to_msg(), self._frame_id
        message.deadline_ms, message.deadline_requested = self._deadline_ms(), self._requested_ns > 0
        message.deadlines_missed, message.gaps_missed = self._deadlines_missed, self._gaps_missed()
        self._publisher.publish(message)
        return self._warnings()

    def _stamps(self) -> str:
        return 'arrival' if self._judge.by_arrival else 'header'

    def _deadline_ms(self) -> float:
        return (self._requested_ns or self._keeper.deadline_ns) / 1e6

    def _gaps_missed(self) -> int:
        return 0 if self._requested_ns else self._keeper.missed

    def _warnings(self) -> dict[str, str]:
        balance, spec, latency_ns = self.account.balance(), self._spec, self.latency_ns()
        facts = Facts(spec.kind, None if latency_ns is None else latency_ns / 1e6, spec.grace_max_ms, spec.interval_ms)
        warnings = {}
        if self._judge.fault is not None and spec.stamps != 'arrival':
            text = advice.of_stamps(self._judge.fault, self._judge.offset_ns, self._judge.by_arrival, facts)
            warnings[f'{spec.name} stamps'] = text
        counts = {**balance.dropped, 'lost': balance.lost}
        for cause, (count, seconds) in self._lasting.look(counts, time.monotonic()).items():
            text = advice.of_drops(cause, count, seconds, facts)
            if text is not None:
                warnings[f'{spec.name} {cause}'] = text
        return warnings

    def statistics(self) -> dict[str, object]:
        """Counts and measures for diagnostics."""
        name, offset_ns = self._spec.name, self._judge.offset_ns
        values: dict[str, object] = dict(self.account.balance().entries(self._spec.kind))
        values[f'{name}_stamps'] = self._stamps()
        values[f'{name}_stamps_are'] = 'not known' if offset_ns is None else f'{offset_in_words(offset_ns)} the clock'
        values[f'{name}_deadline_ms'] = f'{self._deadline_ms():.1f}'
        values[f'{name}_deadline_missed'] = self._deadlines_missed
        values[f'{name}_gaps_missed'] = self._gaps_missed()
        return values
