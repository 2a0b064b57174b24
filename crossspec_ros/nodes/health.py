"""What went wrong in a node and how often: counts by cause, silent topics, QoS; on /diagnostics each second."""
from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind

from crossspec_ros.nodes import qos

HARDWARE_ID = 'crossspec'
_THROTTLE_S = 5.0
_S = 1_000_000_000
_AGAIN_S = 30
_UNNAMED, _NAMED_TICKS = '_NODE_NAME_UNKNOWN_', 5               # rcl's word, and how long a name is waited for
_MOST_LOST = 1 << 24                                            # a change above it is no count: Fast DDS wraps around


@dataclass
class _Watch:
    """A topic that should not be silent, on the steady clock."""

    topic: str
    type_name: str
    silence_s: float
    last_ns: int
    received: int = 0
    warned_ns: int | None = None

    def silent_s(self, now_ns: int) -> float:
        return (now_ns - self.last_ns) / _S


class Source(Protocol):
    """A part of a node that has its own counts and warnings."""

    def tick(self) -> dict[str, str]:
        """Called each second; warnings that hold now, by a name that stays while they do."""
        ...

    def statistics(self) -> Mapping[str, object]:
        """Counts by cause."""
        ...


class Health:
    """Counts of a node by cause; publishes them, and warns when a topic is silent, naming what its publishers offer.

    `count`, `drop`, `error` and `note` may be called from any thread; all else belongs to the executor's.
    """

    def __init__(self, node: Node, statistics: Callable[[], Mapping[str, object]] = dict) -> None:
        self.counts: Counter[str] = Counter()
        self._node, self._statistics = node, statistics
        self._lock = threading.Lock()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)      # silence is silence, also when /clock stands still
        self._watches: dict[str, _Watch] = {}
        self._warned_ns: dict[str, int] = {}
        self._sources: list[Source] = []
        self._told_ns: dict[str, int] = {}                          # warnings that hold, and when they were logged last
        self._errors: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._mismatched: dict[str, tuple[str, str, int]] = {}
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', qos.diagnostics())
        self._timer = node.create_timer(1.0, self._tick, clock=self._steady)

    def count(self, cause: str, by: int = 1) -> None:
        """Count something that is no reason to warn."""
        with self._lock:
            self.counts[cause] += by

    def drop(self, cause: str, text: object, by: int = 1) -> None:
        """Count something that was dropped, and say why once a throttle period."""
        with self._lock:
            self.counts[cause] += by
            so_far = self.counts[cause]
        self.say(cause, text, f' ({so_far} so far)')

    def say(self, cause: str, text: object, so_far: str = '') -> None:
        """Log why something was dropped, once a throttle period; it is counted elsewhere."""
        now_ns = self._steady.now().nanoseconds
        with self._lock:
            warn = now_ns - self._warned_ns.get(cause, -10**18) >= _THROTTLE_S * _S
            if warn:
                self._warned_ns[cause] = now_ns
        if warn:
            self._node.get_logger().warning(f'{cause}{so_far}: {text}')

    def add_source(self, source: Source) -> None:
        """A part whose warnings and counts are to be told with the node's."""
        self._sources.append(source)

    def error(self, key: str, text: str) -> None:
        """A lasting error, shown as long as the node lives."""
        with self._lock:
            told, self._errors[key] = self._errors.get(key), text
        if told != text:
            self._node.get_logger().error(text)

    def mended(self, key: str) -> None:
        """An error of this key does not hold any more."""
        with self._lock:
            self._errors.pop(key, None)

    def note(self, key: str, text: str) -> None:
        """Something worth knowing that stops nothing: logged when it is new, shown as long as the node lives."""
        with self._lock:
            told, self._notes[key] = self._notes.get(key), text
        if told != text:
            self._node.get_logger().warning(text)

    def watch(self, topic: str, message_type: type, silence_s: float) -> Callable[[], None]:
        """Warn when nothing comes on a topic for so long; call what is returned for every message."""
        name = f'{message_type.__module__.split(".")[0]}/msg/{message_type.__name__}'
        resolved = self._node.resolve_topic_name(topic)
        watch = self._watches[resolved] = _Watch(resolved, name, silence_s, self._steady.now().nanoseconds)

        def touch() -> None:
            watch.last_ns, watch.received = self._steady.now().nanoseconds, watch.received + 1
            watch.warned_ns = None

        return touch

    def begin_watch(self) -> None:
        """Count silence from now on: until here nobody would have listened."""
        for watch in self._watches.values():
            watch.last_ns = self._steady.now().nanoseconds

    def subscription_events(self, topic: str) -> SubscriptionEventCallbacks:
        """Counts of what the middleware tells about a subscription."""
        return SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._incompatible(topic, 'a publisher', event),
            deadline=lambda event: self.count(f'{topic}_deadline_missed', event.total_count_change),
            message_lost=lambda event: self._lost(topic, event.total_count_change))

    def _lost(self, topic: str, change: int) -> None:
        if 0 < change < _MOST_LOST:
            self.count(f'{topic}_lost', change)
        else:
            self.count(f'{topic}_lost_unknown')                 # some were: how many is not known

    def publisher_events(self, topic: str) -> PublisherEventCallbacks:
        """Counts of what the middleware tells about a publisher."""
        return PublisherEventCallbacks(
            incompatible_qos=lambda event: self._incompatible(topic, 'a subscriber', event),
            deadline=lambda event: self.count(f'{topic}_deadline_offered_missed', event.total_count_change))

    def _incompatible(self, topic: str, who: str, event: object) -> None:
        self.count(f'{topic}_incompatible_qos', event.total_count_change)
        # Whose it is becomes known a moment later: `_tick` warns.
        self._mismatched[topic] = who, qos_policy_name_from_kind(event.last_policy_kind), _NAMED_TICKS

    def _warn_of_mismatch(self, topic: str, who: str, policy: str) -> None:
        name = self._node.resolve_topic_name(topic)
        self._node.get_logger().warning(
            f'{who} of {name} has another {policy}: no messages pass between it and this node; {self._offers(name)}; '
            f'change one side, here by the parameters qos_overrides.{name}.*')

    def _unnamed(self, topic: str) -> bool:
        """Whether somebody's node on a topic is not known yet: it is found after its publisher."""
        infos = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        return any(info.node_name == _UNNAMED for info in infos)

    def _offers(self, topic: str) -> str:
        """What the publishers of a topic offer."""
        infos = self._node.get_publishers_info_by_topic(topic)
        if not infos:
            return 'it has no publisher'
        return 'its publishers: ' + '; '.join(
            f'{info.node_name} ({info.topic_type}, {qos.describe(info.qos_profile)})' for info in infos)

    def _warn_of_silence(self, watch: _Watch, now_ns: int) -> str:
        text = f'no {watch.type_name} on {watch.topic} for {watch.silent_s(now_ns):.0f} s; {self._offers(watch.topic)}'
        if watch.warned_ns is None or now_ns - watch.warned_ns >= _AGAIN_S * _S:
            watch.warned_ns = now_ns
            hint = 'check the topic name, ROS_DOMAIN_ID and the QoS' if not watch.received else 'its source has stopped'
            self._node.get_logger().warning(f'{text}; {hint}')
        return text

    def _tick(self) -> None:
        now_ns = self._steady.now().nanoseconds
        mismatched, self._mismatched = self._mismatched, {}
        for topic, (who, policy, patience) in mismatched.items():
            if patience and self._unnamed(topic):
                self._mismatched.setdefault(topic, (who, policy, patience - 1))
            else:
                self._warn_of_mismatch(topic, who, policy)
        silences = [self._warn_of_silence(watch, now_ns) for watch in self._watches.values()
                    if watch.silent_s(now_ns) > watch.silence_s]
        self.publish([*silences, *self._warn_of_sources(now_ns)])

    def _warn_of_sources(self, now_ns: int) -> list[str]:
        """What the node's parts warn of; logged when it begins, and now and then while it lasts."""
        held: dict[str, str] = {}
        for source in self._sources:
            held |= source.tick()
        self._told_ns = {name: told_ns for name, told_ns in self._told_ns.items() if name in held}
        for name, text in held.items():
            if now_ns - self._told_ns.get(name, -10**18) >= _AGAIN_S * _S:
                self._told_ns[name] = now_ns
                self._node.get_logger().warning(text)
        return list(held.values())

    def publish(self, warnings: list[str] | None = None) -> None:
        """Publish the node's status now."""
        with self._lock:
            errors, values = list(self._errors.values()), {**self.counts, **self._notes}
        level = DiagnosticStatus.ERROR if errors else DiagnosticStatus.WARN if warnings else DiagnosticStatus.OK
        message = '; '.join([*errors, *(warnings or [])]) or 'ok'
        values |= self._statistics()
        for source in self._sources:
            values |= source.statistics()
        values |= {f'received {watch.topic}': watch.received for watch in self._watches.values()}
        status = DiagnosticStatus(level=level, name=self._node.get_fully_qualified_name(), message=message,
                                  hardware_id=HARDWARE_ID,
                                  values=[KeyValue(key=str(key), value=str(value)) for key, value in values.items()])
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
