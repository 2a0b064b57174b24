"""The qualifier node: images and drafts in, better drafts out. The verifier waits for none and alone decides."""
from __future__ import annotations

from collections.abc import Sequence

from std_msgs.msg import String

from crossspec_ros.config import QualifierConfig
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.nodes import process, qos
from crossspec_ros.nodes.conversions import draft_from, draft_to, verdict_from
from crossspec_ros.nodes.frame_node import FrameNode
from crossspec_ros.pipeline.building import build_qualifying
from crossspec_ros.pipeline.qualifying import QualifyingPipeline
from crossspec_ros.tracing.tracer import TRACER


class QualifierNode(FrameNode):
    """Loads its model on configure and frees it on cleanup; captions in a thread of its own, behind the others'."""

    DOING, FORGOTTEN, FAILURE, IDLE_S = 'drafting', 'windows, drafts and caption memory', 'window_failed', 0.01

    def __init__(self, **kwargs: object) -> None:
        super().__init__('qualifier', QualifierConfig, **kwargs)
        self._config.look()                                     # raises where parameters do not go together
        self._core: QualifyingPipeline | None = None
        self._stands_behind = False
        self._communicate()

    def _communicate(self) -> None:
        health, options = self._health, self._qos_options
        told = health.publisher_events('draft')
        told.deadline = None                                    # offered for the drafter's: it may have nothing to add
        self._publisher = self.create_lifecycle_publisher(DraftMsg, 'draft', qos.draft(self._config.deadline_ms),
                                                          event_callbacks=told, **options)
        self.create_subscription(DraftMsg, 'draft', self._on_draft, qos.draft(),
                                 event_callbacks=health.subscription_events('draft'), **options)
        self.create_subscription(VerdictMsg, 'verdict', self._on_verdict, qos.verdict(),
                                 event_callbacks=health.subscription_events('verdict'), **options)
        self.create_subscription(String, 'prompt', lambda message: self._set_prompt(message.data), qos.prompt())
        self._open_images()

    # ---- lifecycle

    def _load(self) -> None:
        self._core = build_qualifying(self._config, self._prompt, self._input.account)
        self._follow_input()

    def _begin(self) -> None:
        self._stands_behind = False                             # the thread is another one
        self._core.request_reset()

    # ---- callbacks: no more than queueing

    def _on_draft(self, message: DraftMsg) -> None:
        if self._worker is not None and self._enabled:
            self._core.offer(draft_from(message))               # which counts what it does not take

    def _on_verdict(self, message: VerdictMsg) -> None:
        if self._core is not None:
            self._core.hear(verdict_from(message), self._input.now_ns())
            self._wake()

    # ---- the thread

    def _step(self) -> bool:
        """One piece of work, none while the verifier answers; True where there may be more."""
        if not self._stands_behind:
            process.stand_behind(self._config.nice)
            self._stands_behind = True
        now_ns = self._input.now_ns()
        self._core.advance(now_ns)
        window_id = self._core.ready()
        if window_id is not None:
            self._draft(window_id)
            return True
        return not self._core.resting(now_ns) and self._core.feed()

    def _draft(self, window_id: int) -> None:
        with TRACER.span('qualify', window=window_id):
            draft = self._core.qualify(window_id, self._input.now_ns, lambda: not self._working)
        if draft is not None and self._working:
            with self._telling('publish draft', draft.window_id, draft.window_end_ns, revision=draft.revision):
                self._publisher.publish(draft_to(draft, self._frame_id))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    return process.run(QualifierNode, args)


if __name__ == '__main__':
    process.leave(main())
