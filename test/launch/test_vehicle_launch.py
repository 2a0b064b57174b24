"""The vehicle's launch file, run by launch itself: its nodes come up and end cleanly. Needs launch_pytest."""
import time
from pathlib import Path

import pytest

from launch_hosts import need_executables

launch_pytest = pytest.importorskip('launch_pytest', reason='launch_pytest is not importable here')
launch = pytest.importorskip('launch', reason='launch is not importable here')
pytest.importorskip('launch_ros', reason='launch_ros is not importable here')

VEHICLE = Path(__file__).resolve().parents[2] / 'launch' / 'vehicle.launch.py'
NODES = {'/car/drafter', '/car/verifier', '/car/overlay', '/car/monitor'}
DOMAIN = 88


@launch_pytest.fixture
def vehicle(monkeypatch):
    """The graph without its models, in a namespace and on a domain of its own; what ends is noted in ``exits``."""
    need_executables()
    monkeypatch.setenv('ROS_DOMAIN_ID', str(DOMAIN))
    from launch.actions import IncludeLaunchDescription, RegisterEventHandler
    from launch.event_handlers import OnProcessExit
    from launch.launch_description_sources import AnyLaunchDescriptionSource
    exits: list[int] = []
    include = IncludeLaunchDescription(AnyLaunchDescriptionSource(str(VEHICLE)),
                                       launch_arguments=[('autostart', 'false'), ('namespace', 'car')])
    note = RegisterEventHandler(OnProcessExit(on_exit=lambda event, context: exits.append(event.returncode)))
    return launch.LaunchDescription([include, note, launch_pytest.actions.ReadyToTest()]), exits


@pytest.mark.launch(fixture=vehicle)
def test_vehicle_launch_brings_up_its_nodes_and_ends_them(vehicle):
    _, exits = vehicle
    assert wait_for_nodes(NODES, DOMAIN), 'not all nodes came up'
    assert exits == [], 'a node ended by itself'
    yield                                                        # launch shuts down here: SIGINT to every node
    assert len(exits) >= 4 and not any(exits)


def wait_for_nodes(wanted: set[str], domain_id: int, seconds: float = 90.0) -> bool:
    import rclpy
    from rclpy.node import Node
    from rclpy.signals import SignalHandlerOptions
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
    node = Node('looking_for_nodes', context=context)
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seen = {f'{namespace.rstrip("/")}/{name}' for name, namespace in node.get_node_names_and_namespaces()}
            if wanted <= seen:
                return True
            time.sleep(0.2)
        return False
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
