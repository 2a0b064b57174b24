"""A listener inside a program of its own, such as ``crossspec demo``: what the topics say, as the core's values."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from crossspec_ros.action import Ask
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import FrameLatency
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.msg import WindowLatency
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import (caption_from, diagnostic_from, draft_from, latency_from, to_ns,
                                             verdict_from)
from crossspec_ros.nodes.frame_latency import frame_latency_from
from crossspec_ros.nodes.inquiry import Inquiry
from crossspec_ros.nodes.process import starting
from crossspec_ros.srv import SetPrompt
from crossspec_ros.view.record import Recorder, WindowRecord

Listener = Callable[[str, WindowRecord], None]


@dataclass
class _Asked:
    """A question to a lifecycle node that may be under way, and the newest answer."""

    inquiry: Inquiry
    label: str | None = None


class Tap:
    """Fills a `Recorder` from the topics in its node's namespace. Everything happens inside `poll` and `call`."""

    def __init__(self, node: Node, record: Recorder, listener: Listener | None = None) -> None:
        self._node, self._record, self._listener = node, record, listener
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._states: dict[str, _Asked] = {}
        self.malformed = 0
        node.create_subscription(DraftMsg, 'draft', self._on_draft, qos.draft())
        node.create_subscription(CaptionMsg, 'caption', self._on_caption, qos.caption())
        node.create_subscription(VerdictMsg, 'verdict', self._on_verdict, qos.verdict())
        node.create_subscription(WindowLatency, 'latency', self._on_latency, qos.latency())
        node.create_subscription(FrameLatency, 'frame_latency', self._on_frame_latency, qos.frame_latency())
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.diagnostics())

    def close(self) -> None:
        self._executor.shutdown(0)

    # ---- what is heard

    def _age_ms(self, stamp_ns: int) -> float:
        return (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e6

    def _tell(self, what: str, window: WindowRecord) -> None:
        if self._listener is not None:
            self._listener(what, window)

    def _on_draft(self, message: DraftMsg) -> None:
        draft = draft_from(message)
        self._tell('draft', self._record.add_draft(draft, self._age_ms(draft.window_end_ns), time.perf_counter_ns()))

    def _on_caption(self, message: CaptionMsg) -> None:
        try:
            caption = caption_from(message)
        except CrossSpecError:
            self.malformed += 1
            return
        self._tell('caption', self._record.add_caption(caption, self._age_ms(caption.window_end_ns)))

    def _on_verdict(self, message: VerdictMsg) -> None:
        self._record.add_verdict(verdict_from(message))

    def _on_latency(self, message: WindowLatency) -> None:
        self._record.add_latency(latency_from(message), to_ns(message.header.stamp))

    def _on_frame_latency(self, message: FrameLatency) -> None:
        self._record.add_input(frame_latency_from(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._record.add_diagnostic(status.name, diagnostic_from(status))

    # ---- what is asked

    def poll(self, seconds: float) -> None:
        """Take in what arrives within so many seconds."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def now_ns(self) -> int:
        """The graph's clock, ns."""
        return self._node.get_clock().now().nanoseconds

    def service_is_there(self, service: str) -> bool:
        """Whether a node that offers this service is known here."""
        wanted = self._node.resolve_service_name(service)
        return any(name == wanted for name, _ in self._node.get_service_names_and_types())

    def lifecycle_state(self, node_name: str) -> str | None:
        """State of a lifecycle node as far as it has told; asks again in the background, None before the first answer.

        A node that loads a model in a transition answers when it has done so: the question waits with it.
        """
        asked = self._states.get(node_name)
        if asked is None:
            client = self._node.create_client(GetState, f'{node_name}/get_state')
            asked = self._states[node_name] = _Asked(Inquiry(client, GetState.Request()))
        if (reply := asked.inquiry.poll()) is not None:
            asked.label = reply.current_state.label
        return asked.label

    def call(self, service: str, timeout_s: float) -> tuple[bool, str] | None:
        """Call a std_srvs/Trigger, again where no answer comes: (success, message), or None when none came in time."""
        reply = self._ask(Trigger, service, Trigger.Request(), timeout_s)
        return None if reply is None else (reply.success, reply.message)

    def set_prompt(self, service: str, prompt: str, timeout_s: float) -> tuple[bool, str] | None:
        """Ask a node another question from now on: (success, message), or None when there was no answer in time."""
        reply = self._ask(SetPrompt, service, SetPrompt.Request(prompt=prompt), timeout_s)
        return None if reply is None else (reply.success, reply.message)

    def ask(self, action: str, question: str, timeout_s: float) -> str:
        """Ask about the frames of now: answered, failed, rejected or silent (no answer in time)."""
        client, until = ActionClient(self._node, Ask, action), time.monotonic() + timeout_s
        try:
            while not client.server_is_ready():
                if time.monotonic() >= until:
                    return 'silent'
                self.poll(0.02)
            goal = self._await(client.send_goal_async(Ask.Goal(question=question)), until)
            if goal is None or not goal.accepted:
                return 'silent' if goal is None else 'rejected'
            reply = self._await(goal.get_result_async(), until)
            return 'silent' if reply is None else 'answered' if reply.result.success else 'failed'
        finally:
            client.destroy()

    def _await(self, future: Future, until: float) -> Any:
        while not future.done() and time.monotonic() < until:
            self._executor.spin_once(timeout_sec=min(0.05, max(0.0, until - time.monotonic())))
        return future.result() if future.done() else None

    def _ask(self, kind: type, service: str, request: Any, timeout_s: float) -> Any:
        client = self._node.create_client(kind, service)
        inquiry, until = Inquiry(client, request), time.monotonic() + timeout_s
        try:
            while (reply := inquiry.poll()) is None and time.monotonic() < until:
                self.poll(0.02)
            return reply
        finally:
            self._node.destroy_client(client)


@contextmanager
def open_tap(record: Recorder, listener: Listener | None = None, *, domain_id: int, namespace: str = '',
             use_sim_time: bool = False) -> Iterator[Tap]:
    """A tap in a context of its own; SIGINT stays with the program. Transport settings come from the environment."""
    context = rclpy.Context()
    with starting():
        rclpy.init(context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node('tap', context=context, namespace=namespace, enable_rosout=False, start_parameter_services=False,
                    parameter_overrides=[Parameter('use_sim_time', value=use_sim_time)])
        tap = Tap(node, record, listener)
        try:
            yield tap
        finally:
            tap.close()
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
