"""The monitor node: ages, deadlines and acceptance by window, on topics, in a CSV file and in a report."""
from __future__ import annotations

import dataclasses
import json
import math
from array import array
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from std_srvs.srv import Trigger

from crossspec_ros.config import MonitorConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import FrameLatency
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.msg import WindowLatency as WindowLatencyMsg
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.conversions import caption_from, draft_from, to_time, verdict_from
from crossspec_ros.nodes.frame_latency import frame_latency_from
from crossspec_ros.nodes.health import HARDWARE_ID, Health
from crossspec_ros.pipeline.latency import LatencyBook, LatencyCsv, WindowLatency
from crossspec_ros.speculation.types import Stage
from crossspec_ros.tracing.tracer import TRACER
from crossspec_ros.view.record import CameraInput

_STAGES = {stage.value: stage.name for stage in Stage}


class MonitorNode(Node):
    """Measures ages by the publication times that the middleware carries; under use_sim_time by /clock at arrival."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__('monitor', **kwargs)
        self._config: MonitorConfig = parameters.declare(self, MonitorConfig)
        parameters.follow_changes(self, self._config, self._reconfigure)
        process.trace(self, self._config.trace)
        config = self._config
        self._book = LatencyBook(config.max_draft_age_ms, config.max_caption_age_ms, config.statistics_windows,
                                 config.close_after_ms)
        self._csv = LatencyCsv(config.csv_path) if config.csv_path else None
        if config.report_path and not Path(config.report_path).parent.is_dir():
            raise CrossSpecError(f'report_path must be in a folder that exists, got {config.report_path}')
        self._sim_time = self.get_parameter('use_sim_time').value
        self._nodes: dict[str, dict[str, str]] = {}             # the newest diagnostics of the graph's nodes
        self._inputs: dict[str, CameraInput] = {}               # the newest that nodes told of their cameras
        self._missed: Counter[str] = Counter()                  # QoS deadlines by topic
        self._health = Health(self, self._statistics)
        self._communicate()
        self.create_timer(0.5, self._close_due)
        self.create_service(Trigger, '~/report', self._on_report)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self._jump = process.on_time_jump(self, self._book.reset)

    def _communicate(self) -> None:
        options = {'qos_overriding_options': qos.overridable()}
        config = self._config
        self._publisher = self.create_publisher(WindowLatencyMsg, 'latency', qos.latency(), **options)
        # A deadline larger than the publishers' offer matches; one below it would be silently incompatible.
        self.create_subscription(DraftMsg, 'draft', self._on_draft, qos.draft(config.draft_deadline_ms),
                                 event_callbacks=self._events('draft'), **options)
        self.create_subscription(CaptionMsg, 'caption', self._on_caption, qos.caption(config.caption_deadline_ms),
                                 event_callbacks=self._events('caption'), **options)
        self.create_subscription(VerdictMsg, 'verdict', self._on_verdict, qos.verdict(), **options)
        self.create_subscription(FrameLatency, 'frame_latency', self._on_frame_latency, qos.frame_latency())
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.diagnostics())

    def _events(self, topic: str) -> SubscriptionEventCallbacks:
        callbacks = self._health.subscription_events(topic)

        def missed(event: object) -> None:
            self._missed[topic] += event.total_count_change

        callbacks.deadline = missed
        return callbacks

    def _age_ms(self, window_end_ns: int, info: dict[str, int]) -> float:
        published_ns = info.get('source_timestamp', 0)
        if self._sim_time or not published_ns:
            published_ns = self.get_clock().now().nanoseconds
        return (published_ns - window_end_ns) / 1e6

    def _on_draft(self, message: DraftMsg, info: dict[str, int]) -> None:
        with self._telling('draft arrives', message.window_id, info, revision=message.revision):
            draft = draft_from(message)
            self._book.add_draft(draft, self._age_ms(draft.window_end_ns, info))

    @staticmethod
    def _telling(name: str, window_id: int, info: dict[str, int], **more: object) -> AbstractContextManager:
        """Around a callback: a slice of the trace with where the message was before."""
        if not TRACER.on:
            return TRACER.span(name)
        return TRACER.span(name, window=window_id, since_sent_ms=process.since_ms(info.get('source_timestamp')),
                           since_received_ms=process.since_ms(info.get('received_timestamp')), **more)

    def _on_caption(self, message: CaptionMsg, info: dict[str, int]) -> None:
        with self._telling('caption arrives', message.window_id, info, stage=_STAGES.get(message.stage, 'unknown')):
            self._take_caption(message, info)

    def _take_caption(self, message: CaptionMsg, info: dict[str, int]) -> None:
        try:
            caption = caption_from(message)
        except CrossSpecError as error:
            self._health.drop('caption_refused', error)
            return
        closed = self._book.add_caption(caption, self._age_ms(caption.window_end_ns, info))
        if closed is not None:
            self._publish(closed)

    def _on_verdict(self, message: VerdictMsg) -> None:
        self._book.add_verdict(verdict_from(message))

    def _on_frame_latency(self, message: FrameLatency) -> None:
        camera = frame_latency_from(message)
        self._inputs[camera.key] = camera

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = self.get_fully_qualified_name()
        for status in message.status:
            if status.hardware_id == HARDWARE_ID and status.name != own:
                self._nodes[status.name] = {pair.key: pair.value for pair in status.values}

    def _close_due(self) -> None:
        for window in self._book.close_due(self.get_clock().now().nanoseconds):
            self._publish(window)

    def _publish(self, window: WindowLatency) -> None:
        self._write(window)
        message = WindowLatencyMsg(
            window_id=window.window_id, first_draft_age_ms=window.first_draft_age_ms, draft_age_ms=window.draft_age_ms,
            first_partial_age_ms=window.first_partial_age_ms, caption_age_ms=window.caption_age_ms,
            draft_compute_ms=window.draft_compute_ms, stage_names=list(window.stage_ms),
            stage_ms=array('f', window.stage_ms.values()), target_passes=window.target_passes, drafted=window.drafted,
            accepted=window.accepted, mode=window.mode, draft_over_budget=bool(window.draft_over_budget),
            caption_over_budget=bool(window.caption_over_budget), draft_deadline_misses=self._missed['draft'],
            caption_deadline_misses=self._missed['caption'])
        message.header.stamp = to_time(window.window_end_ns)
        for name in ('draft', 'caption'):
            for quantile, value in self._book.percentiles(name).items():
                setattr(message, f'{name}_age_{quantile}_ms', math.nan if value is None else value)
        self._publisher.publish(message)

    def _write(self, window: WindowLatency) -> None:
        if self._csv is None:
            return
        try:
            self._csv.write(window)
        except CrossSpecError as error:
            self._health.drop('csv_not_written', error)

    def _on_report(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, json.dumps(self._report())
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._book.reset()
        response.success, response.message = True, 'open windows and statistics forgotten'
        return response

    def _report(self) -> dict[str, object]:
        inputs = {key: dataclasses.asdict(camera) for key, camera in sorted(self._inputs.items())}
        return self._book.summary() | {'deadline_misses': dict(self._missed), 'inputs': inputs, 'nodes': self._nodes}

    def _reconfigure(self, config: MonitorConfig) -> None:
        self._book.max_draft_age_ms, self._book.max_caption_age_ms = config.max_draft_age_ms, config.max_caption_age_ms

    def _statistics(self) -> dict[str, object]:
        ages = {f'{name}_age_{quantile}_ms': 'none' if value is None else f'{value:.1f}'
                for name in ('draft', 'caption')
                for quantile, value in self._book.percentiles(name).items()}
        misses = {f'{topic}_deadline_misses': count for topic, count in self._missed.items()}
        cameras = {f'{camera.key} {stage}_{quantile}_ms': f'{ages[quantile]:.1f}' for camera in self._inputs.values()
                   for stage, ages in camera.stage_ms.items() for quantile in ('p50', 'p95', 'p99')}
        acceptance = {key: str(value) for key, value in self._book.acceptance().items()}
        return {**self._book.counts, **ages, **misses, **cameras, **acceptance}

    def close(self) -> None:
        """Close open windows, the CSV file and the report; the process ends."""
        for window in self._book.close_all():
            self._write(window)
        if self._csv is not None:
            self._csv.close()
        if self._config.report_path:
            try:
                Path(self._config.report_path).write_text(json.dumps(self._report(), indent=1) + '\n', encoding='utf-8')
            except OSError as error:
                self.get_logger().error(f'report_path must be writable, got {error}; make room on its disk')


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    return process.run(MonitorNode, args)


if __name__ == '__main__':
    process.leave(main())
