"""The drafter node: events in, speculative captions out, revised while events keep coming. It needs no image."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from event_camera_msgs.msg import EventPacket
from std_msgs.msg import String

from crossspec_ros.config import DrafterConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Packet
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import SceneChange as SceneChangeMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.nodes import process, qos
from crossspec_ros.nodes.conversions import change_to, draft_to, packet_from, verdict_from
from crossspec_ros.nodes.learning import Learning
from crossspec_ros.nodes.model_node import ModelNode
from crossspec_ros.nodes.trained import TrainedFor
from crossspec_ros.pipeline.account import FORGOTTEN, PACKETS
from crossspec_ros.pipeline.building import build_drafting
from crossspec_ros.pipeline.drafting import DraftingPipeline, DraftJob
from crossspec_ros.pipeline.frame_latency import RECEIVED, UNPACKED
from crossspec_ros.pipeline.mailbox import Mailbox
from crossspec_ros.pipeline.packet_queue import PacketQueue
from crossspec_ros.speculation.types import prompt_key
from crossspec_ros.tracing.tracer import TRACER
from crossspec_ros.transport import receive_by_datagrams


class DrafterNode(ModelNode):
    """Loads its model on configure and frees it on cleanup; decodes and drafts in a thread of its own."""

    DOING, FORGOTTEN, FAILURE, IDLE_S = 'drafting', 'events and drafts', 'draft_failed', 0.004

    def __init__(self, **kwargs: object) -> None:
        super().__init__('drafter', DrafterConfig, **kwargs)
        self._core: DraftingPipeline | None = None
        self._packets = PacketQueue(self._config.queue_mb << 20)
        self._reset_wanted: Mailbox[bool] = Mailbox()
        self._verdict: Mailbox[VerdictMsg] = Mailbox()          # the newest, not yet looked at
        self._learning = Learning(self, self._config.learn, self._health) if self._config.learn.online else None
        self._communicate()

    def _communicate(self) -> None:
        options = self._qos_options
        self._publisher = self.create_lifecycle_publisher(
            DraftMsg, 'draft', qos.draft(self._config.deadline_ms),
            event_callbacks=self._health.publisher_events('draft'), **options)
        self._changes = None
        if self._config.speaking() is not None:
            self._changes = self.create_lifecycle_publisher(
                SceneChangeMsg, 'scene_change', qos.scene_change(),
                event_callbacks=self._health.publisher_events('scene_change'), **options)
        self.create_subscription(VerdictMsg, 'verdict', self._on_verdict, qos.verdict(),
                                 event_callbacks=self._health.subscription_events('verdict'), **options)
        self.create_subscription(String, 'prompt', lambda message: self._set_prompt(message.data), qos.prompt())
        self._health.add_source(TrainedFor(self._untrained))
        self._open_input('events', PACKETS, 'events', EventPacket, qos.events(), self._on_packet)

    def _untrained(self) -> tuple[str, ...]:
        """This drafter's name, where it learned from another verifier than the one that is heard."""
        return (self._config.source,) if self._core is not None and self._core.other_verifier else ()

    # ---- lifecycle

    def _load(self) -> None:
        self._core = build_drafting(self._config, self._prompt, self._input.account)
        if self._learning is not None:
            self._learning.load(self._core)

    def _begin(self) -> None:
        self._forget_packets()
        self._core.reset()
        if self._learning is not None:
            self._learning.begin()

    def _stop_worker(self) -> None:
        super()._stop_worker()
        if self._learning is not None:
            self._learning.end()

    def _free(self) -> None:
        super()._free()
        if self._learning is not None:
            self._learning.free()

    def _forget_packets(self) -> None:
        self._input.account.drop(FORGOTTEN, self._packets.clear())

    # ---- callbacks: no more than queueing

    def _on_packet(self, message: EventPacket) -> None:
        if not self._listening():
            return
        packet, self._frame_id = packet_from(message), message.header.frame_id
        stamp_ns = self._input.judge(packet.stamp_ns, self._frame_id)
        if stamp_ns is None:
            return
        if stamp_ns != packet.stamp_ns:
            packet = replace(packet, stamp_ns=stamp_ns)
        self._note_age(RECEIVED, packet)
        dropped = self._packets.push(packet)
        if dropped:
            self._input.account.drop('overflow', dropped)
            self._health.say('packets_overflow', 'packets come faster than they are decoded; the oldest go')
        self._worker.wake()

    def _note_age(self, stage: str, packet: Packet) -> None:
        self._input.ages.note(stage, [(self._input.now_ns() - packet.stamp_ns) / 1e6])

    def _on_verdict(self, message: VerdictMsg) -> None:
        if self._learning is not None and message.final:
            self._learning.hear(verdict_from(message))
        self._verdict.put(message)
        self._wake()

    def _want_reset(self) -> None:
        self._reset_wanted.put(True)
        self._wake()

    def _set_prompt(self, prompt: str) -> tuple[bool, str]:
        if not prompt.strip():
            return False, 'prompt must not be empty'
        self._prompt = prompt
        if self._core is not None:
            self._core.prompt = prompt
        return True, prompt_key(prompt)

    def _reconfigure(self, config: DrafterConfig) -> None:
        super()._reconfigure(config)
        if self._core is not None:
            self._core.max_tokens, self._core.redrafts = config.max_tokens, config.redrafts
            self._core.alternatives = config.alternatives

    # ---- the drafting thread

    def _step(self) -> bool:
        """Decode what came, then draft what is due; True where there may be more."""
        if self._reset_wanted.take():
            self._forget_packets()
            self._core.reset()
        self._decode()
        jobs = self._core.due(self.get_clock().now().nanoseconds) if self._enabled else []
        for change in self._core.take_changes():                # before the drafts: the verifier prepares meanwhile
            if self._working:
                self._changes.publish(change_to(change, self._frame_id))
        for job in jobs:
            self._draft(job)
        if jobs:
            return True
        message = self._verdict.take()
        job = self._core.on_verdict(verdict_from(message)) if message is not None and self._enabled else None
        if job is not None:
            self._draft(job)
        return job is not None or len(self._packets) > 0

    def _decode(self) -> None:
        for packet in self._packets.waiting():
            if self._reset_wanted.peek():
                self._input.account.drop(FORGOTTEN)
                return
            try:
                with TRACER.span('decode', stamp_ns=packet.stamp_ns):
                    self._core.add_packet(packet)
            except CrossSpecError as error:                     # the core has counted it
                self._health.say('packet_refused', error)
            else:
                self._note_age(UNPACKED, packet)

    def _draft(self, job: DraftJob) -> None:
        with TRACER.span('draft', window=job.window_id, early=job.early, after=len(job.committed)):
            draft = self._core.draft(job, should_stop=lambda: self._pointless(job))
        if draft is not None and self._working:
            with self._telling('publish draft', draft.window_id, draft.window_end_ns, revision=draft.revision):
                self._publisher.publish(draft_to(draft, self._frame_id))

    def _pointless(self, job: DraftJob) -> bool:
        """Whether a newer verdict, a reset or the end has overtaken a draft that is being made."""
        if self._reset_wanted.peek() or not self._working:
            return True
        newer = self._verdict.peek()
        return newer is not None and newer.window_id == job.window_id and (
            newer.final or bool(job.committed) and len(newer.committed) > len(job.committed))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    receive_by_datagrams()
    return process.run(DrafterNode, args)


if __name__ == '__main__':
    process.leave(main())
