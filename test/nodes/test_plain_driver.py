"""A driver on Fast DDS's defaults, without a profile of ours: what the death of one node costs the others."""
import subprocess
import sys
import time

import pytest

pytest.importorskip('crossspec_ros.msg', reason='the messages are not built')
from graph_harness import Graph  # noqa: E402 - only where there are messages

from crossspec_ros import children  # noqa: E402
from crossspec_ros.msg import FrameLatency  # noqa: E402
from crossspec_ros.nodes import qos  # noqa: E402

pytestmark = [pytest.mark.graph, pytest.mark.timeout(400)]
# Images and packets of one participant, best effort, each third image told on stdout.
DRIVER = '''
import array, time
import rclpy
from event_camera_msgs.msg import EventPacket
from sensor_msgs.msg import Image
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import to_time

rclpy.init()
node = rclpy.create_node('driver')
image = Image(height=120, width=160, encoding='rgb8', step=480, data=array.array('B', bytes(57600)))
packet = EventPacket(encoding='mono', width=4, height=4, events=array.array('B', bytes(20000)))
images = node.create_publisher(Image, 'image', qos.image())
packets = node.create_publisher(EventPacket, 'events', qos.events())
begin, number = time.monotonic(), 0
while True:
    image.header.stamp = packet.header.stamp = to_time(time.time_ns())
    images.publish(image)
    packets.publish(packet)
    number += 1
    if number % 3 == 0:
        print(number, flush=True)
    time.sleep(max(0.0, begin + 0.04 * number - time.monotonic()))
'''


def test_a_killed_node_costs_the_others_no_images(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        told: list[FrameLatency] = []
        graph.probe.node.create_subscription(
            FrameLatency, 'frame_latency', lambda message: message.input == 'image' and told.append(message),
            qos.frame_latency())
        for node in ('drafter', 'verifier'):
            graph.start(node)
        for node in ('drafter', 'verifier'):
            graph.probe.wait_for(lambda: graph.probe.diagnostics.get(f'/{node}', {}).get('active') == 'True', node)
        plain = {name: value for name, value in graph.processes.environment.items()
                 if name != 'FASTDDS_DEFAULT_PROFILES_FILE'}
        driver = children.start([sys.executable, '-c', DRIVER], plain, stdout=subprocess.DEVNULL)
        try:
            graph.probe.wait_for(lambda: told and told[-1].received > 50 and told[-1], 'images')
            graph.probe.wait_for(lambda: graph.probe.count('drafter', 'packets_received') > 50, 'packets')
            before = told[-1]
            graph.processes.kill('drafter')
            time.sleep(1.0)
            graph.probe.wait_for(lambda: told[-1].received - before.received > 250, 'images after the kill')
            lost, received = told[-1].lost - before.lost, told[-1].received - before.received
        finally:
            children.end([driver], 10.0)
    print(f'{lost} of {lost + received} images lost after the kill')
    assert lost <= received // 20                               # a third of them over shared memory alone
