"""A driver of both cameras as a process of its own, on the defaults of Fast DDS, with the hand that holds it."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from array import array

_WIDTH, _HEIGHT, _IMAGE_S, _PACKET_S, _EVENTS = 320, 240, 0.04, 0.01, 500


class DefaultDriver:
    """Publishes 25 images (225 KB) and 100 packets (4 KB) a second while told to, from one participant."""

    def __init__(self, domain_id: int) -> None:
        own = ('FASTDDS', 'FASTRTPS', 'RMW_FASTRTPS')
        environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        environment |= {'ROS_DOMAIN_ID': str(domain_id), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
        self._process = subprocess.Popen([sys.executable, __file__], env=environment, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)

    def tell(self, word: str = '') -> dict[str, int]:
        """``play`` or ``pause``, or nothing; how many ``images`` and ``packets`` were sent, and how many
        ``readers`` both have.
        """
        self._process.stdin.write(word + '\n')
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class _Cameras:
    """Both, each in a thread: a camera does not wait for the other."""

    def __init__(self) -> None:
        import numpy as np
        import rclpy
        from event_camera_msgs.msg import EventPacket
        from rclpy.qos import QoSProfile, QoSReliabilityPolicy
        from sensor_msgs.msg import Image

        from crossspec_ros.events.encode import encode_mono
        from crossspec_ros.events.types import Events
        rclpy.init()
        self._node = rclpy.create_node('driver')
        best_effort = QoSReliabilityPolicy.BEST_EFFORT
        self._publishers = {
            'images': self._node.create_publisher(Image, 'image', QoSProfile(depth=10, reliability=best_effort)),
            'packets': self._node.create_publisher(EventPacket, 'events',
                                                   QoSProfile(depth=1000, reliability=best_effort))}
        at = np.arange(_EVENTS, dtype=np.int64)
        events = Events(at * 18_000, (at % _WIDTH).astype(np.uint16), (at % _HEIGHT).astype(np.uint16),
                        (at % 2).astype(np.uint8), _WIDTH, _HEIGHT)
        self._image = Image(width=_WIDTH, height=_HEIGHT, encoding='rgb8', step=3 * _WIDTH,
                            data=array('B', bytes(3 * _WIDTH * _HEIGHT)))
        self._packet = EventPacket(width=_WIDTH, height=_HEIGHT, encoding='mono',
                                   events=array('B', encode_mono(events, 0).tobytes()))
        self.sent = {'images': 0, 'packets': 0}
        self.playing = threading.Event()
        for kind, publish, period_s in (('images', self._show, _IMAGE_S), ('packets', self._fire, _PACKET_S)):
            threading.Thread(target=self._run, args=(kind, publish, period_s), daemon=True).start()

    def _run(self, kind: str, publish: object, period_s: float) -> None:
        due_s = time.monotonic()
        while True:
            self.playing.wait()
            due_s = max(due_s + period_s, time.monotonic())     # what is late is sent, and nothing made up for
            time.sleep(max(0.0, due_s - time.monotonic()))
            publish(time.time_ns())
            self.sent[kind] += 1

    def _show(self, now_ns: int) -> None:
        self._image.header.stamp.sec, self._image.header.stamp.nanosec = divmod(now_ns, 10 ** 9)
        self._publishers['images'].publish(self._image)

    def _fire(self, now_ns: int) -> None:
        packet, begin_ns = self._packet, now_ns - round(_PACKET_S * 1e9)
        packet.header.stamp.sec, packet.header.stamp.nanosec = divmod(begin_ns, 10 ** 9)
        packet.time_base, packet.seq = begin_ns, self.sent['packets']
        self._publishers['packets'].publish(packet)

    def answer(self, word: str) -> dict[str, int]:
        if word == 'play':
            self.playing.set()
        elif word == 'pause':
            self.playing.clear()
            time.sleep(5 * _IMAGE_S)                            # what was due goes out
        return {**self.sent, 'readers': sum(each.get_subscription_count() for each in self._publishers.values())}


if __name__ == '__main__':
    cameras = _Cameras()
    for line in sys.stdin:
        print(json.dumps(cameras.answer(line.strip())), flush=True)
    os._exit(0)
