"""The verifier node: images and drafts in, verified captions out. It needs no event and waits for no draft."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from crossspec_ros.config import DEFAULT_PROMPT, VerifierConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.conversions import caption_to, draft_from, frame_from, verdict_to
from crossspec_ros.nodes.health import Health
from crossspec_ros.pipeline.audits import Audit
from crossspec_ros.pipeline.building import build_verifying
from crossspec_ros.pipeline.verifying import VerifyingPipeline, retracted
from crossspec_ros.speculation.types import Caption, Stage, prompt_key
from crossspec_ros.srv import SetPrompt


class VerifierNode(LifecycleNode):
    """Loads its model on configure and frees it on cleanup; one thread of its own owns the engine."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__('verifier', **kwargs)
        self._config: VerifierConfig = parameters.declare(self, VerifierConfig)
        parameters.follow_changes(self, self._config, self._reconfigure)
        self._grid = self._config.grid()
        self._prompt = self._config.prompt or DEFAULT_PROMPT
        self._enabled = self._config.enabled
        self._core: VerifyingPipeline | None = None
        self._engine = None
        self._worker: process.Worker | None = None
        self._audit = Audit(self._config.audit_keep)
        self._audit_running = False
        self._audit_debt = 0.0                                  # grows by audit_rate a window; 1: the next one is kept
        self._shown: Caption | None = None                      # the newest published that still stands
        self._refused: Counter[str] = Counter()                 # drafts, since the last verdict
        self._frame_id = ''
        self._health = Health(self, self._statistics)
        self._communicate()
        self._jump = process.on_time_jump(self, self._want_reset)

    def _communicate(self) -> None:
        options = {'qos_overriding_options': qos.overridable()}
        health = self._health
        self._captions = self.create_lifecycle_publisher(
            CaptionMsg, 'caption', qos.caption(self._config.deadline_ms),
            event_callbacks=health.publisher_events('caption'), **options)
        self._verdicts = self.create_lifecycle_publisher(VerdictMsg, 'verdict', qos.verdict(),
                                                         event_callbacks=health.publisher_events('verdict'), **options)
        self._prompts = self.create_publisher(String, 'prompt', qos.prompt())
        compressed = self._config.image_transport == 'compressed'
        self._topic, kind = ('image/compressed', CompressedImage) if compressed else ('image', Image)
        self.create_subscription(kind, self._topic, self._on_image, qos.image(),
                                 event_callbacks=health.subscription_events('image'), **options)
        self.create_subscription(DraftMsg, 'draft', self._on_draft, qos.draft(),
                                 event_callbacks=health.subscription_events('draft'), **options)
        self._touch = health.watch(self._topic, kind, self._config.silence_s)
        self.create_service(SetPrompt, '~/set_prompt', self._on_set_prompt)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.create_service(Trigger, '~/audit', self._on_audit)

    # ---- lifecycle

    def start(self) -> bool:
        """Configure and activate where that was asked for."""
        return not self._config.autostart or process.autostart(self)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and measure it."""
        try:
            self._core, self._engine = build_verifying(self._config, self._prompt)
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it and say nothing
            process.report_failure(self, 'cannot load the verifier', error)
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f'loaded the verifier {self._config.model} on {self._config.device}')
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to caption."""
        result = super().on_activate(state)
        self._core.request_reset()
        self._prompts.publish(String(data=self._prompt))
        self._health.begin_watch()
        self._worker = process.Worker('verifying', self._step, self._failed, idle_s=0.01)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop captioning; the model stays."""
        self._stop_worker()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._core = self._engine = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._stop_worker()
        self._core = self._engine = None
        return super().on_shutdown(state)

    def close(self) -> None:
        """End the thread and remove what it left on disk; the process ends."""
        self._stop_worker()
        self._audit.close()

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    # ---- callbacks: no more than converting and queueing

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._touch()
        if self._worker is None or not self._enabled:
            return
        try:
            frame = frame_from(message)
        except CrossSpecError as error:
            self._health.drop('image_refused', error)
            return
        self._frame_id = message.header.frame_id
        self._core.add_frame(frame, self.get_clock().now().nanoseconds)
        self._worker.wake()

    def _on_draft(self, message: DraftMsg) -> None:
        if self._worker is None or not self._enabled or not self._config.speculate:
            return
        cause = self._core.offer(draft_from(message))
        if cause is not None:
            self._refused[cause] += 1
            if cause not in ('late', 'stale'):                  # those two are how a race between two processes ends
                self._health.drop('draft_refused', f'draft of window {message.window_id} from {message.source}: {cause}')

    def _want_reset(self) -> None:
        if self._core is not None and self._worker is not None:
            self._core.request_reset()
            self._worker.wake()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if not self._enabled:
            self._want_reset()
        response.success, response.message = True, 'captioning' if self._enabled else 'silent'
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._want_reset()
        response.success, response.message = True, 'windows, drafts and caption memory forgotten'
        return response

    def _on_set_prompt(self, request: SetPrompt.Request, response: SetPrompt.Response) -> SetPrompt.Response:
        try:
            if not request.prompt.strip():
                raise CrossSpecError('prompt must not be empty')
            if self._core is not None:
                self._core.set_prompt(request.prompt)
        except CrossSpecError as error:
            response.success, response.message = False, str(error)
            return response
        self._prompt = request.prompt
        self._prompts.publish(String(data=self._prompt))        # the drafter follows
        response.success, response.message = True, prompt_key(self._prompt)
        return response

    def _on_audit(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin to check what is kept, and tell how far that is: call again until ``pending`` is 0."""
        self._audit_running = True
        if self._worker is not None:
            self._worker.wake()
        response.success, response.message = self._worker is not None, json.dumps(self._audit.statistics())
        return response

    def _reconfigure(self, config: VerifierConfig) -> None:
        self._config = config

    # ---- the verifying thread

    def _step(self) -> bool:
        """One piece of work, the most urgent first; True where there may be more."""
        if self._core.reset_wanted:
            self._retract()
        self._core.advance(self.get_clock().now().nanoseconds)
        window_id = self._core.ready()
        if window_id is not None:
            self._answer(window_id)
            return True
        if self._core.feed():
            return True
        if self._audit_running or (self._config.audit_rate and len(self._audit)):
            return self._check_one()
        return self._config.rehearse and self._core.rehearse(lambda: self._worker is None or self._worker.stopping)

    def _answer(self, window_id: int) -> None:
        for output in self._core.answer(window_id):
            if self._worker is None or self._worker.stopping:
                break
            if isinstance(output, Caption):
                self._shown = output
                self._captions.publish(caption_to(output, self._frame_id))
            else:
                refused, self._refused = self._refused, Counter()
                self._verdicts.publish(verdict_to(output, refused))
        shown = self._shown
        if shown is not None and shown.window_id == window_id and shown.stage == Stage.FINAL:
            self._keep_for_audit()

    def _keep_for_audit(self) -> None:
        self._audit_debt += self._config.audit_rate
        if not self._config.audit_after and self._audit_debt < 1.0:
            return
        self._audit_debt = max(0.0, self._audit_debt - 1.0)
        try:
            self._audit.keep(self._core.last_answered)
        except OSError as error:
            self._health.drop('audit_not_kept', error)

    def _check_one(self) -> bool:
        same = self._audit.check_next(self._engine)
        if same is None:
            self._audit_running = False
            return False
        if not same:
            self._health.error('audit', f'audit: the caption of window {self._audit.mismatches[-1]} is not what the target '
                               'says alone; please report this with the checkpoint and the torch version')
        return True

    def _retract(self) -> None:
        """Take back what is on screens: after a reset it no longer holds."""
        shown, self._shown = self._shown, None
        if shown is not None:
            self._captions.publish(caption_to(retracted(shown), self._frame_id))

    def _failed(self, error: Exception) -> None:
        self._health.drop('window_failed', f'{type(error).__name__}: {error}')

    def _statistics(self) -> dict[str, object]:
        values = {'enabled': self._enabled, 'active': self._worker is not None, 'prompt_key': prompt_key(self._prompt)}
        values |= {f'audit_{name}': value for name, value in self._audit.statistics().items()}
        if self._core is not None:
            values |= self._core.statistics() | {'near_ties': self._engine.counters.near_ties}
        return values


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    return process.run(VerifierNode, args)


if __name__ == '__main__':
    process.leave(main())
