"""Two cameras, one verifier process, over real DDS: each has its own captions, and neither disturbs the other."""
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from event_camera_msgs.msg import EventPacket
from graph_harness import Graph
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from crossspec_ros.graph import declare
from crossspec_ros.msg import Caption, Draft
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import image_to, to_ns

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]
CAMERAS = ('front', 'left')


class Pair:
    """What a camera pair of the test publishes and what is heard of its captions."""

    def __init__(self, probe, name: str) -> None:
        self.name, self._probe = name, probe
        self.drafts: list[Draft] = []
        self.captions: list[Caption] = []
        probe.node.create_subscription(Draft, f'/crossspec/{name}/draft', self.drafts.append, qos.draft())
        probe.node.create_subscription(Caption, f'/crossspec/{name}/caption', self.captions.append, qos.caption())
        self.images = probe.publisher(Image, f'/{name}/camera/image_raw', qos.image())
        self.packets = probe.publisher(EventPacket, f'/{name}/event_camera/events', qos.events())
        self.plugged = True

    def final(self) -> list[Caption]:
        return [caption for caption in list(self.captions) if caption.stage == Caption.FINAL]

    def film(self, number: int) -> None:
        """A packet, and each third time a picture; the cameras see different things."""
        if not self.plugged:
            return
        now_ns = time.time_ns()
        self._probe.packets, before = self.packets, self._probe.packets
        self._probe.send_packet(now_ns - 20_000_000, number)
        self._probe.packets = before
        if number % 3 == 0:
            rgb = np.full((48, 64, 3), (number + 128 * CAMERAS.index(self.name)) % 256, np.uint8)
            self.images.publish(image_to(rgb, now_ns))

    def count(self, key: str) -> int:
        return self._probe.count(f'crossspec/{self.name}/verifier', key)


class Several(Graph):
    """The graph of two cameras, started by the commands of `declare`, without overlays and monitors."""

    def begin(self, **verifier: object) -> list[Pair]:
        specs = declare({'cameras': ' '.join(CAMERAS), 'model': self.models['verifier'],
                         'drafter_model': self.models['drafter']}, {'verifier': verifier})
        for spec in specs:
            if spec.name in ('drafter', 'verifier'):
                name = spec.full_name.strip('/').replace('/', '_')
                with open(self.processes.folder / f'{name}.log', 'ab') as log:
                    self.processes._running[name] = subprocess.Popen(
                        spec.command(), env=self.processes.environment, stdout=log, stderr=subprocess.STDOUT)
        self.pairs = [Pair(self.probe, name) for name in CAMERAS]
        return self.pairs

    def film_until(self, condition, what: str) -> None:
        """Both cameras run until the condition holds."""
        until, number = time.monotonic() + 120.0, 0
        while not condition():
            assert time.monotonic() < until, f'not within 120 s: {what}'
            for pair in self.pairs:
                pair.film(number)
            number += 1
            time.sleep(0.02)

    def audited(self, name: str) -> dict[str, int]:
        """Captions of a camera that were decoded again by the model alone, all that are kept."""
        def done() -> dict[str, int] | None:
            reply = self.probe.call(Trigger, f'/crossspec/{name}/verifier/audit', Trigger.Request())
            counts = json.loads(reply.message)
            return counts if counts['checked'] and not counts['pending'] else None
        return self.probe.wait_for(done, f'the audit of {name}')


def test_two_cameras_have_captions_of_their_own_and_one_survives_the_others_end(tmp_path, models):
    with Several(tmp_path, models) as graph:
        front, left = graph.begin(**{'decode.max_new_tokens': 12, 'audit.keep': True})
        graph.film_until(lambda: all(len([caption for caption in pair.final() if caption.mode == 'cross_modal']) >= 3
                                     for pair in graph.pairs), 'captions of both cameras that drafts helped with')
        for pair in graph.pairs:
            counts = graph.audited(pair.name)
            assert counts['checked'] >= 3 and counts['mismatched'] == 0
            assert all(caption.lossless for caption in pair.captions)

        graph.processes.kill('crossspec_front_drafter')
        mark = {pair: len(pair.final()) for pair in graph.pairs}
        graph.film_until(lambda: all(len(pair.final()) >= mark[pair] + 3 for pair in graph.pairs),
                         'captions of both after the drafter of one was killed')
        front.plugged = False
        graph.film_until(lambda: time.time_ns() - to_ns(front.final()[-1].header.stamp) > 4_000_000_000,
                         'the end of the windows of the camera that was unplugged')
        mark = {pair: len(pair.final()) for pair in graph.pairs}
        drafted = len(left.drafts)
        graph.film_until(lambda: len(left.final()) >= mark[left] + 3 and len(left.drafts) > drafted,
                         'captions of the camera that is left')
        assert len(front.final()) == mark[front]


@pytest.mark.long
def test_two_cameras_share_an_overloaded_model_evenly(tmp_path, models):
    with Several(tmp_path, models) as graph:
        # A window a frame, plain decoding: many more than can be answered.
        front, left = graph.begin(**{'decode.max_new_tokens': 90, 'decode.speculate': False,
                                     'window.stride_frames': 1})
        graph.film_until(lambda: all(pair.count('window_overtaken') >= 5 and pair.count('windows') >= 10
                                     for pair in graph.pairs), 'windows of both that were overtaken')
        turns = [pair.count('turns') for pair in graph.pairs]
        assert abs(turns[0] - turns[1]) <= 0.2 * sum(turns) + 3


def test_several_without_a_camera_says_what_is_missing():
    done = subprocess.run([sys.executable, '-m', 'crossspec_ros.nodes.several'], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 2 and '--camera' in done.stderr
