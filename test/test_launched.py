"""A node as launch files start it, without launch: looked after by one process, forked by another."""
from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

pytest.importorskip('crossspec_ros.msg', reason='the messages are not built')

from crossspec_ros import children  # noqa: E402 - only where there are messages
from crossspec_ros.children import FOLLOWED  # noqa: E402
from crossspec_ros.forker import command_of  # noqa: E402
from crossspec_ros.graph import node_environment  # noqa: E402
from crossspec_ros.launched import command_before  # noqa: E402
from crossspec_ros.nursery import supported  # noqa: E402

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(not supported(), reason='nodes are forked on Linux only')]
DOMAIN = 89
ARGUMENTS = ['--ros-args', '-r', '__node:=watcher', '-r', '__ns:=/a']
LAUNCH = '''
import json, os, subprocess, sys, time
os.environ[sys.argv[1]] = str(os.getpid())
for command in json.loads(sys.argv[2]):
    subprocess.Popen(command)
time.sleep(600)
'''


@pytest.fixture(scope='module')
def environment() -> dict[str, str]:
    return node_environment(domain_id=DOMAIN) | {'PYTHONSAFEPATH': '1'}


@pytest.fixture(scope='module')
def name() -> str:
    return secrets.token_hex(8)


@pytest.fixture(scope='module')
def forker(environment, name) -> Iterator[list[subprocess.Popen]]:
    """The process that forks; a test that ends it puts another in its place."""
    running = [start_forker(environment, name)]
    yield running
    children.end(running, 20.0)


def start_forker(environment, name) -> subprocess.Popen:
    return children.start(command_of(['crossspec_ros.nodes.monitor'], name), environment)


@pytest.fixture
def launched(environment, name, forker, tmp_path) -> Iterator[subprocess.Popen]:
    """Who looks after a monitor node."""
    process = children.start(looked_after(name, tmp_path), environment)
    yield process
    children.end([process], 20.0)


def looked_after(name, folder) -> list[str]:
    return [*command_before(name, 0.0), str(folder / 'of ours' / 'monitor'), *ARGUMENTS]


def wait_for(condition, seconds: float = 100.0):
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, 'did not happen in time'
        time.sleep(0.02)
    return value


def nodes_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The nodes that it has forked and that are in the graph."""
    return [each for each in psutil.Process(process.pid).children() if threads_of(each) > 4]


def threads_of(process: psutil.Process) -> int:
    """0 where it has ended."""
    try:
        return 0 if process.status() == psutil.STATUS_ZOMBIE else process.num_threads()
    except psutil.NoSuchProcess:
        return 0


def alive(process: psutil.Process) -> bool:
    return process.is_running() and threads_of(process) > 0


def test_killed_node_is_forked_again_and_leaves_nothing(launched, forker):
    first, = wait_for(lambda: nodes_of(forker[0]))
    command = first.cmdline()
    assert ' '.join(command).rstrip().endswith('-m crossspec_ros.nodes.monitor ' + ' '.join(ARGUMENTS))
    links = [os.readlink(f'/proc/{first.pid}/fd/{handle}') for handle in os.listdir(f'/proc/{first.pid}/fd')]
    segments = [link for link in links if link.startswith('/dev/shm/fastdds_') and 'port' not in link]
    time.sleep(1.0)                                             # what it owns is looked at twice a second
    first.kill()
    second, = wait_for(lambda: [each for each in nodes_of(forker[0]) if each != first])
    assert second.cmdline() == command and launched.poll() is None
    wait_for(lambda: segments and not any(os.path.exists(link) for link in segments))


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM])
def test_end_of_who_looks_after_a_node_is_that_nodes_end(launched, forker, sign):
    node, = wait_for(lambda: nodes_of(forker[0]))
    for _ in range(2):                                          # a launch in a terminal may tell it twice
        launched.send_signal(sign)
    assert launched.wait(60) == 0 and not alive(node) and forker[0].poll() is None


def test_node_that_ends_with_0_is_not_started_again(launched, forker):
    node, = wait_for(lambda: nodes_of(forker[0]))
    node.send_signal(signal.SIGINT)
    assert launched.wait(60) == 0 and not psutil.Process(forker[0].pid).children()


def test_killed_one_who_looked_after_a_node_leaves_none(launched, forker):
    node, = wait_for(lambda: nodes_of(forker[0]))
    launched.kill()
    wait_for(lambda: not alive(node))
    assert forker[0].poll() is None


def test_node_comes_back_after_the_process_that_had_forked_it(launched, forker, environment, name):
    node, = wait_for(lambda: nodes_of(forker[0]))
    forker[0].kill()
    forker[0].wait(60)
    forker[0] = start_forker(environment, name)
    assert wait_for(lambda: nodes_of(forker[0])) != [node]
    assert not alive(node) and launched.poll() is None


def three_of(launch: subprocess.Popen) -> list[psutil.Process]:
    """Who forks, who looks after a node, and that node, once it is in the graph."""
    below = psutil.Process(launch.pid).children(recursive=True)
    grown = [each for each in below if each.name() == 'monitor' and threads_of(each) > 4]
    return below if len(below) == 3 and grown else []


def test_launch_that_is_killed_leaves_nothing(environment, tmp_path):
    name = secrets.token_hex(8)
    commands = [command_of(['crossspec_ros.nodes.monitor'], name), looked_after(name, tmp_path)]
    launch = children.start([sys.executable, '-c', LAUNCH, FOLLOWED, json.dumps(commands)], environment)
    try:
        below = wait_for(lambda: three_of(launch))
    finally:
        launch.kill()
        launch.wait()
    wait_for(lambda: not any(alive(each) for each in below))
