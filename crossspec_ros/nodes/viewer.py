"""The viewer node: the whole graph live in a browser through Rerun, and in Foxglove or Lichtblick by a websocket.

A process of its own, of low priority and with bounded rate, memory and queues, so that looking on slows nothing.
"""
from __future__ import annotations

import importlib.util
import sys
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String

from crossspec_ros.config import ViewerConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.msg import WindowLatency
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.conversions import (caption_from, diagnostic_from, draft_from, latency_from, verdict_from)
from crossspec_ros.nodes.health import HARDWARE_ID, Health
from crossspec_ros.nodes.pictures import Pictures
from crossspec_ros.view.addresses import check_address, in_url, nearest, public_name
from crossspec_ros.view.feed import Feed, Screen

_LARGEST_SHARE = 0.2                                            # of a core that showing may take
_QUALITY = 80                                                   # of JPEG


def require(module: str, distribution: str) -> None:
    """Raises CrossSpecError where a package of the extra ``view`` is not installed."""
    if importlib.util.find_spec(module) is None:
        old = ' in Python 3.11 or newer' if sys.version_info < (3, 11) else ''
        raise CrossSpecError(f"the viewer needs {distribution}, which is not installed here: "
                             f"pip install 'crossspec_ros[view]'{old}")


class ViewerNode(Node):
    """Keeps the newest of everything and shows it at its own rate; what there is no time for is left out."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__('viewer', **kwargs)
        self._config: ViewerConfig = parameters.declare(self, ViewerConfig)
        process.trace(self, self._config.trace)
        config, grid = self._config, self._config.grid()
        self._feed = Feed(round(config.stale_ms * 1e6), grid.stride_ns, config.show_untrained)
        self._screens: list[Screen] = []
        self._server = None                                     # of Rerun
        self._pages: dict[str, str] = {}
        self._shown_ns: dict[str, int] = {}                     # stamps of the pictures shown last
        self._rest_until_s = 0.0
        try:
            self._open_screens()
        except BaseException:
            self.close()                                        # nobody else knows of the server yet
            raise
        self._health = Health(self, self._statistics)
        self._cameras = Pictures(self, self._health, config.image_transport, events=config.show_events)
        self._communicate()
        self.create_timer(1.0 / config.rate_hz, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jump = process.on_time_jump(self, self._reset)
        self._announce()

    # ---- screens

    def _open_screens(self) -> None:
        config = self._config
        if not (config.rerun or config.foxglove or config.save_path):
            raise CrossSpecError('one of rerun, foxglove and save_path must be set, or there is nothing to show')
        bind = check_address(config.bind)
        if config.rerun or config.save_path:
            require('rerun', 'rerun-sdk')
            from crossspec_ros.view.rerun_screen import RerunScreen
        if config.rerun:
            from crossspec_ros.view.rerun_server import RerunServer
            self._server = RerunServer(bind, config.port, config.memory_mb)
            self._screens.append(RerunScreen(url=self._server.data_url))
            self._pages['page'] = f'http://{public_name(bind)}:{self._server.port}/'
        if config.save_path:
            if not Path(config.save_path).absolute().parent.is_dir():
                raise CrossSpecError(f'save_path must be in a folder that exists, got {config.save_path}')
            self._screens.append(RerunScreen(path=config.save_path, limit_bytes=config.save_mb * 1_000_000))
        if config.foxglove:
            require('foxglove', 'foxglove-sdk')
            from crossspec_ros.view.foxglove_screen import FoxgloveScreen
            screen = FoxgloveScreen(bind, config.foxglove_port)
            self._screens.append(screen)
            self._pages['websocket'] = f'ws://{public_name(bind)}:{screen.port}'

    def _announce(self) -> None:
        for name, address in self._pages.items():
            self.get_logger().info(f'{name}: {address}')
        if self._config.open_browser and self._server is not None:
            webbrowser.open(f'http://{in_url(nearest(self._config.bind))}:{self._server.port}/')

    def _statistics(self) -> dict[str, object]:
        return {**self._pages, 'values_dropped': self._feed.left_out}

    # ---- what is heard

    def _communicate(self) -> None:
        options = {'qos_overriding_options': qos.overridable()}
        self.create_subscription(DraftMsg, 'draft', self._on_draft, qos.draft(), **options)
        self.create_subscription(CaptionMsg, 'caption', self._on_caption, qos.caption(), **options)
        self.create_subscription(VerdictMsg, 'verdict', self._on_verdict, qos.verdict(), **options)
        self.create_subscription(WindowLatency, 'latency', self._on_latency, qos.latency(), **options)
        self.create_subscription(String, 'prompt', self._on_prompt, qos.prompt())
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.diagnostics())

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _age_ms(self, stamp_ns: int) -> float:
        return (self._now_ns() - stamp_ns) / 1e6

    def _on_draft(self, message: DraftMsg) -> None:
        draft = draft_from(message)
        self._feed.add_draft(draft, self._age_ms(draft.window_end_ns))

    def _on_caption(self, message: CaptionMsg) -> None:
        try:
            caption = caption_from(message)
        except CrossSpecError as error:
            self._health.drop('caption_refused', error)
            return
        self._feed.add_caption(caption, self._age_ms(caption.window_end_ns))

    def _on_verdict(self, message: VerdictMsg) -> None:
        self._feed.add_verdict(verdict_from(message), self._now_ns())

    def _on_latency(self, message: WindowLatency) -> None:
        self._feed.add_latency(latency_from(message), self._now_ns())

    def _on_prompt(self, message: String) -> None:
        self._feed.add_prompt(message.data)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id == HARDWARE_ID and status.name.startswith(f'{self.get_namespace().rstrip("/")}/'):
                self._feed.add_diagnostic(status.name, diagnostic_from(status), self._now_ns())

    def _reset(self) -> None:
        self._feed.reset()
        self._cameras.reset()
        self._shown_ns.clear()

    # ---- what is shown

    def _look(self) -> None:
        if self._server is not None and not self._server.running:
            raise CrossSpecError('the server of Rerun has ended; start the viewer again')
        begin_s, cpu_s = time.monotonic(), time.process_time()
        pictures = {} if begin_s < self._rest_until_s else self._new_pictures()
        look = self._feed.look(self._now_ns(), pictures)
        for screen in self._screens:
            if not screen.show(look):
                self._health.count('looks_skipped')
                self._feed.again()
        self._health.count('looks')
        if pictures:
            self._rest_until_s = begin_s + (time.process_time() - cpu_s) / _LARGEST_SHARE

    def _new_pictures(self) -> dict[str, bytes]:
        """Those that came since the last ones, as JPEG."""
        found = {}
        for name, take, stamp in (('camera', self._cameras.rgb, lambda: self._cameras.stamp_ns),
                                  ('events', self._cameras.events, lambda: self._cameras.events_ns)):
            rgb = take()
            if rgb is not None and self._shown_ns.get(name) != stamp():
                self._shown_ns[name] = stamp()
                found[name] = self._jpeg(rgb)
        return found

    def _jpeg(self, rgb: np.ndarray) -> bytes:
        height, width = rgb.shape[:2]
        if width > self._config.width:
            size = (self._config.width, max(1, height * self._config.width // width))
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        assert done, 'OpenCV encodes every picture of uint8'
        return data.tobytes()

    def close(self) -> None:
        """End the files, then the servers; the process ends."""
        screens, self._screens = self._screens, []
        for screen in screens:
            screen.close()
        server, self._server = self._server, None
        if server is not None:
            server.close()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    process.show_behind_the_models()
    cv2.setNumThreads(1)
    return process.run(ViewerNode, args)


if __name__ == '__main__':
    process.leave(main())
