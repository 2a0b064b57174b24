"""The overlay node: the picture with its caption, unverified words dim, for RViz, Foxglove and an mp4 file."""
from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from crossspec_ros.config import OverlayConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.conversions import caption_from, draft_from, image_to, to_time
from crossspec_ros.nodes.health import Health
from crossspec_ros.nodes.pictures import Pictures
from crossspec_ros.speculation.types import Stage
from crossspec_ros.tracing.tracer import TRACER
from crossspec_ros.view.drawing import UNVERIFIED, VERIFIED, Words, as_html, compose
from crossspec_ros.view.shown import Shown

_LARGEST_SHARE = 0.3         # of a core that drawing may take
_SNAPSHOT_WIDTH = 480        # at most, px


class OverlayNode(Node):
    """Draws at its own rate from the newest of everything, so that a missing image leaves text and events.

    Where that would take more than a part of a core (large pictures on a small machine), pictures come more seldom: the
    captions are worth more. A film repeats the one before.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__('overlay', **kwargs)
        self._config: OverlayConfig = parameters.declare(self, OverlayConfig)
        parameters.follow_changes(self, self._config, self._reconfigure)
        process.trace(self, self._config.trace)
        config, grid = self._config, self._config.grid()
        self._shown = Shown(round(config.stale_ms * 1e6), grid.stride_ns, config.show_untrained)
        self._film, self._film_begin_s = None, 0.0
        self._rest_until_s = 0.0
        self._pictured = -1                                     # window of the last snapshot
        if config.record_path:
            from crossspec_ros.recordings.film import Film
            self._film = Film(config.record_path, config.rate_hz, live=True)
        if config.snapshot_dir and not Path(config.snapshot_dir).is_dir():
            raise CrossSpecError(f'snapshot_dir must be a folder that exists, got {config.snapshot_dir}')
        self._health = Health(self)
        self._cameras = Pictures(self, self._health, config.image_transport, events=config.show_events)
        self._communicate()
        # Pictures come at their rate also while /clock stands still.
        self.create_timer(1.0 / config.rate_hz, self._draw, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jump = process.on_time_jump(self, self._reset)

    def _communicate(self) -> None:
        options = {'qos_overriding_options': qos.overridable()}
        self._pictures = self.create_publisher(Image, 'overlay/image', qos.picture(), **options)
        self.create_subscription(DraftMsg, 'draft', self._on_draft, qos.draft(), **options)
        self.create_subscription(CaptionMsg, 'caption', self._on_caption, qos.caption(), **options)
        self._rviz = self._optional('rviz_2d_overlay_msgs.msg', 'OverlayText', 'overlay/text')
        self._foxglove = self._optional('foxglove_msgs.msg', 'ImageAnnotations', 'overlay/annotations')

    def _optional(self, module: str, name: str, topic: str) -> Publisher | None:
        """A publisher of a message type that not every host has."""
        try:
            kind = getattr(importlib.import_module(module), name)
        except ImportError:
            return None
        return self.create_publisher(kind, topic, qos.picture())

    def _on_draft(self, message: DraftMsg) -> None:
        self._shown.add_draft(draft_from(message))
        self._snapshot(message.window_id)

    def _on_caption(self, message: CaptionMsg) -> None:
        try:
            caption = caption_from(message)
        except CrossSpecError as error:
            self._health.drop('caption_refused', error)
            return
        self._shown.add_caption(caption)
        if caption.stage is Stage.FINAL:
            self._snapshot(caption.window_id)

    def _reset(self) -> None:
        self._shown.reset()
        self._cameras.reset()

    def _words(self) -> list[Words]:
        verified, unverified = self._shown.text(self.get_clock().now().nanoseconds)
        return [words for words in (Words(verified, VERIFIED), Words(unverified, UNVERIFIED)) if words.text]

    def _draw(self) -> None:
        filming = self._film is not None and self._cameras.seen     # a film begins with the first thing to be seen
        watched = self._pictures.get_subscription_count() > 0
        if not (filming or watched or self._rviz or self._foxglove):
            return
        begin_s, cpu_s = time.monotonic(), time.process_time()
        if begin_s < self._rest_until_s:
            self._health.count('pictures_skipped')
            return
        with TRACER.span('draw', filming=filming, watched=watched):
            self._show(filming, watched)
        self._rest_until_s = begin_s + (time.process_time() - cpu_s) / _LARGEST_SHARE

    def _show(self, filming: bool, watched: bool) -> None:
        """Compose a picture and give it to all who want it."""
        words, rgb = self._words(), self._cameras.rgb()
        pictures = [rgb, self._cameras.events()] if self._config.show_events else [rgb]
        now_ns = self.get_clock().now().nanoseconds
        picture = compose(pictures, words, self._shown.note(now_ns), self._config.width)
        stamp_ns = now_ns if self._cameras.stamp_ns is None else self._cameras.stamp_ns
        if watched:
            self._pictures.publish(image_to(picture, stamp_ns, self._cameras.frame_id))
        self._health.count('pictures')
        if filming:
            self._record(picture)
        if self._rviz is not None:
            self._publish_rviz(words)
        if self._foxglove is not None:
            self._publish_foxglove(words, stamp_ns)

    def _record(self, picture: np.ndarray) -> None:
        """Add to the film as many pictures as its clock asks for, so that it plays at real speed."""
        now_s = time.monotonic()
        self._film_begin_s = self._film_begin_s or now_s
        due = int((now_s - self._film_begin_s) * self._config.rate_hz) + 1
        try:
            for _ in range(min(due - self._film.pictures, round(self._config.rate_hz))):
                self._film.add(picture)
        except CrossSpecError as error:
            self._health.error('film', str(error))
            film, self._film = self._film, None
            with suppress(CrossSpecError):                      # the same again
                film.close()

    def _snapshot(self, window_id: int) -> None:
        """The frame and the events of this moment as small JPEGs, for reports; once a window."""
        if not self._config.snapshot_dir or window_id == self._pictured:
            return
        self._pictured = window_id
        pictures = {'frame': self._cameras.rgb(), 'events': self._cameras.events()}
        for name, picture in pictures.items():
            if picture is None:
                continue
            path = Path(self._config.snapshot_dir, f'{window_id}_{name}.jpg')
            height, width = picture.shape[:2]
            if width > _SNAPSHOT_WIDTH:
                size = (_SNAPSHOT_WIDTH, max(1, height * _SNAPSHOT_WIDTH // width))
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
                self._health.drop('snapshot_failed', path)

    def _publish_rviz(self, words: list[Words]) -> None:
        from rviz_2d_overlay_msgs.msg import OverlayText
        message = OverlayText(width=640, height=160, text_size=14.0, text=as_html(words))
        message.action = OverlayText.ADD if words else OverlayText.DELETE
        self._rviz.publish(message)

    def _publish_foxglove(self, words: list[Words], stamp_ns: int) -> None:
        from foxglove_msgs.msg import Color, ImageAnnotations, Point2, TextAnnotation
        message, y = ImageAnnotations(), 20.0
        for text, colour in words:
            red, green, blue = (channel / 255 for channel in colour)
            message.texts.append(TextAnnotation(
                timestamp=to_time(stamp_ns), position=Point2(x=8.0, y=y), text=text, font_size=14.0,
                text_color=Color(r=red, g=green, b=blue, a=1.0), background_color=Color(r=0.0, g=0.0, b=0.0, a=0.6)))
            y += 20.0
        self._foxglove.publish(message)

    def _reconfigure(self, config: OverlayConfig) -> None:
        self._config = config
        self._shown.stale_ns = round(config.stale_ms * 1e6)

    def close(self) -> None:
        """End the film; the process ends."""
        if self._film is not None:
            try:
                self._film.close()
            except CrossSpecError as error:
                self.get_logger().error(str(error))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    process.show_behind_the_models()
    return process.run(OverlayNode, args)


if __name__ == '__main__':
    process.leave(main())
