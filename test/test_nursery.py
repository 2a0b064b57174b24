"""Nodes forked by a process that has imported what they need: as if started with their own command."""
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from crossspec_ros import children, nursery as nurseries
from crossspec_ros.forker import command_of
from crossspec_ros.nursery import Nursery, SharedNursery, supported

pytestmark = pytest.mark.skipif(not supported(), reason='nodes are forked on Linux only')
NODE = '''
import os, signal, sys, time

def main():
    with open(sys.argv[1], 'w') as file:
        file.write(f'{os.getpid()} {" ".join(sys.argv[2:])} {LOADED}')
    if sys.argv[2] == 'sleep':
        time.sleep(600)
    if sys.argv[2] == 'raise':
        raise ValueError('no such node')
    if sys.argv[2] == 'exit':
        sys.exit(3)
    return int(sys.argv[2])

LOADED = os.getpid()
if __name__ == '__main__':
    sys.exit(main())
'''
WAITING = '''
import os, time
while not os.path.exists({file!r}):
    time.sleep(0.02)
'''


@pytest.fixture
def place(tmp_path):
    (tmp_path / 'small_node.py').write_text(NODE)
    return tmp_path


@pytest.fixture
def nursery(place):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(place), os.environ.get('PYTHONPATH', '')])}
    with Nursery(environment, ['small_node']) as made:
        yield made


def command(place, *words: str) -> list[str]:
    return [sys.executable, '-m', 'small_node', str(place / 'said'), *words]


def wait_for(condition, seconds: float = 60.0):
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, 'did not happen in time'
        time.sleep(0.02)
    return value


def test_node_is_forked_with_its_own_arguments_and_what_is_imported(nursery, place):
    node = nursery.start(command(place, '7', '--ros-args'))
    assert node.wait(60) == 7 and node.poll() == 7 and node.returncode == 7
    assert (place / 'said').read_text() == f'{node.pid} 7 --ros-args {nursery.pid}'


@pytest.mark.parametrize('word, code', [('exit', 3), ('raise', 1), ('0', 0)])
def test_node_ends_with_its_own_exit_code(nursery, place, word, code):
    assert nursery.start(command(place, word)).wait(60) == code


@pytest.mark.parametrize('sign, code', [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM),
                                        (signal.SIGINT, 1)])
def test_node_that_is_signalled_is_told_of_and_the_next_one_comes(nursery, place, sign, code):
    node = nursery.start(command(place, 'sleep'))
    with pytest.raises(subprocess.TimeoutExpired):
        node.wait(0.05)
    wait_for((place / 'said').exists)
    assert ' -m small_node ' in ' '.join([*psutil.Process(node.pid).cmdline(), ''])     # however it is split
    node.send_signal(sign)
    assert node.wait(60) == code
    node.send_signal(sign)                                      # nobody is hit
    assert nursery.start(command(place, '5')).wait(60) == 5


def test_nodes_end_with_the_process_that_forked_them_and_it_comes_back(nursery, place):
    first, node = nursery.pid, nursery.start(command(place, 'sleep'))
    os.kill(first, signal.SIGKILL)
    assert node.wait(60) < 0 and not psutil.pid_exists(node.pid)
    wait_for(lambda: nursery.revive() or nursery.pid != first)
    assert nursery.start(command(place, '4')).wait(60) == 4


def test_nodes_end_with_their_asker(nursery, place):
    node = nursery.start(command(place, 'sleep'))
    wait_for((place / 'said').exists)
    nursery.close()
    node._connection.close()
    wait_for(lambda: not psutil.pid_exists(node.pid))


def test_another_command_is_started_as_always(nursery):
    process = nursery.start([sys.executable, '-c', 'raise SystemExit(6)'])
    assert isinstance(process, subprocess.Popen) and process.wait(60) == 6


@pytest.fixture
def shared(place):
    """A process that serves whoever knows its name, and that name."""
    for module, file in (('before', 'asked'), ('after', 'go')):
        (place / f'{module}.py').write_text(WAITING.format(file=str(place / file)))
    name = secrets.token_hex(8)
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(place), os.environ.get('PYTHONPATH', '')])}
    process = children.start(command_of(['no_such_module', 'before', 'small_node', 'after'], name), environment)
    try:
        yield process, name
    finally:
        children.end([process], 10.0)


def test_who_knows_the_name_gets_nodes_of_one_process_which_ends_after_them(shared, place):
    process, name = shared
    for file in ('asked', 'go'):
        (place / file).touch()
    nodes = [SharedNursery(os.environ, name).start(command(place, 'sleep')) for _ in range(2)]
    wait_for((place / 'said').exists)
    assert {psutil.Process(node.pid).ppid() for node in nodes} == {process.pid}
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    codes = {}
    for node, sign in zip(nodes, (signal.SIGTERM, signal.SIGKILL)):
        node.send_signal(sign)
        codes[sign] = node.wait(60)
    assert codes == {signal.SIGTERM: -signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}
    assert process.wait(60) == 0


def test_a_node_waits_for_its_own_imports_only(shared, place, monkeypatch):
    process, name = shared
    send = socket.send_fds

    def ask(*args):
        send(*args)
        (place / 'asked').touch()                               # it is asked for before its imports begin

    monkeypatch.setattr(nurseries.socket, 'send_fds', ask)
    node = SharedNursery(os.environ, name).start(command(place, '8'))
    wait_for(lambda: (place / 'said').exists() and (place / 'said').read_text() == f'{node.pid} 8 {process.pid}')
    (place / 'go').touch()
    assert node.wait(60) == 8


def test_where_nobody_has_the_name_nodes_are_started_as_always(monkeypatch, place):
    monkeypatch.setattr(nurseries, '_FIND_TIMEOUT_S', 0.1)
    asked = SharedNursery({**os.environ, 'PYTHONPATH': str(place)}, secrets.token_hex(8))
    node = asked.start(command(place, '9'))
    assert isinstance(node, subprocess.Popen) and node.wait(60) == 9
