"""Cameras as drivers publish them: stamps of the exposure, messages that come later, stamps of other clocks."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable

from graph_harness import MS, Probe

Stamp = Callable[[int, int], int]
"""From the time of the exposure (ns) and the number of a message to its stamp."""


class Driver:
    """Publishes an image each ``image_ms`` and a packet each ``packet_ms`` (0: none), each ``latency_ms`` after its
    exposure, until `stop`. ``images`` and ``packets``: how many were published.
    """

    def __init__(self, probe: Probe, *, latency_ms: float = 0.0, stamp: Stamp = lambda now_ns, number: now_ns,
                 image_ms: float = 40.0, packet_ms: float = 0.0) -> None:
        self.images = self.packets = 0
        self._probe, self._latency_s, self._stamp = probe, latency_ms / 1000, stamp
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(period / 1000, send), daemon=True)
                         for period, send in ((image_ms, self._image), (packet_ms, self._packet)) if period]
        for thread in self._threads:
            thread.start()

    def _run(self, period_s: float, send: Callable[[int, int], None]) -> None:
        """Exposures at fixed times, each sent when its latency has passed, as by a pipeline of its own."""
        number, begin_s = 0, time.time()
        while not self._stop.is_set():
            exposed_s = begin_s + number * period_s
            if self._stop.wait(max(0.0, exposed_s + self._latency_s - time.time())):
                return
            send(round(exposed_s * 1e9), number)
            number += 1

    def _image(self, exposed_ns: int, number: int) -> None:
        self._probe.send_image(self._stamp(exposed_ns, number), number)
        self.images += 1

    def _packet(self, exposed_ns: int, number: int) -> None:
        self._probe.send_packet(exposed_ns - 20 * MS, number, stamp_ns=self._stamp(exposed_ns - 20 * MS, number))
        self.packets += 1

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
