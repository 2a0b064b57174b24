"""However a launch ends, none of its nodes goes on; a replay ends with its recording. Needs launch and launch_ros."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from launch_hosts import need_executables

pytest.importorskip('launch', reason='launch is not importable here')
pytest.importorskip('launch_ros', reason='launch_ros is not importable here')

from crossspec_ros.demo.options import free_domain  # noqa: E402 - only where there is a launch system
from crossspec_ros.nursery import supported  # noqa: E402

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
PATIENCE_S = 240.0
RUN = '''
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *words = sys.argv[1:]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(path), launch_arguments=[tuple(word.split(':=', 1)) for word in words])]))
sys.exit(service.run())
'''
pytestmark = pytest.mark.timeout(600)


class Launch:
    """A launch as a process."""

    def __init__(self, folder: Path, name: str, *words: str) -> None:
        self._path = folder / 'launch.log'
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(free_domain(30 + os.getpid() % 60)),
                       'ROS_LOG_DIR': str(folder / 'log')}
        with self._path.open('wb') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-c', RUN, str(LAUNCH / name), *words], env=environment, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.seen: list[psutil.Process] = []

    def log(self) -> str:
        return self._path.read_text(errors='replace')

    def wait_for_nodes(self, count: int) -> None:
        """Until so many nodes run, and are what they will be."""
        wait_for(lambda: len(self.look()) >= count, self.log)

    def look(self) -> list[psutil.Process]:
        """The nodes now; they, and what forks and looks after them, are kept."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self.seen += [each for each in found if each not in self.seen]
        return [each for each in found if is_node(each)]

    def alive(self) -> list[psutil.Process]:
        """What was ever seen and still runs."""
        return [each for each in self.seen if each.is_running() and threads_of(each)]


def threads_of(process: psutil.Process) -> int:
    """0 where it has ended."""
    try:
        return 0 if process.status() == psutil.STATUS_ZOMBIE else process.num_threads()
    except psutil.NoSuchProcess:
        return 0


def is_node(process: psutil.Process) -> bool:
    """Whether it neither forks nodes nor looks after one, and has not ended."""
    try:
        return not {'crossspec_ros.forker', 'crossspec_ros.launched', ''} & {*(process.cmdline() or [''])[:3]}
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, log) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, log()
        time.sleep(0.05)


@contextmanager
def launched(folder: Path, name: str, *words: str) -> Iterator[Launch]:
    need_executables()
    running = Launch(folder, name, *words)
    try:
        yield running
    finally:
        running.look()
        for process in [running.process, *running.alive()]:
            process.kill()
        running.process.wait()


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_launch_that_is_ended_leaves_no_node(tmp_path, sign):
    with launched(tmp_path, 'vehicle.launch.py', 'autostart:=false') as running:
        running.wait_for_nodes(4)
        wait_for(lambda: all(threads_of(each) > 4 for each in running.look()), running.log)     # in the graph
        running.process.send_signal(sign)
        running.process.wait(PATIENCE_S)
        wait_for(lambda: not running.alive(), running.log)


def test_launch_starts_again_what_was_killed_and_only_that(tmp_path):
    with launched(tmp_path, 'vehicle.launch.py', 'autostart:=false', 'respawn_delay:=0.1') as running:
        running.wait_for_nodes(4)
        before = running.look()
        victim = next(each for each in before if 'monitor' in ' '.join(each.cmdline()))
        victim.kill()
        wait_for(lambda: victim not in running.look() and len(running.look()) == 4, running.log)
        assert len(set(before) & set(running.look())) == 3


@pytest.mark.skipif(not supported(), reason='nodes are forked on Linux only')
@pytest.mark.parametrize('name', ['drafter', 'verifier'])
def test_launch_forks_what_was_killed_from_a_process_that_goes_on(tmp_path, name):
    def nodes() -> dict[str, psutil.Process]:
        return {found.group(1): each for each in running.look()
                if (found := re.search(r'nodes\.(\w+) ', ' '.join(each.cmdline())))}

    with launched(tmp_path, 'vehicle.launch.py', 'autostart:=false') as running:
        running.wait_for_nodes(4)
        before = nodes()
        assert set(before) == {'drafter', 'verifier'} and len({each.ppid() for each in before.values()}) == 1
        before[name].kill()
        wait_for(lambda: nodes().get(name, before[name]) != before[name], running.log)
        after = nodes()
        assert [each for each in before if after[each] != before[each]] == [name]
        assert after[name].ppid() == after['drafter' if name == 'verifier' else 'verifier'].ppid()
        assert f'{name} ended with -9' in running.log()


def test_launch_without_respawn_starts_nodes_as_they_are(tmp_path):
    with launched(tmp_path, 'vehicle.launch.py', 'autostart:=false', 'respawn:=false') as running:
        running.wait_for_nodes(4)
        assert len(running.seen) == 4 and {each.ppid() for each in running.look()} == {running.process.pid}


def test_launch_without_rviz_says_so_and_goes_on(tmp_path):
    with launched(tmp_path, 'vehicle.launch.py', 'autostart:=false', 'use_rviz:=true') as running:
        running.wait_for_nodes(4)
        assert len([line for line in running.log().splitlines() if 'rviz2 is not installed' in line]) == 1
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE_S) == 0
        wait_for(lambda: not running.alive(), running.log)


def test_replay_waits_for_its_nodes_and_ends_with_its_recording(tmp_path):
    (tmp_path / 'short.yaml').write_text('/**/player:\n  ros__parameters:\n    seconds: 3.0\n    drain_s: 1.0\n')
    with launched(tmp_path, 'replay.launch.py', 'bag:=world:1', f'params_file:={tmp_path}/short.yaml') as running:
        running.wait_for_nodes(5)
        wait_for(lambda: running.look() is None or running.process.poll() is not None, running.log)
        assert running.process.returncode == 0, running.log()
        wait_for(lambda: not running.alive(), running.log)
        said = running.log()
        loaded = [said.index(f'loaded the {name}') for name in ('drafter', 'verifier')]
        assert max(loaded) < said.index('playing world:1'), said
