"""The launch files, with the launch system where it is importable: what they declare, and that they really run."""
import importlib.util
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
    pytest.param('replay.launch.py', {'bag': 'world:1'}, ['drafter', 'monitor', 'overlay', 'player', 'verifier'],
                 id='replay'),
    pytest.param('demo.launch.py', {}, ['drafter', 'monitor', 'overlay', 'player', 'verifier'], id='demo')])
def test_launch_file_starts_the_declared_nodes(name, given, expected):
    assert sorted(nodes_of(load(name), **given)) == expected


@pytest.mark.parametrize('name', FILES)
def test_launch_file_has_every_argument_of_the_graph(name):
    from crossspec_ros.graph import ARGUMENTS
    given = {argument.name for argument in load(name).get_launch_arguments()}
    assert given == {argument.name for argument in ARGUMENTS}


def test_launch_file_wrong_argument_is_told():
    from crossspec_ros.errors import CrossSpecError
    with pytest.raises(CrossSpecError, match='params_file must be readable'):
        nodes_of(load('vehicle.launch.py'), params_file='/nowhere.yaml')
