"""Over DDS: the player plays the topics it is told to; the verifier tells of a range that is used in part."""
from __future__ import annotations

import threading
import time
from array import array

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not here')
from graph_harness import MS, Graph  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from crossspec_ros.nodes import qos  # noqa: E402
from crossspec_ros.nodes.conversions import to_time  # noqa: E402
from crossspec_ros.recordings.bag import BagWriter, ImageFrame, rgb_frame  # noqa: E402


@pytest.fixture
def graph(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        yield graph


def _bag(path):
    depth = np.full(48 * 64, 1500, '<u2').view(np.uint8)
    with BagWriter(path) as bag:
        for at in range(10):
            stamp_ns = 1_000_000_000 + 50_000_000 * at
            bag.write_frame('/depth', stamp_ns, ImageFrame(stamp_ns, 'cam', '16UC1', 48, 64, 128, False, depth, False))
            colour = np.full((48, 64, 3), 20 * at, np.uint8)
            bag.write_frame('/color', stamp_ns, rgb_frame(stamp_ns, colour))
    return path


@pytest.mark.parametrize(('topics', 'encoding', 'told'), [
    pytest.param(None, 'rgb8', 'images are taken of /color', id='found'),
    pytest.param(['/depth'], '16UC1', 'taken as 12 bits', id='named')])
def test_player_plays_the_topic_and_says_which(topics, encoding, told, graph, tmp_path):
    encodings: set[str] = set()
    graph.probe.node.create_subscription(Image, 'image', lambda message: encodings.add(message.encoding), qos.image())
    named = {'topics': topics} if topics else {}
    process = graph.start('player', source=str(_bag(tmp_path / 'bag')), clock='sim', wait_for_subscribers=1,
                          drain_s=0.2, **named)
    assert process.wait(120) == 0
    graph.probe.wait_for(lambda: encodings, 'images')
    assert encodings == {encoding} and told in graph.processes.log('player')


def test_verifier_tells_of_12_bits_in_16_on_diagnostics_and_in_its_log(graph):
    probe = graph.probe
    graph.start('verifier', decode__max_new_tokens=4)
    probe.wait_for(lambda: probe.diagnostics.get('/verifier', {}).get('active') == 'True', 'an active verifier')
    pixels = np.linspace(500, 3000, 48 * 64).astype('<u2')
    done = threading.Event()

    def film():
        while not done.wait(0.05):
            message = Image(height=48, width=64, encoding='mono16', step=128)
            message.header.stamp = to_time(time.time_ns() // MS * MS)
            message.data = array('B', pixels.tobytes())
            probe.images.publish(message)
    thread = threading.Thread(target=film, daemon=True)
    thread.start()
    try:
        note = probe.wait_for(lambda: probe.diagnostics.get('/verifier', {}).get('pictures'), 'a note')
    finally:
        done.set()
        thread.join(10)
    assert 'mono16 uses 5% of its range' in note and 'taken as 12 bits' in note
    assert note in graph.processes.log('verifier')
