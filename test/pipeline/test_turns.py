"""Turns of several cameras at one model: who is next, who is left out, and what one's trouble does to the others."""
import time

import pytest

from crossspec_ros.pipeline.turns import Turns, Work


class Camera:
    """Windows that wait, each answered in ``steps`` steps; done in the order of ``log``."""

    def __init__(self, name: str, log: list[str], steps: int = 1) -> None:
        self.name, self.log, self.steps = name, log, steps
        self.end_ns: int | None = None
        self.answered, self.idle_work, self.left, self.errors = 0, 0, steps, []
        self.broken = False

    def work(self) -> Work:
        return Work(lambda: None, lambda: self.end_ns, self.step, self.errors.append, lambda: False)

    def step(self) -> bool:
        if self.broken:
            raise ValueError('broken')
        if self.end_ns is None:
            if self.idle_work:
                self.idle_work -= 1
                self.log.append(self.name.lower())
                return True
            return False
        self.left -= 1
        if not self.left:
            self.end_ns, self.left = None, self.steps
            self.answered += 1
            self.log.append(self.name)
        return True


@pytest.fixture
def turns(monkeypatch) -> Turns:
    """Turns whose thread does nothing: the test calls `round`."""
    monkeypatch.setattr(Turns, '_run', lambda self: None)
    return Turns()


def test_cameras_that_always_wait_get_the_same_share(turns):
    log: list[str] = []
    cameras = [Camera('A', log, steps=1), Camera('B', log, steps=3), Camera('C', log, steps=2)]
    for camera in cameras:
        turns.join(camera.work())
    for now in range(60):
        for number, camera in enumerate(cameras):
            # The frames of C come so late that its windows are always the oldest.
            camera.end_ns = camera.end_ns or now - (100 if number == 2 else 0)
        turns.round()
        counts = [camera.answered for camera in cameras]
        assert max(counts) - min(counts) <= 1
    assert [camera.answered for camera in cameras] == [10, 10, 10]
    assert [turn.taken for turn in turns.members] == [10, 10, 10]


def test_the_oldest_window_is_first_where_none_had_a_turn(turns):
    log: list[str] = []
    young, old = Camera('Y', log), Camera('O', log)
    young.end_ns, old.end_ns = 2, 1
    for camera in (young, old):
        turns.join(camera.work())
    assert turns.round() and turns.round() and not turns.round()
    assert log == ['O', 'Y']


def test_a_turn_is_not_cut_by_another_camera(turns):
    log: list[str] = []
    slow, quick = Camera('S', log, steps=3), Camera('Q', log)
    for camera in (slow, quick):
        turns.join(camera.work())
    slow.end_ns = 1
    turns.round()
    quick.end_ns = 0
    quick_turn = turns.members[1]
    quick_turn.last = 5                                          # it had its last turn after the slow one's
    for _ in range(3):
        turns.round()
    assert log == ['S', 'Q']


def test_who_can_wait_works_in_rotation_and_never_before_a_window(turns):
    log: list[str] = []
    one, two = Camera('A', log), Camera('B', log)
    for camera in (one, two):
        turns.join(camera.work())
        camera.idle_work = 3
    turns.round()
    two.end_ns = 1
    for _ in range(6):
        turns.round()
    assert log == ['a', 'B', 'b', 'a', 'b', 'a', 'b']


def test_a_camera_that_fails_is_told_and_the_others_go_on(turns):
    log: list[str] = []
    bad, good = Camera('X', log), Camera('G', log)
    bad.broken = True
    for camera in (bad, good):
        turns.join(camera.work())
    for now in range(6):
        bad.end_ns, good.end_ns = bad.end_ns or now, good.end_ns or now
        turns.round()
    assert log == ['G'] * 3 and len(bad.errors) == 3


def test_a_camera_that_left_is_not_called_any_more(turns):
    log: list[str] = []
    one, two = Camera('A', log), Camera('B', log)
    turn = turns.join(one.work())
    turns.join(two.work())
    turn.stop()
    one.end_ns = two.end_ns = 1
    turns.round()
    assert log == ['B'] and turn.stopping and not turns.round()


def test_the_thread_serves_until_it_is_closed():
    log: list[str] = []
    camera, turns = Camera('A', log), Turns(idle_s=0.001)
    turn = turns.join(camera.work())
    camera.end_ns = 1
    turn.wake()
    until = time.monotonic() + 60.0
    while not turn.taken and time.monotonic() < until:
        time.sleep(0.01)
    assert log == ['A'] and turn.taken == 1
    turns.close()
    assert not turns._thread.is_alive()
