"""The keeper node: a ring of the last seconds of the graph, written as a bag when something happens."""
from __future__ import annotations

import json
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from event_camera_msgs.msg import EventPacket
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, Imu
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from crossspec_ros.config import KeeperConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Caption, Draft, SceneChange, Verdict, WindowLatency
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.health import Health
from crossspec_ros.recordings import ring as rings
from crossspec_ros.recordings.bag import BagWriter
from crossspec_ros.recordings.bag_edit import finish, partial_path
from crossspec_ros.recordings.caption_rules import RuleBook
from crossspec_ros.recordings.ring import Kept, Moment, Ring

_S = 1_000_000_000
_MB = 1_000_000
_TOPICS: tuple[tuple[str, type, Callable[[], QoSProfile]], ...] = (
    ('events', EventPacket, qos.events), ('image', Image, qos.kept_image),
    ('image/compressed', CompressedImage, qos.kept_image), ('draft', Draft, qos.draft),
    ('caption', Caption, qos.caption), ('verdict', Verdict, qos.verdict),
    ('scene_change', SceneChange, qos.scene_change), ('latency', WindowLatency, qos.latency),
    ('prompt', String, qos.prompt), ('/diagnostics', DiagnosticArray, qos.diagnostics))


def _type_name(kind: type) -> str:
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'


class KeeperNode(Node):
    """Messages stay serialised: a ring costs their copy and no more. A thread of its own writes the bags."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__('keeper', **kwargs)
        self._config: KeeperConfig = parameters.declare(self, KeeperConfig)
        process.trace(self, self._config.trace)
        config = self._config
        self._folder = Path(config.folder).expanduser()
        self._rules = RuleBook(config.rules)
        self._ring = Ring(config.seconds, config.ring_mb * _MB)
        self._open: Moment | None = None
        self._due: deque[Moment] = deque()
        self._lock = threading.Lock()
        self._braking = False
        self._health = Health(self, self._statistics)
        self._moment_topic = self.resolve_topic_name('~/moment')
        self._published = self.create_publisher(String, '~/moment', qos.latency())
        self._communicate()
        self._jump = process.on_time_jump(self, self._reset)
        self.create_timer(0.1, self._close_due)
        self._worker = process.Worker('writer', self._step, lambda error: self._failed(error), 1.0)

    def _communicate(self) -> None:
        options = {'qos_overriding_options': qos.overridable()}
        for topic, kind, profile in _TOPICS:
            keep = partial(self._keep, self.resolve_topic_name(topic), _type_name(kind), topic)
            self.create_subscription(kind, topic, keep, profile(), raw=True,
                                     event_callbacks=self._health.subscription_events(topic), **options)
        self.create_subscription(Bool, 'hard_braking', self._on_braking, qos.trigger(), **options)
        if self._config.braking_ms2:
            self.create_subscription(Imu, 'imu', self._on_imu, qos.imu(), **options)
        self.create_service(Trigger, '~/keep', self._on_keep)

    # ---- what comes in

    def _keep(self, topic: str, type_name: str, short: str, cdr: bytes) -> None:
        message = Kept(topic, type_name, self.get_clock().now().nanoseconds, cdr)
        self._ring.add(message)
        if self._open is not None:
            self._open.add(message)
        if short == 'caption' and self._config.rules:
            self._judge(deserialize_message(cdr, Caption))

    def _judge(self, caption: Caption) -> None:
        if caption.stage != Caption.FINAL:
            return
        more = {name: getattr(caption, name) for name in ('mode', 'lossless', 'acceptance_rule', 'exact')}
        for reason in self._rules.judge(caption.text, more):
            self._happened(reason)

    def _on_braking(self, message: Bool) -> None:
        # A topic that says true over and over is one braking.
        if message.data and not self._braking:
            self._happened('hard_braking')
        self._braking = message.data

    def _on_imu(self, message: Imu) -> None:
        hard = message.linear_acceleration.x <= -self._config.braking_ms2
        if hard and not self._braking:
            self._happened('hard_braking')
        self._braking = hard

    def _on_keep(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._happened('service')
        response.message = (f'kept in {self._folder} {self._config.after_s:g} s from now' if response.success
                            else 'nothing has arrived yet that could be kept')
        return response

    # ---- moments

    def _happened(self, reason: str) -> bool:
        now_ns = self.get_clock().now().nanoseconds
        if self._open is not None:
            longest_ns = self._open.at_ns + round(self._config.longest_s * _S)
            self._open.extend(reason, min(now_ns + round(self._config.after_s * _S), longest_ns))
            return True
        if not len(self._ring):
            return False
        self._open = rings.begin(self._ring, reason, now_ns, self._config.after_s)
        self.get_logger().info(f'keeping the last {self._ring.span_s:.1f} s: {reason}')
        return True

    def _close_due(self) -> None:
        if self._open is not None and self.get_clock().now().nanoseconds >= self._open.end_ns:
            self._close_open()

    def _close_open(self) -> None:
        if self._open is None:
            return
        moment, self._open = self._open, None
        with self._lock:
            waiting = len(self._due) >= self._config.waiting
            if not waiting:
                self._due.append(moment)
        if waiting:
            self._health.drop('moments_not_written', f'{self._config.waiting} wait for the disk already')
        self._worker.wake()

    def _step(self) -> bool:
        with self._lock:
            moment = self._due.popleft() if self._due else None
        if moment is None:
            return False
        self._write(moment)
        return True

    def _write(self, moment: Moment) -> None:
        used = sum(path.stat().st_size for path in self._folder.rglob('*') if path.is_file()) \
            if self._folder.is_dir() else 0
        if used + moment.size > self._config.disk_mb * _MB:
            self._health.drop('moments_not_written', f'{self._folder} holds {used / _MB:.0f} MB of keep.disk_mb '
                              f'{self._config.disk_mb}; remove some of its bags')
            return
        out = self._name(moment)
        out.parent.mkdir(parents=True, exist_ok=True)
        segment = partial_path(out) / 'segment'
        try:
            with BagWriter(segment) as writer:
                counts = rings.write(moment, writer)
                told = {'reasons': moment.reasons, 'at_ns': moment.at_ns, 'left_out': moment.left_out,
                        'messages': counts}
                text = writer.make('std_msgs/msg/String', data=json.dumps(told))
                writer.write(self._moment_topic, 'std_msgs/msg/String', moment.at_ns, text)
            finish([segment], out)
        except (OSError, CrossSpecError) as error:
            shutil.rmtree(partial_path(out), ignore_errors=True)
            self._health.drop('moments_not_written', f'{out}: {error}')
            return
        if moment.left_out:
            self._health.drop('messages_left_out', f'{out}: keep.ring_mb is {self._config.ring_mb}', moment.left_out)
        self._health.count('moments_written')
        if rclpy.ok(context=self.context):                      # not while the process ends
            self._published.publish(String(data=json.dumps({**told, 'bag': str(out)})))
        self.get_logger().info(f'{out}: {sum(counts.values())} messages')

    def _name(self, moment: Moment) -> Path:
        at = datetime.fromtimestamp(moment.at_ns / _S).strftime('%Y%m%d_%H%M%S_%f')[:-3]
        word = ''.join(c if c.isalnum() else '_' for c in moment.reasons[0])[:40]
        name, number = f'moment_{at}_{word}', 1
        while (self._folder / name).exists():
            number += 1
            name = f'moment_{at}_{word}_{number}'
        return self._folder / name

    def _failed(self, error: Exception) -> None:
        self._health.drop('moments_not_written', error)
        process.report_failure(self, 'a moment', error)

    # ---- state

    def _reset(self) -> None:
        """Time has jumped: the open moment ends here, and what was held belongs to another time."""
        self._close_open()
        self._ring.clear()
        self._rules.forget()

    def _statistics(self) -> dict[str, object]:
        # What was pushed out before its time is the ring's bound, not a loss of the graph; said all the same.
        return {'ring_messages': len(self._ring), 'ring_s': f'{self._ring.span_s:.1f}',
                'ring_mb': f'{self._ring.size / _MB:.1f}', 'ring_pushed_out': self._ring.pushed_out,
                'moment_open': self._open is not None}

    def close(self) -> None:
        """Write what was asked for, then end."""
        self._close_open()
        self._worker.stop()
        while self._step():
            pass


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    return process.run(KeeperNode, args)


if __name__ == '__main__':
    process.leave(main())
