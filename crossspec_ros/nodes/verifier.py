"""The verifier node: images and drafts in, verified captions out. It needs no event and waits for no draft."""
from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Sequence

from std_msgs.msg import String
from std_srvs.srv import Trigger

from crossspec_ros.config import VerifierConfig
from crossspec_ros.errors import CrossSpecError, ModelLost
from crossspec_ros.frames.history import FrameHistory
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import SceneChange as SceneChangeMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.nodes import process, qos
from crossspec_ros.nodes.conversions import caption_to, change_from, draft_from, verdict_to
from crossspec_ros.nodes.frame_node import FrameNode
from crossspec_ros.nodes.questions import Answering, QuestionServer
from crossspec_ros.nodes.trained import TrainedFor
from crossspec_ros.pipeline.asking import Asking
from crossspec_ros.pipeline.audits import Audit
from crossspec_ros.pipeline.building import build_verifying, constraint_of
from crossspec_ros.pipeline.mailbox import Mailbox
from crossspec_ros.pipeline.openings import retracted
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.target import Target
from crossspec_ros.speculation.types import Caption, Stage, prompt_key
from crossspec_ros.tracing.tracer import TRACER


class VerifierNode(FrameNode):
    """Loads its model on configure and frees it on cleanup; one thread of its own owns the engine."""

    DOING, FORGOTTEN, FAILURE, IDLE_S = 'captioning', 'windows, drafts and caption memory', 'window_failed', 0.01

    def __init__(self, **kwargs: object) -> None:
        super().__init__('verifier', VerifierConfig, **kwargs)
        self._core: VerifyingPipeline | None = None
        self._engine: CaptionEngine | None = None
        self._audit = Audit(self._config.audit_keep, self._config.audit_keep_mb << 20)
        self._audit_asked: Mailbox[bool] = Mailbox()
        self._audit_running = False
        self._audit_debt = 0.0                                  # grows by audit_rate a window; 1: the next one is kept
        self._shown: Mailbox[Caption] = Mailbox()               # the newest published that still stands
        self._refused: Mailbox[Counter[str]] = Mailbox(operator.add)    # drafts, since the last verdict
        self._asking: Asking | None = None
        self._drafted: Mailbox[str] = Mailbox()                 # the newest draft's text
        self._trained_for: dict[str, str] = {}                  # what each drafter learned from, by its name
        self._communicate()

    def _communicate(self) -> None:
        health, options = self._health, self._qos_options
        self._captions = self.create_lifecycle_publisher(
            CaptionMsg, 'caption', qos.caption(self._config.deadline_ms),
            event_callbacks=health.publisher_events('caption'), **options)
        self._verdicts = self.create_lifecycle_publisher(VerdictMsg, 'verdict', qos.verdict(),
                                                         event_callbacks=health.publisher_events('verdict'), **options)
        self._prompts = self.create_publisher(String, 'prompt', qos.prompt())
        self.create_subscription(DraftMsg, 'draft', self._on_draft, qos.draft(),
                                 event_callbacks=health.subscription_events('draft'), **options)
        if self._config.speaking() is not None:
            self.create_subscription(SceneChangeMsg, 'scene_change', self._on_change, qos.scene_change(),
                                     event_callbacks=health.subscription_events('scene_change'), **options)
        health.add_source(TrainedFor(self._untrained))
        self._open_images()
        self.create_service(Trigger, '~/audit', self._on_audit)
        self._questions = QuestionServer(self, self._answering, lambda: self._drafted.peek() or '')

    # ---- lifecycle

    def _load(self) -> None:
        config = self._config
        history = FrameHistory(self._grid, config.ask_history_s, config.ask_history_mb << 20)
        self._core, self._engine = build_verifying(config, self._prompt, account=self._input.account, history=history,
                                                   target=self._loaded_target())
        self._asking = Asking(self._engine, history, config.ask_waiting)
        self._follow_input()

    def _loaded_target(self) -> Target | None:
        """A model that is there already; None: one of this node's own is loaded."""
        return None

    def _let_go(self, target: Target) -> None:
        """The model of this node is not needed any more."""
        target.close()

    def _begin(self) -> None:
        self._core.request_reset()
        self._prompts.publish(String(data=self._prompt))

    def _free(self) -> None:
        super()._free()
        if self._engine is not None:
            self._let_go(self._engine.target)
        self._engine = self._asking = None
        self._health.mended('model')

    def _stop_worker(self) -> None:
        super()._stop_worker()
        if self._asking is not None:
            self._asking.reset('the verifier is no longer active')

    def _answering(self) -> Answering | None:
        engine, asking = self._engine, self._asking
        if self._worker is None or engine is None or asking is None:
            return None
        return Answering(asking, lambda form: constraint_of(engine, form), self._wake)

    def close(self) -> None:
        """End the thread and remove what it left on disk; the process ends."""
        super().close()
        self._audit.close()
        if self._engine is not None:
            self._let_go(self._engine.target)

    # ---- callbacks: no more than unpacking and queueing

    def _on_draft(self, message: DraftMsg) -> None:
        if self._worker is None or not self._enabled or not self._config.decode.speculate:
            return
        cause = self._core.offer(draft_from(message))
        if cause is None or message.source in self._trained_for:
            self._trained_for[message.source] = message.trained_for
        if message.source not in self._untrained():
            self._drafted.put(message.text)
        if cause is not None:
            self._refused.put(Counter({cause: 1}))
            if cause not in ('late', 'stale'):                  # those two are how a race between two processes ends
                self._health.drop('draft_refused',
                                  f'draft of window {message.window_id} from {message.source}: {cause}')

    def _untrained(self) -> list[str]:
        """Names of drafters that learned from another verifier, as far as they say it."""
        engine = self._engine
        own = engine.target.model_key if engine is not None else ''
        return [name for name, key in self._trained_for.copy().items() if own and key not in ('', own)]

    def _on_change(self, message: SceneChangeMsg) -> None:
        if self._worker is None or not self._enabled:
            return
        try:
            cause = self._core.hear(change_from(message))
        except CrossSpecError as error:
            cause = str(error)
        if cause is not None:
            self._health.drop('change_refused', f'scene_change of window {message.window_id}: {cause}; window.when and '
                              'the grid must be the same for drafter and verifier')
        self._worker.wake()

    def _set_prompt(self, prompt: str) -> tuple[bool, str]:
        taken, said = super()._set_prompt(prompt)
        if taken:
            self._prompts.publish(String(data=prompt))          # the drafter follows
        return taken, said

    def _on_audit(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin to check what is kept, and tell how far that is: call again until ``pending`` is 0."""
        self._audit_asked.put(True)
        self._wake()
        response.success, response.message = self._worker is not None, json.dumps(self._audit.statistics())
        return response

    # ---- the verifying thread

    def _failed(self, error: Exception) -> None:
        super()._failed(error)
        if isinstance(error, ModelLost):
            self._health.error('model', str(error))

    def _step(self) -> bool:
        """One piece of work, the most urgent first; True where there may be more."""
        self._settle()
        return self._work()

    def _settle(self) -> None:
        """Take in what has come by now."""
        if self._core.reset_wanted:
            self._retract()
            self._asking.reset('time jumped, or all was forgotten by ~/reset')
        self._core.advance(self.get_clock().now().nanoseconds)
        for caption in self._core.take_confirmed():
            self._publish(caption)

    def _work(self) -> bool:
        """The most urgent work on what was taken in."""
        window_id = self._core.ready()
        if window_id is not None:
            self._answer(window_id)
            self._asking.step(lambda: True)                     # a question gets on however busy the captions are
            return True
        if self._core.feed():
            return True
        if self._asking.step(self._pressed):
            return True
        if self._audit_asked.take():
            self._audit_running = True
        if self._audit_running or (self._config.audit_rate and len(self._audit)):
            return self._check_one()
        return self._core.rehearse(self._pressed)

    def _pressed(self) -> bool:
        """Whether what can wait has to."""
        return self._core.has_frames() or not self._working

    def _answer(self, window_id: int) -> None:
        with TRACER.span('answer', window=window_id):
            for output in self._core.answer(window_id):
                if not self._working:
                    break
                if isinstance(output, Caption):
                    self._publish(output)
                    continue
                with TRACER.span('publish verdict', window=window_id):
                    self._verdicts.publish(verdict_to(output, self._refused.take()))
        shown = self._shown.peek()
        if shown is not None and shown.window_id == window_id and shown.stage == Stage.FINAL:
            self._keep_for_audit()

    def _publish(self, caption: Caption) -> None:
        self._shown.put(caption)
        with self._telling('publish', caption.window_id, caption.window_end_ns, stage=caption.stage.name,
                           passes=caption.target_passes, accepted=caption.accepted):
            self._captions.publish(caption_to(caption, self._frame_id))

    def _keep_for_audit(self) -> None:
        if not self._engine.judgeable:                          # plain decoding would say other tokens too
            return
        self._audit_debt += self._config.audit_rate
        if not self._config.audit_after and self._audit_debt < 1.0:
            return
        self._audit_debt = max(0.0, self._audit_debt - 1.0)
        try:
            self._audit.keep(self._core.last_answered)
        except OSError as error:
            self._health.drop('audit_not_kept', error)

    def _check_one(self) -> bool:
        with TRACER.span('audit'):
            same = self._audit.check_next(self._engine)
        if same is None:
            self._audit_running = False
            return False
        if not same:
            self._health.error('audit', f'audit: the caption of window {self._audit.mismatches[-1]} is not what the '
                               'target says alone; please report this with the checkpoint and the torch version')
        return True

    def _retract(self) -> None:
        """Take back what is on screens: after a reset it no longer holds."""
        shown = self._shown.take()
        if shown is not None:
            self._captions.publish(caption_to(retracted(shown), self._frame_id))

    def _statistics(self) -> dict[str, object]:
        values = super()._statistics() | {'prompt_key': prompt_key(self._prompt)}
        if self._engine is not None:
            values |= {'near_ties': self._engine.counters.near_ties, **self._asking.counts,
                       **self._engine.proposer.counts(),
                       **{f'forwards_{way}': count for way, count in self._engine.forwards().items()}}
        return values | {f'audit_{name}': value for name, value in self._audit.statistics().items()}


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    return process.run(VerifierNode, args)


if __name__ == '__main__':
    process.leave(main())
