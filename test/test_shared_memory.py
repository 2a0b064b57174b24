"""Only what our own dead left in shared memory is removed, and only when nobody holds it."""
import contextlib
import fcntl
import os
from pathlib import Path

import pytest

from crossspec_ros.shared_memory import Leftovers, dead_ports_kept


class Host:
    """Folders that look like /dev/shm and /proc."""

    def __init__(self, root: Path) -> None:
        self.shm, self.proc = root / 'shm', root / 'proc'
        self.shm.mkdir()
        self.left = Leftovers(self.shm, self.proc)

    def process(self, pid: int, owns: str = '', maps: str = '') -> None:
        """A process that owns what ``owns`` names, and has also mapped what ``maps`` names."""
        (self.proc / str(pid) / 'fd').mkdir(parents=True)
        lines = []
        for at, name in enumerate(owns.split()):
            for each in (name, f'sem.{name}_mutex', f'{name}_el'):
                (self.shm / each).touch()
            (self.proc / str(pid) / 'fd' / str(at)).symlink_to(self.shm / f'{name}_el')
        lines = [f'7f-80 rw-s 0 0:1 5  {self.shm}/{name}' for name in [*owns.split(), *maps.split()]]
        (self.proc / str(pid) / 'maps').write_text('\n'.join(lines) + '\n')

    def kill(self, pid: int) -> None:
        for path in [*(self.proc / str(pid) / 'fd').iterdir(), self.proc / str(pid) / 'maps']:
            path.unlink()
        (self.proc / str(pid) / 'fd').rmdir()
        (self.proc / str(pid)).rmdir()

    def names(self) -> set[str]:
        return {path.name for path in self.shm.iterdir()}


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_sweep_removes_what_a_dead_process_owned_and_nothing_else(host):
    host.process(1, owns='fastdds_aa fastdds_port7')
    host.process(2, owns='fastdds_bb')                          # of somebody else, killed as well
    host.left.note(1)
    host.kill(1)
    host.kill(2)
    assert host.left.sweep() == []                              # nobody has said yet that it is dead
    host.left.ended(1)
    assert len(host.left.sweep()) == 3 and host.left.waiting
    assert len(host.left.sweep(last=True)) == 3 and not host.left.waiting
    assert host.names() == {'fastdds_bb', 'sem.fastdds_bb_mutex', 'fastdds_bb_el'}


def test_sweep_leaves_ports_that_nobody_holds_until_the_last(host):
    host.process(1, owns='fastdds_aa fastdds_port7')            # the next process is about to take over port 7
    host.process(2, maps='fastdds_aa')
    host.left.note(1)
    host.kill(1)
    host.left.ended(1)
    assert len(host.left.sweep()) == 3 and host.left.waiting and 'fastdds_aa' not in host.names()
    assert host.left.sweep() == [] and 'fastdds_port7' in host.names()
    assert len(host.left.sweep(last=True)) == 3 and host.names() == set()


def test_last_sweep_takes_a_port_that_peers_still_send_to(host):
    host.process(1, owns='fastdds_port7')
    host.process(2, maps='fastdds_port7')
    host.left.note(1)
    host.kill(1)
    host.left.ended(1)
    assert host.left.sweep() == [] and len(host.left.sweep(last=True)) == 3 and host.names() == set()


def test_sweep_leaves_a_port_that_another_owns_now(host):
    host.process(1, owns='fastdds_port7')
    host.left.note(1)
    host.kill(1)
    host.left.ended(1)
    with (host.shm / 'fastdds_port7_el').open('r+') as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        assert host.left.sweep(last=True) == [] and host.left.waiting
    assert len(host.left.sweep(last=True)) == 3


def test_sweep_leaves_a_port_that_another_has_made_since(host):
    host.process(1, owns='fastdds_port7')
    host.left.note(1)
    host.kill(1)
    host.left.ended(1)
    lock = host.shm / 'fastdds_port7_el'
    keep = host.shm / 'other'                                   # so that the inode is not used again
    os.link(lock, keep)
    lock.unlink()
    lock.touch()
    assert host.left.sweep(last=True) == [] and not host.left.waiting
    assert 'fastdds_port7' in host.names()


def test_note_of_a_process_that_is_gone_says_nothing(host):
    host.left.note(99)
    host.left.ended(99)
    assert not host.left.waiting


def free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def test_ports_of_the_dead_are_held_and_those_of_the_living_left(tmp_path):
    dead, alive, segment = (tmp_path / name for name in ('fastdds_port7_el', 'fastdds_port9_el', 'fastdds_aa_el'))
    for path in (dead, alive, segment, tmp_path / 'fastdds_port7', tmp_path / 'fastdds_port9'):
        path.touch()
    (tmp_path / 'fastdds_port8_el').touch()                     # closed as it should be: its segment is gone
    with alive.open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        with dead_ports_kept(tmp_path) as count:
            assert count == 1 and not free(dead) and not free(alive) and free(segment)
            with dead_ports_kept(tmp_path) as more:
                assert more == 0, 'another node of ours holds it'
        assert free(dead)


def test_the_newest_ports_of_many_dead_are_held(tmp_path):
    for number in range(80):
        path = tmp_path / f'fastdds_port{number}_el'
        path.touch()
        path.with_name(f'fastdds_port{number}').touch()
        os.utime(path, ns=(number, number))
    with dead_ports_kept(tmp_path) as count:
        assert count == 64 and free(tmp_path / 'fastdds_port15_el') and not free(tmp_path / 'fastdds_port16_el')


def test_many_of_the_living_do_not_hide_a_dead_one(tmp_path):
    with contextlib.ExitStack() as owners:
        for number in range(80):
            for name in (f'fastdds_port{number}', f'fastdds_port{number}_el'):
                (tmp_path / name).touch()
            os.utime(tmp_path / f'fastdds_port{number}_el', ns=(number, number))
            if number:                                          # the oldest is dead
                fcntl.flock(owners.enter_context((tmp_path / f'fastdds_port{number}_el').open()), fcntl.LOCK_EX)
        with dead_ports_kept(tmp_path) as count:
            assert count == 1


def test_no_shared_memory_is_no_reason_not_to_start(tmp_path):
    with dead_ports_kept(tmp_path / 'nowhere') as count:
        assert count == 0
