"""What the nodes whose model looks at images have in common: raw or compressed, unpacked when they come, then queued.
"""
from __future__ import annotations

import time

from sensor_msgs.msg import CompressedImage, Image

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.images import PictureReader
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import frame_from
from crossspec_ros.nodes.model_node import ModelNode
from crossspec_ros.pipeline.account import FRAMES
from crossspec_ros.speculation.types import prompt_key


class FrameNode(ModelNode):
    """A node with a model whose core has `prepare`, `add_frame`, `set_prompt`, `request_reset`, ``ages`` and
    ``latency_ns``."""

    def _open_images(self) -> None:
        """Receive the camera's images."""
        compressed = self._config.image_transport == 'compressed'
        self._topic, kind = ('image/compressed', CompressedImage) if compressed else ('image', Image)
        self._pictures = PictureReader(self.resolve_topic_name(self._topic),
                                       lambda line: self._health.note('pictures', line))
        self._open_input('image', FRAMES, self._topic, kind, qos.image(), self._on_image)

    def _follow_input(self) -> None:
        """The core has been made: it notes ages in the input's book, and knows how long frames take."""
        self._core.ages = self._input.ages
        self._input.latency_ns = lambda: self._core and self._core.latency_ns

    @property
    def _grace_max_ms(self) -> float:
        return self._config.frame_grace_max_ms

    def _on_image(self, message: Image | CompressedImage) -> None:
        if not self._listening():
            return
        frame, header = frame_from(message, self._pictures), message.header
        stamp_ns = self._input.judge(frame.stamp_ns, header.frame_id)
        if stamp_ns is None:
            return
        now_ns = self._input.now_ns()
        frame.stamp_ns = stamp_ns
        frame.arrive(now_ns, time.perf_counter_ns())
        try:
            self._core.prepare(frame)
        except CrossSpecError as error:
            self._input.account.drop('refused')
            self._health.say('image_refused', error)
            return
        self._frame_id = header.frame_id
        self._core.add_frame(frame, now_ns)
        self._worker.wake()

    def _want_reset(self) -> None:
        if self._core is not None and self._worker is not None:
            self._core.request_reset()
            self._wake()

    def _set_prompt(self, prompt: str) -> tuple[bool, str]:
        try:
            if not prompt.strip():
                raise CrossSpecError('prompt must not be empty')
            if self._core is not None:
                self._core.set_prompt(prompt)
        except CrossSpecError as error:
            return False, str(error)
        self._prompt = prompt
        return True, prompt_key(prompt)
