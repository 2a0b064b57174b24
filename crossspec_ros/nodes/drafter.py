"""The drafter node: events in, speculative captions out, revised while events keep coming. It needs no image."""
from __future__ import annotations

from collections.abc import Sequence

from event_camera_msgs.msg import EventPacket
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from crossspec_ros.config import DEFAULT_PROMPT, DrafterConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.conversions import draft_to, packet_from, verdict_from
from crossspec_ros.nodes.health import Health
from crossspec_ros.pipeline.building import build_drafting
from crossspec_ros.pipeline.drafting import DraftingPipeline, DraftJob
from crossspec_ros.pipeline.packet_queue import PacketQueue
from crossspec_ros.speculation.types import prompt_key
from crossspec_ros.srv import SetPrompt


class DrafterNode(LifecycleNode):
    """Loads its model on configure and frees it on cleanup; decodes and drafts in a thread of its own."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__('drafter', **kwargs)
        self._config: DrafterConfig = parameters.declare(self, DrafterConfig)
        parameters.follow_changes(self, self._config, self._reconfigure)
        self._grid = self._config.grid()
        self._prompt = self._config.prompt or DEFAULT_PROMPT
        self._enabled = self._config.enabled
        self._core: DraftingPipeline | None = None
        self._worker: process.Worker | None = None
        self._packets = PacketQueue(self._config.queue_mb << 20)
        self._reset_wanted = False
        self._verdict: VerdictMsg | None = None                 # the newest, not yet looked at
        self._frame_id = ''
        self._health = Health(self, self._statistics)
        self._communicate()
        self._jump = process.on_time_jump(self, self._want_reset)

    def _communicate(self) -> None:
        options = {'qos_overriding_options': qos.overridable()}
        self._publisher = self.create_lifecycle_publisher(
            DraftMsg, 'draft', qos.draft(self._config.deadline_ms), event_callbacks=self._health.publisher_events('draft'),
            **options)
        self.create_subscription(EventPacket, 'events', self._on_packet, qos.events(),
                                 event_callbacks=self._health.subscription_events('events'), **options)
        self.create_subscription(VerdictMsg, 'verdict', self._on_verdict, qos.verdict(),
                                 event_callbacks=self._health.subscription_events('verdict'), **options)
        self.create_subscription(String, 'prompt', lambda message: self._set_prompt(message.data), qos.prompt())
        self._touch = self._health.watch('events', EventPacket, self._config.silence_s)
        self.create_service(SetPrompt, '~/set_prompt', self._on_set_prompt)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_service(Trigger, '~/reset', self._on_reset)

    # ---- lifecycle

    def start(self) -> bool:
        """Configure and activate where that was asked for."""
        return not self._config.autostart or process.autostart(self)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model."""
        config = self._config
        try:
            self._core = build_drafting(config, self._prompt)
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it and say nothing
            process.report_failure(self, 'cannot load the drafter', error)
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f'loaded the drafter {config.model} on {config.device}')
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to draft."""
        result = super().on_activate(state)
        self._packets.clear()
        self._core.reset()
        self._health.begin_watch()
        self._worker = process.Worker('drafting', self._step, self._failed, idle_s=0.004)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop drafting; the model stays."""
        self._stop_worker()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._core = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._stop_worker()
        self._core = None
        return super().on_shutdown(state)

    def close(self) -> None:
        """End the thread; the process ends."""
        self._stop_worker()

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    # ---- callbacks: no more than queueing

    def _on_packet(self, message: EventPacket) -> None:
        self._touch()
        if self._worker is None or not self._enabled:
            return
        self._frame_id = message.header.frame_id
        dropped = self._packets.push(packet_from(message))
        if dropped:
            self._health.drop('packets_overflow', 'packets come faster than they are decoded; the oldest go', dropped)
        self._worker.wake()

    def _on_verdict(self, message: VerdictMsg) -> None:
        self._verdict = message
        if self._worker is not None:
            self._worker.wake()

    def _want_reset(self) -> None:
        self._reset_wanted = True
        if self._worker is not None:
            self._worker.wake()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if not self._enabled:
            self._want_reset()
        response.success, response.message = True, 'drafting' if self._enabled else 'silent'
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._want_reset()
        response.success, response.message = True, 'events and drafts forgotten'
        return response

    def _on_set_prompt(self, request: SetPrompt.Request, response: SetPrompt.Response) -> SetPrompt.Response:
        response.success, response.message = self._set_prompt(request.prompt)
        return response

    def _set_prompt(self, prompt: str) -> tuple[bool, str]:
        if not prompt.strip():
            return False, 'prompt must not be empty'
        self._prompt = prompt
        if self._core is not None:
            self._core.prompt = prompt
        return True, prompt_key(prompt)

    def _reconfigure(self, config: DrafterConfig) -> None:
        self._config = config
        if self._core is not None:
            self._core.max_tokens, self._core.redrafts = config.max_tokens, config.redrafts

    # ---- the drafting thread

    def _step(self) -> bool:
        """Decode what came, then draft what is due; True where there may be more."""
        if self._reset_wanted:
            self._reset_wanted = False
            self._packets.clear()
            self._core.reset()
        self._decode()
        jobs = self._core.due(self.get_clock().now().nanoseconds) if self._enabled else []
        for job in jobs:
            self._draft(job)
        if jobs:
            return True
        message, self._verdict = self._verdict, None
        job = self._core.on_verdict(verdict_from(message)) if message is not None and self._enabled else None
        if job is not None:
            self._draft(job)
        return job is not None or len(self._packets) > 0

    def _decode(self) -> None:
        while not self._reset_wanted and (packet := self._packets.pop()) is not None:
            try:
                self._core.add_packet(packet)
            except CrossSpecError as error:
                self._health.drop('packet_refused', error)

    def _draft(self, job: DraftJob) -> None:
        draft = self._core.draft(job, should_stop=lambda: self._pointless(job))
        if draft is not None and self._worker is not None and not self._worker.stopping:
            self._publisher.publish(draft_to(draft, self._frame_id))

    def _pointless(self, job: DraftJob) -> bool:
        """Whether a newer verdict, a reset or the end has overtaken a draft that is being made."""
        if self._reset_wanted or self._worker is None or self._worker.stopping:
            return True
        newer = self._verdict
        return bool(job.committed) and newer is not None and newer.window_id == job.window_id and (
            newer.final or len(newer.committed) > len(job.committed))

    def _failed(self, error: Exception) -> None:
        self._health.drop('draft_failed', f'{type(error).__name__}: {error}')

    def _statistics(self) -> dict[str, object]:
        values = {'enabled': self._enabled, 'active': self._worker is not None}
        return values | (self._core.statistics() if self._core is not None else {})


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    return process.run(DrafterNode, args)


if __name__ == '__main__':
    process.leave(main())
