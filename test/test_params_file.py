"""Parameter files: rcl's forms, one check before the start, and that ROS itself reads them the same way."""
import re
import subprocess
import sys

import pytest
import yaml

from crossspec_ros import params_file
from crossspec_ros.config import NODES, parameters_of
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import check_params_file, declare, node_environment

FULL_NAMES = {name: f'/car/{name}' for name in NODES}
BODY = 'ros__parameters: {max_caption_age_ms: 1200.0}'


def write(folder, text):
    path = folder / 'p.yaml'
    path.write_text(text, encoding='utf-8')
    return path


@pytest.mark.parametrize('text', [
    pytest.param(f'/**: {{{BODY}}}', id='everything'), pytest.param(f'"**": {{{BODY}}}', id='everything, no slash'),
    pytest.param(f'/car/monitor: {{{BODY}}}', id='full name'),
    pytest.param(f'car/monitor: {{{BODY}}}', id='full name, no slash'),
    pytest.param(f'car: {{monitor: {{{BODY}}}}}', id='nested'),
    pytest.param(f'/car/**: {{{BODY}}}', id='namespace'), pytest.param(f'/car/*: {{{BODY}}}', id='one level'),
    pytest.param(f'/**/monitor: {{{BODY}}}', id='any namespace'),
    pytest.param(f'/*/monitor: {{{BODY}}}', id='any namespace of one level')])
def test_sections_match_the_nodes_that_rcl_gives_them_to(tmp_path, text):
    path = write(tmp_path, text)
    section, = params_file.sections(path)
    assert section.matches('/car/monitor') and section.values == {'max_caption_age_ms': 1200.0}
    assert params_file.read(path, FULL_NAMES) == {}
    assert rcl_reads(path, 'monitor', '/car') == {'max_caption_age_ms': 1200.0}
    wrong = write(tmp_path, text.replace('1200.0', '-1.0'))
    with pytest.raises(CrossSpecError, match=r'p\.yaml, .*max_caption_age_ms must be 0 to 3.6e\+06, got -1.0'):
        params_file.read(wrong, FULL_NAMES)


def rcl_reads(path, name, namespace):
    """What a real node of this name gets from a file."""
    code = f"""
import rclpy
from rclpy.node import Node
rclpy.init(args=['x', '--ros-args', '--params-file', {str(path)!r}])
node = Node({name!r}, namespace={namespace!r}, start_parameter_services=False)
print({{key: value.value for key, value in node._parameter_overrides.items()}})"""
    done = subprocess.run([sys.executable, '-c', code], env=node_environment(), capture_output=True, text=True,
                          timeout=120)
    return eval(done.stdout, {'inf': float('inf')}) if done.returncode == 0 else None    # noqa: S307 - a dict's repr


def test_values_have_the_types_that_rcl_gives_them(tmp_path):
    path = write(tmp_path, '/**:\n  ros__parameters:\n' + '\n'.join(f'    {line}' for line in (
        'a: 1e3', 'b: yes', 'c: 0x10', 'd: 010', 'e: 2020-01-01', "f: '5'", 'g: .inf', 'h: 1_000', 'i: y', 'j: [1, 2]',
        'k: [a, b]', 'l: Off', 'm: +5', 'n: 1.', 'o: .5', 'p: -3', 'q: null', 'r: {s.t: {u: 1}}', "v: ''", 'w: "on"',
        'x: 1.5e-3', 'y: [true, false]')) + '\n')
    section, = params_file.sections(path)
    expected = rcl_reads(path, 'any', '/')
    assert expected and {key: (type(value), value) for key, value in section.values.items()} == {
        key: (type(value), value) for key, value in expected.items()}


@pytest.mark.parametrize('text, told', [
    pytest.param('monitor:\n  ros_parameters:\n    a: 1\n', "p.yaml, monitor: must have its parameters under "
                 "ros__parameters, got 'ros_parameters'", id='wrong key'),
    pytest.param('monitor:\n  max_caption_age_ms: 1\n', "monitor: must have its parameters under ros__parameters, got "
                 "'max_caption_age_ms' outside", id='no key'),
    pytest.param('ros__parameters: {a: 1}\n', 'must stand under the name of a node', id='no node'),
    pytest.param('- a\n', 'must map names of nodes', id='list'), pytest.param('hello\n', 'got', id='text'),
    pytest.param('monitor:\n', 'must have its parameters under ros__parameters', id='nothing in a node'),
    pytest.param('/**:\n  ros__parameters:\n', 'got nothing', id='nothing under the key'),
    pytest.param('/**:\n  ros__parameters: [1]\n', 'got a list', id='a list under the key'),
    pytest.param('/**:\n  ros__parameters:\n    model.path:\n', 'model.path must have a value', id='no value'),
    pytest.param('/**:\n  ros__parameters:\n    a: [[1]]\n', 'a must be a value or a list of values', id='nested list'),
    pytest.param('/**:\n  x: 1\n  ros__parameters: {}\n', "'x' outside of it", id='beside the key'),
    pytest.param('a: &a {ros__parameters: {}}\n/**: *a\n', 'without aliases', id='alias'),
    pytest.param('/**:\n\tros__parameters: {}\n', 'must be YAML', id='tab'),
    pytest.param('/**: {ros__parameters: {max_caption_age: 1.0}}\n', 'did you mean max_caption_age_ms?', id='typo'),
    pytest.param('verifer: {ros__parameters: {}}\n', 'did you mean verifier?', id='typo in a node'),
    pytest.param('/**: {ros__parameters: {rate_hz: [1.0]}}\n', 'rate_hz must be float', id='list for a number'),
    pytest.param('/**: {ros__parameters: {prompt: 5}}\n', 'prompt must be str, got 5', id='number for a text'),
    pytest.param('/**: {ros__parameters: {use_sim_time: 1}}\n', 'use_sim_time must be bool', id='number for a bool'),
    pytest.param('/bus/*: {ros__parameters: {use_sim_time: true}}\n', 'none of them is in', id='another namespace'),
    pytest.param('/**/drafter: {ros__parameters: {window: {frames: 4}}}\n', 'stride_frames must be 1 to',
                 id='two that do not go together')])
def test_file_that_is_wrong_is_told_in_one_line(tmp_path, text, told):
    with pytest.raises(CrossSpecError, match=re.escape(told)) as error:
        params_file.read(write(tmp_path, text), FULL_NAMES)
    assert '\n' not in str(error.value) and 'p.yaml' in str(error.value)


@pytest.mark.parametrize('data', [pytest.param(b'\xff\xfe\x00', id='no UTF-8'), pytest.param(None, id='a folder')])
def test_file_that_cannot_be_read_is_told(tmp_path, data):
    path = tmp_path / 'p.yaml'
    path.mkdir() if data is None else path.write_bytes(data)
    with pytest.raises(CrossSpecError, match='params_file must be'):
        check_params_file(path)


@pytest.mark.parametrize('text', ['', '# nothing\n', '\ufeff/**: {ros__parameters: {}}\n', f'/**: {{{BODY}}}\r\n',
                                  'camera_driver: {ros__parameters: {gain: 3}}\n',
                                  f'/**: {{{BODY}}}\n---\n/**: {{ros__parameters: {{rate_hz: 5}}}}\n'],
                         ids=['empty', 'comment', 'BOM', 'CRLF', 'of another package', 'two documents'])
def test_file_that_is_harmless_is_taken(tmp_path, text):
    assert params_file.read(write(tmp_path, text), FULL_NAMES) == {}


def test_bare_name_reaches_the_node_in_its_namespace(tmp_path):
    path = write(tmp_path, 'monitor:\n  ros__parameters:\n    max_caption_age_ms: 1500\n')
    monitor = next(spec for spec in declare({'params_file': str(path), 'namespace': 'car'}) if spec.name == 'monitor')
    assert monitor.parameters['max_caption_age_ms'] == 1500


def test_section_that_no_node_gets_is_told(tmp_path, caplog):
    params_file.read(write(tmp_path, f'/bus/monitor: {{{BODY}}}'), FULL_NAMES)
    assert '/bus/monitor' in caplog.text and '/car/monitor' in caplog.text


def nested(values):
    """As `ros2 param dump` writes parameters: nested at every dot."""
    tree: dict = {}
    for name, value in values.items():
        *groups, last = name.split('.')
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return tree


@pytest.mark.parametrize('node', NODES)
def test_dumped_parameters_are_taken(tmp_path, node):
    values = {info.name: (list(info.default) or ['']) if isinstance(info.default, tuple) else info.default
              for info in parameters_of(NODES[node])}
    values |= {'use_sim_time': False, 'start_type_description_service': True,
               'qos_overrides./car/draft.publisher.depth': 5,
               'qos_overrides./clock.subscription.durability': 'volatile'}
    path = write(tmp_path, yaml.dump({f'/car/{node}': {'ros__parameters': nested(values)}}))
    assert params_file.read(path, FULL_NAMES) == {}
    declare({'params_file': str(path), 'namespace': 'car'})


def test_node_takes_a_whole_number_for_a_time_and_an_empty_list(tmp_path):
    path = write(tmp_path, '/**: {ros__parameters: {max_caption_age_ms: 1000, decode.stop_strings: []}}')
    code = f"""
from crossspec_ros.nodes import parameters, process
from crossspec_ros.config import MonitorConfig, VerifierConfig
from rclpy.node import Node
class Short(Node):
    finished = True
    def __init__(self):
        super().__init__('short')
        print(parameters.declare(self, MonitorConfig).max_caption_age_ms)
        self._parameters.clear(); self._descriptors.clear()
        print(parameters.declare(self, VerifierConfig).decode.stop_strings)
raise SystemExit(process.run(Short, ['--ros-args', '--params-file', {str(path)!r}]))"""
    done = subprocess.run([sys.executable, '-c', code], env=node_environment(), capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0 and done.stdout.split() == ['1000.0', '()'], done.stderr
