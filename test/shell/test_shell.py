"""The table of variables: what is refused, what is turned, and that ROS 2 then starts, in real processes."""
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.shell import explain, look, probe, settle
from crossspec_ros.shell import foreign
from crossspec_ros.shell.table import TURNED

ROOT = Path(__file__).resolve().parents[2]
# A node as the package's own processes make it: the shell is settled by importing the room.
MAKE_NODE = """
from crossspec_ros.nodes import process
from rclpy.node import Node
class Short(Node):
    finished = True
    def __init__(self):
        super().__init__('short')
sys_exit = process.run(Short)
print('exit', sys_exit)
"""


def environment(**variables: str | None) -> dict[str, str]:
    """This process' own, with the package importable, and these variables."""
    found = {**os.environ, 'PYTHONPATH': str(ROOT), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    found.pop('RMW_IMPLEMENTATION', None)
    for name, value in variables.items():
        found.pop(name, None)
        if value is not None:
            found[name] = value
    return found


def child(code: str, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], env=env, cwd=cwd, capture_output=True, text=True, timeout=120)


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe_socket:
        probe_socket.bind(('127.0.0.1', 0))
        return probe_socket.getsockname()[1]


BAD = [
    pytest.param('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp', 'rmw_fastrtps_cpp', id='a middleware that is not here'),
    pytest.param('RMW_IMPLEMENTATION', 'fastrtps', 'rmw_fastrtps_cpp', id='no name of a middleware'),
    pytest.param('ROS_DOMAIN_ID', 'abc', '0 to 232', id='domain no number'),
    pytest.param('ROS_DOMAIN_ID', '300', '0 to 232', id='domain without ports'),
    pytest.param('ROS_DOMAIN_ID', '-1', '0 to 232', id='domain negative'),
    pytest.param('ROS_DOMAIN_ID', '1.5', '0 to 232', id='domain a fraction'),
    pytest.param('ROS_DOMAIN_ID', ' ', '0 to 232', id='domain blank'),
    pytest.param('ROS_AUTOMATIC_DISCOVERY_RANGE', 'NONSENSE', 'SUBNET', id='range'),
    pytest.param('ROS_AUTOMATIC_DISCOVERY_RANGE', 'localhost', 'LOCALHOST', id='range in small letters'),
    pytest.param('ROS_LOCALHOST_ONLY', 'yes', '0 or 1', id='localhost only'),
    pytest.param('ROS_STATIC_PEERS', 'no host;127.0.0.1', 'no host', id='peer'),
    pytest.param('ROS_DISCOVERY_SERVER', 'no host:11811', 'has no address', id='server without address'),
    pytest.param('ROS_DISCOVERY_SERVER', '127.0.0.1:99999', '1 to 65535', id='server with a wrong port'),
    pytest.param('FASTDDS_DEFAULT_PROFILES_FILE', '{folder}/none.xml', 'No such file', id='profile absent'),
    pytest.param('FASTDDS_DEFAULT_PROFILES_FILE', '{folder}', 'directory', id='profile a folder'),
    pytest.param('FASTRTPS_DEFAULT_PROFILES_FILE', '{folder}/bad.xml', 'no element', id='profile no XML'),
    pytest.param('FASTDDS_ENVIRONMENT_FILE', '{folder}/bad.xml', 'JSON', id='environment file'),
    pytest.param('FASTDDS_BUILTIN_TRANSPORTS', 'FAST', 'LARGE_DATA', id='transports'),
    pytest.param('PYTHONOPTIMIZE', '2', '0 or 1', id='docstrings away'),
    pytest.param('PYTHONPATH', '{folder}/other', 'rclpy', id='packages of another Python'),
]


@pytest.mark.parametrize('name, value, told', BAD)
def test_settle_refuses_in_one_line_that_names_the_variable(tmp_path, name, value, told):
    (tmp_path / 'bad.xml').write_text('')
    (tmp_path / 'other' / 'rclpy').mkdir(parents=True)
    (tmp_path / 'other' / 'rclpy' / '__init__.py').write_text('import rclpy._rclpy_pybind11')
    with pytest.raises(CrossSpecError) as error:
        settle(environment(**{name: value.format(folder=tmp_path)}))
    text = str(error.value)
    assert text.startswith(name) and ' must ' in text and told in text and '\n' not in text and '; ' in text


@pytest.mark.parametrize('name, value', [
    pytest.param('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp', id='middleware'),
    pytest.param('RMW_IMPLEMENTATION', '', id='middleware empty'),
    pytest.param('ROS_DOMAIN_ID', '232', id='domain'), pytest.param('ROS_DOMAIN_ID', '', id='domain empty'),
    pytest.param('ROS_STATIC_PEERS', '127.0.0.1;localhost', id='peers'),
    pytest.param('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET', id='range'),
    pytest.param('FASTDDS_DEFAULT_PROFILES_FILE', str(ROOT / 'config' / 'fastdds.xml'), id='profile'),
    pytest.param('CYCLONEDDS_URI', '/none.xml', id='a profile of another middleware'),
    pytest.param('OMP_NUM_THREADS', '4,2', id='threads by level'),
    pytest.param('PYTHONPATH', '/none:', id='a path that is not there')])
def test_settle_says_nothing_of_what_works(name, value):
    said = []
    settle(environment(**{name: value}), say=said.append)
    assert not said


@pytest.mark.parametrize('uri, told', [
    pytest.param('<CycloneDDS><Domain/></CycloneDDS>', None, id='XML'),
    pytest.param('<Domain>', 'XML', id='broken XML'),
    pytest.param('file://{folder}/good.xml', None, id='address'),
    pytest.param('{folder}/good.xml,{folder}/none.xml', 'No such file', id='list with an absent one')])
def test_profile_of_cyclone_is_read_where_cyclone_is_used(tmp_path, uri, told):
    (tmp_path / 'good.xml').write_text('<CycloneDDS/>')
    found = look(environment(RMW_IMPLEMENTATION='rmw_cyclonedds_cpp', CYCLONEDDS_URI=uri.format(folder=tmp_path)))
    texts = [each.text for each in found if each.variable == 'CYCLONEDDS_URI']
    assert not texts if told is None else told in texts[0]


def test_security_that_is_enforced_needs_a_keystore(tmp_path):
    secure = {'ROS_SECURITY_ENABLE': 'true', 'ROS_SECURITY_STRATEGY': 'Enforce'}
    with pytest.raises(CrossSpecError, match='ROS_SECURITY_KEYSTORE must be a keystore'):
        settle(environment(**secure, ROS_SECURITY_KEYSTORE=str(tmp_path)))
    (tmp_path / 'enclaves').mkdir()
    settle(environment(**secure, ROS_SECURITY_KEYSTORE=str(tmp_path)))


@pytest.mark.parametrize('form', ['127.0.0.1:{port}', ';127.0.0.1:{port}', 'UDPv4:[127.0.0.1]:{port}',
                                  'TCPv4:[127.0.0.1]:{port}', 'localhost:{port}'])
def test_discovery_server_that_is_off_is_refused(form):
    tcp = form.startswith('TCP')
    text = form.format(port=free_port(socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM))
    with pytest.raises(CrossSpecError, match='ROS_DISCOVERY_SERVER must name a discovery server that runs'):
        settle(environment(ROS_DISCOVERY_SERVER=text))


def test_discovery_server_that_is_there_or_one_of_two_is_taken():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
        settle(environment(ROS_DISCOVERY_SERVER=f'127.0.0.1:{port}'))
        settle(environment(ROS_DISCOVERY_SERVER=f'127.0.0.1:{free_port()};127.0.0.1:{port}'))


def test_own_graph_leaves_aside_how_others_are_found():
    said, env = [], environment(ROS_DISCOVERY_SERVER=f'127.0.0.1:{free_port()}', ROS_DOMAIN_ID='abc',
                                ROS_AUTOMATIC_DISCOVERY_RANGE='NONSENSE', ROS_STATIC_PEERS='no host')
    settle(env, own_graph=True, say=said.append)
    assert not {'ROS_DISCOVERY_SERVER', 'ROS_DOMAIN_ID', 'ROS_STATIC_PEERS'} & set(env)
    assert [text.split()[0] for text in said] == ['ROS_DISCOVERY_SERVER', 'ROS_STATIC_PEERS']


LOGS = [pytest.param({'HOME': '/proc/nowhere'}, id='HOME'), pytest.param({'HOME': None}, id='no HOME'),
        pytest.param({'ROS_HOME': '/proc/nowhere'}, id='ROS_HOME'),
        pytest.param({'ROS_LOG_DIR': '/proc/nowhere/log'}, id='ROS_LOG_DIR'),
        pytest.param({'ROS_LOG_DIR': __file__}, id='a file')]


@pytest.mark.parametrize('variables', LOGS)
def test_node_starts_where_logs_cannot_be_written_and_says_where_they_go(variables):
    done = child(MAKE_NODE, environment(**{'ROS_LOG_DIR': None, 'ROS_HOME': None, **variables}))
    assert done.stdout.splitlines()[-1] == 'exit 0', done.stderr
    assert 'logs of ROS go to' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize('name, value', [
    pytest.param('RCUTILS_COLORIZED_OUTPUT', 'yes', id='colours'),
    pytest.param('RCUTILS_LOGGING_USE_STDOUT', 'true', id='stdout'),
    pytest.param('RCUTILS_LOGGING_BUFFERED_STREAM', '2', id='buffered'),
    pytest.param('RCUTILS_CONSOLE_OUTPUT_FORMAT', '[{severity}]', id='no message in the format'),
    pytest.param('RMW_FASTRTPS_PUBLICATION_MODE', 'FAST', id='publication mode'),
    pytest.param('OMP_NUM_THREADS', 'all', id='threads'), pytest.param('NUMBA_NUM_THREADS', '0', id='no thread')])
def test_settle_leaves_out_what_a_library_would_stumble_over(name, value):
    said, env = [], environment(**{name: value})
    assert [found.kind for found in look(env)] == [TURNED]
    settle(env, say=said.append)
    assert name not in env and len(said) == 1 and said[0].startswith(name)
    assert not look(env)


@pytest.mark.parametrize('name, value', [
    pytest.param('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp', id='middleware'),
    pytest.param('ROS_DOMAIN_ID', 'abc', id='domain'),
    pytest.param('ROS_STATIC_PEERS', 'no host', id='peer')])
def test_node_as_a_program_ends_with_one_line(name, value):
    for command in (['-m', 'crossspec_ros.nodes.monitor'], [str(ROOT / 'scripts' / 'nodes' / 'monitor')]):
        done = subprocess.run([sys.executable, *command], env=environment(**{name: value}), capture_output=True,
                              text=True, timeout=120)
        assert done.returncode == 2 and done.stderr.count('\n') == 1 and name in done.stderr, done.stderr


@pytest.mark.parametrize('arguments, told', [
    pytest.param(['-r', '__ns:=/a b'], 'a b', id='namespace'),
    pytest.param(['--params-file', '/none'], 'none', id='file'),
    pytest.param(['--bogus'], 'bogus', id='unknown argument')])
def test_node_says_in_one_line_what_ros_has_against_its_arguments(arguments, told):
    done = subprocess.run([sys.executable, '-m', 'crossspec_ros.nodes.monitor', '--ros-args', *arguments],
                          env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith('error: ROS 2 does not start here: ') and told in line


@pytest.mark.parametrize('source', [
    pytest.param('raise ImportError("C extensions of another Python")', id='import'),
    pytest.param('raise ModuleNotFoundError("No module named \'numpy._x\'", name="numpy._x")', id='module'),
    pytest.param('print "python 2"', id='another syntax'),
    pytest.param('unknown_name', id='any error')])
def test_error_of_a_package_on_the_path_names_the_path(tmp_path, source):
    (tmp_path / 'rosbags').mkdir()
    (tmp_path / 'rosbags' / '__init__.py').write_text(source)
    code = f'import sys; sys.path.append({str(ROOT)!r}); from crossspec_ros.cli import main; sys.exit(main())'
    done = subprocess.run([sys.executable, '-c', code, 'bag', 'info', '/none'], capture_output=True, text=True,
                          env=environment(PYTHONPATH=str(tmp_path)), timeout=120)
    assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
    assert 'PYTHONPATH' in done.stderr and str(tmp_path) in done.stderr and 'rosbags' in done.stderr


def test_explain_leaves_errors_of_this_package_alone():
    try:
        raise ValueError('ours')
    except ValueError as error:
        assert explain(error, {'PYTHONPATH': str(ROOT)}) is None
        assert explain(error, {'PYTHONPATH': str(Path(__file__).parent)}) is None           # it ran, it was imported


def test_explain_tells_of_a_library_that_is_not_found():
    error = ImportError('librcl.so: cannot open shared object file: No such file or directory')
    assert 'LD_LIBRARY_PATH' in explain(error, {})


def test_probe_tells_how_a_child_ended(monkeypatch):
    assert probe('print(1)') == ('1\n', '')
    assert probe('raise SystemExit(7)') == (None, 'exit code 7')
    assert probe('import os; os.abort()')[0] is None
    monkeypatch.setattr(foreign, '_PROBE_S', 0.2)
    assert 'no answer' in probe('import time; time.sleep(60)')[1]


def test_nodes_do_not_import_from_the_current_folder(tmp_path):
    from crossspec_ros.graph import node_command, node_environment
    (tmp_path / 'rclpy').mkdir()
    (tmp_path / 'rclpy' / '__init__.py').write_text('raise SystemExit("imported from here")')
    if sys.version_info < (3, 11):
        pytest.skip('Python 3.10 always looks into the current folder')
    done = subprocess.run([*node_command('monitor'), '--ros-args', '-p', 'max_draft_age_ms:=-1.0'], cwd=tmp_path,
                          env=node_environment(environment()), capture_output=True, text=True, timeout=120)
    assert 'imported from here' not in done.stderr and 'max_draft_age_ms' in done.stderr


def test_node_interrupted_amid_its_imports_ends_without_a_word(tmp_path):
    (tmp_path / 'rosgraph_msgs').mkdir()
    (tmp_path / 'std_msgs').mkdir()
    for name in ('rosgraph_msgs', 'std_msgs'):
        (tmp_path / name / '__init__.py').write_text('import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n')
    done = subprocess.run([sys.executable, '-m', 'crossspec_ros.nodes.drafter'], capture_output=True, text=True,
                          env=environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])), timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_output_that_a_terminal_cannot_show_is_escaped():
    code = f'import sys; sys.path.insert(0, {str(ROOT)!r})\n' + (
        'from crossspec_ros.shell import settle_streams; settle_streams(); print("caf\\u00e9")')
    done = child(code, environment(PYTHONIOENCODING='ascii'))
    assert done.returncode == 0 and done.stdout == 'caf\\xe9\n'
