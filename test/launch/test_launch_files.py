"""The launch files, with the launch system where it is importable: what they declare, and that they really run."""
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import pytest

launch = pytest.importorskip('launch', reason='launch is not importable here')
pytest.importorskip('launch_ros', reason='launch_ros is not importable here')

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
FILES = ('vehicle.launch.py', 'replay.launch.py', 'demo.launch.py')


def load(name: str) -> 'launch.LaunchDescription':
    spec = importlib.util.spec_from_file_location(name.replace('.', '_'), LAUNCH / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def nodes_of(description: 'launch.LaunchDescription', **given: str) -> dict[str, object]:
    """Node actions by executable, as they would be started for these arguments."""
    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    context = launch.LaunchContext()
    context.launch_configurations.update(given)
    found = {}
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument) and entity.name not in given:
            entity.execute(context)
        if isinstance(entity, OpaqueFunction):
            found |= {action.node_executable: action for action in entity.execute(context)}
    return found


@pytest.mark.parametrize('name, given, expected', [
    pytest.param('vehicle.launch.py', {}, ['drafter', 'monitor', 'overlay', 'verifier'], id='vehicle'),
    pytest.param('replay.launch.py', {'bag': 'world:1'}, ['drafter', 'monitor', 'overlay', 'player', 'verifier'], id='replay'),
    pytest.param('demo.launch.py', {}, ['drafter', 'monitor', 'overlay', 'player', 'verifier'], id='demo')])
def test_launch_file_starts_the_declared_nodes(name, given, expected):
    assert sorted(nodes_of(load(name), **given)) == expected


@pytest.mark.parametrize('name', FILES)
def test_launch_file_has_every_argument_of_the_graph(name):
    from crossspec_ros.graph import ARGUMENTS
    assert {argument.name for argument in load(name).get_launch_arguments()} == {argument.name for argument in ARGUMENTS}


def test_launch_file_wrong_argument_is_told():
    from crossspec_ros.errors import CrossSpecError
    with pytest.raises(CrossSpecError, match='params_file must be readable'):
        nodes_of(load('vehicle.launch.py'), params_file='/nowhere.yaml')


def test_launch_file_runs_and_ends_with_its_nodes():
    """The vehicle's graph without its models: four nodes come up under the namespace and end with 0 on SIGINT."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    try:
        prefix = get_package_prefix('crossspec_ros')
    except PackageNotFoundError:
        pytest.skip('crossspec_ros is not installed in a prefix that AMENT_PREFIX_PATH names')
    if not os.access(Path(prefix, 'lib', 'crossspec_ros', 'monitor'), os.X_OK):
        pytest.skip(f'{prefix} holds no executables of crossspec_ros')
    import subprocess
    program = ('import sys; from launch import LaunchService; from launch.launch_description_sources import '
               'AnyLaunchDescriptionSource as Source; from launch.actions import IncludeLaunchDescription as Include\n'
               'service = LaunchService()\n'
               'service.include_launch_description(__import__("launch").LaunchDescription([Include(Source(sys.argv[1]), '
               'launch_arguments=[("autostart", "false"), ("namespace", "car")])]))\n'
               'sys.exit(service.run())')
    environment = os.environ | {'ROS_DOMAIN_ID': '88', 'PYTHONUNBUFFERED': '1'}
    process = subprocess.Popen([sys.executable, '-c', program, str(LAUNCH / 'vehicle.launch.py')], env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        names = wait_for_nodes({'/car/drafter', '/car/verifier', '/car/overlay', '/car/monitor'}, 88)
        process.send_signal(signal.SIGINT)
        log, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert names and process.returncode == 0, log
    assert log.count('process has finished cleanly') == 4, log


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
