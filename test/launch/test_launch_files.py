"""The launch files, with the launch system where it is importable: what they declare, and that they really run."""
import importlib.util
import shlex
from pathlib import Path

import pytest
import yaml

from crossspec_ros.nursery import supported
from launch_hosts import need_executables

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
            found |= {action.node_executable: action for action in entity.execute(context)
                      if hasattr(action, 'node_executable')}
    return found


def started_as(action) -> list[str]:
    """The command line of a node action, without starting it."""
    context = launch.LaunchContext()
    action._perform_substitutions(context)
    context.extend_locals({'ros_specific_arguments': {'name': '__node:=NAME', 'ns': '__ns:=NAMESPACE'}})
    return [''.join(part.perform(context) for part in word) for word in action.cmd]


@pytest.mark.parametrize('name, given, expected', [
    pytest.param('vehicle.launch.py', {}, ['drafter', 'monitor', 'overlay', 'verifier'], id='vehicle'),
    pytest.param('vehicle.launch.py', {'qualifier': 'builtin'},
                 ['drafter', 'monitor', 'overlay', 'qualifier', 'verifier'], id='vehicle with a qualifier'),
    pytest.param('replay.launch.py', {'bag': 'world:1'}, ['drafter', 'monitor', 'overlay', 'player', 'verifier'],
                 id='replay'),
    pytest.param('demo.launch.py', {}, ['drafter', 'monitor', 'overlay', 'player', 'verifier'], id='demo')])
def test_launch_file_starts_the_declared_nodes(name, given, expected):
    assert sorted(nodes_of(load(name), **given)) == expected


@pytest.mark.parametrize('role, expected', [
    pytest.param('edge', ['drafter', 'monitor', 'overlay'], id='edge'),
    pytest.param('server', ['verifier'], id='server')])
def test_launch_file_starts_the_half_of_its_machine(role, expected):
    assert sorted(nodes_of(load('vehicle.launch.py'), role=role)) == expected


def test_launch_file_with_cameras_gives_one_process_the_verifiers_of_all():
    action = nodes_of(load('vehicle.launch.py'), cameras='front,left', image_transport='compressed')['several']
    command = started_as(action)
    assert command[1:7] == ['--camera', '/crossspec/front', '/front/camera/image_raw',
                            '--camera', '/crossspec/left', '/left/camera/image_raw']
    assert not any('__node:=' in word or '__ns:=' in word for word in command)
    files = [command[place + 1] for place, word in enumerate(command) if word == '--params-file']
    # For all of the process: names of a node would fit none of them.
    assert yaml.safe_load(Path(files[-1]).read_text())['/**']['ros__parameters']['image_transport'] == 'compressed'


def test_launch_file_secure_gives_each_process_its_enclave():
    for name, action in nodes_of(load('vehicle.launch.py'), secure='true').items():
        command = started_as(action)
        assert command[command.index('--enclave') + 1] == f'/crossspec/{name}'


@pytest.mark.parametrize('name', FILES)
def test_launch_file_has_every_argument_of_the_graph(name):
    from crossspec_ros.graph import ARGUMENTS
    given = {argument.name for argument in load(name).get_launch_arguments()}
    assert given == {argument.name for argument in ARGUMENTS}


@pytest.mark.skipif(not supported(), reason='nodes are forked on Linux only')
@pytest.mark.parametrize('given, looked_after', [
    pytest.param({}, {'drafter', 'verifier'}, id='vehicle'),
    pytest.param({'role': 'server', 'cameras': 'front,left'}, {'several'}, id='one verifier of several cameras'),
    pytest.param({'respawn': 'false'}, set(), id='without respawn'),
    pytest.param({'launch-prefix': 'nice'}, set(), id='with a prefix of the user\'s own')])
def test_launch_file_has_nodes_with_models_looked_after(given, looked_after):
    need_executables()
    prefixes = {}
    for name, action in nodes_of(load('vehicle.launch.py'), respawn_delay='0.5', **given).items():
        context = launch.LaunchContext()
        context.launch_configurations.update(given)
        prefix = action.process_description.prefix
        prefixes[name] = shlex.split(''.join(part.perform(context) for part in prefix))
    own = {name: words for name, words in prefixes.items() if 'crossspec_ros.launched' in words}
    assert set(own) == looked_after
    assert all(words[-4:-2] == ['-m', 'crossspec_ros.launched'] and words[-1] == '0.5' for words in own.values())
    assert len({words[-2] for words in own.values()}) <= 1      # they ask one process


def test_launch_file_wrong_argument_is_told():
    from crossspec_ros.errors import CrossSpecError
    with pytest.raises(CrossSpecError, match='params_file must be readable'):
        nodes_of(load('vehicle.launch.py'), params_file='/nowhere.yaml')
