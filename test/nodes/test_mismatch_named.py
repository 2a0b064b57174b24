"""A publisher that does not match is named once its node is known, and after some seconds in any case."""
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed here')

from rclpy.qos import QoSProfile  # noqa: E402

from crossspec_ros.nodes.health import Health  # noqa: E402


class Node:
    """Knows the name of the node behind /draft after so many looks."""

    def __init__(self, known_after: int) -> None:
        self.known_after, self.looks, self.warned = known_after, 0, []

    def resolve_topic_name(self, topic):
        return f'/{topic}'

    def get_publishers_info_by_topic(self, topic):
        self.looks += 1
        name = 'camera' if self.looks > self.known_after else '_NODE_NAME_UNKNOWN_'
        return [SimpleNamespace(node_name=name, topic_type='pkg/msg/Draft', qos_profile=QoSProfile(depth=1))]

    def get_logger(self):
        return SimpleNamespace(warning=self.warned.append)


def ticked(node: Node, ticks: int) -> None:
    health = object.__new__(Health)
    health._node, health._watches, health._sources, health._told_ns = node, {}, [], {}
    health._steady = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))
    health._mismatched, health.counts, health.publish = {}, {}, lambda warnings: None
    health.count = lambda name, change=1: None
    health._incompatible('draft', 'a publisher', SimpleNamespace(total_count_change=1, last_policy_kind=16))
    for _ in range(ticks):
        health._tick()


@pytest.mark.parametrize('known_after, ticks, named', [(0, 1, True), (2, 3, True), (100, 6, False)])
def test_the_warning_waits_for_a_name_and_not_for_ever(known_after, ticks, named):
    node = Node(known_after)
    ticked(node, ticks - 1)
    assert node.warned == []
    node.looks = 0
    ticked(node, ticks + 3)
    assert len(node.warned) == 1 and ('camera (pkg/msg/Draft' in node.warned[0]) == named
