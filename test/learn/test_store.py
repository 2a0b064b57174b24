"""What is kept on disk: whole parts, nothing of another verifier, no more than there is room for."""
from __future__ import annotations

import errno
from collections import namedtuple

import numpy as np
import pytest
import toy_drive

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn import store as store_module
from crossspec_ros.learn.store import Answer, Learned, needed_mb, open_store, read_part

KEYS = {'verifier_key': 'feed', 'tokenizer_key': 'beef'}


def _answer(length: int, states: bool = False) -> Answer:
    generator = np.random.default_rng(length)
    return Answer(generator.integers(0, 90, length).astype(np.int32),
                  generator.integers(0, 90, (length, 8)).astype(np.int32), generator.random((length, 8), np.float32
                                                                                             ).astype(np.float16),
                  generator.random((length, 2, 4), np.float32).astype(np.float16) if states else None)


def _window(number: int, states: bool = False) -> Learned:
    voxels = np.random.default_rng(number).normal(0, 3, (2, 5, 6, 6)).astype(np.float16)
    return Learned(number, number * 500, voxels, (_answer(number + 1, states), _answer(number + 2, states)),
                   b'jpeg' * (number % 2))


@pytest.fixture
def opened(tmp_path):
    def opened(keys=KEYS, windows=10, state_bytes=0, **values):
        config = toy_drive.toy_config(tmp_path, 'builtin', **values)
        return open_store(config, keys, needed_mb(config, windows, 1000, state_bytes))
    return opened


@pytest.mark.parametrize('states', [False, True], ids=['tokens', 'tokens and states'])
def test_parts_come_back_as_they_were(opened, states):
    store = opened()
    windows = [_window(number, states) for number in (3, 4, 5)]
    store.add(0, windows[:2])
    store.add(0, windows[2:])
    found = [window for path in store.parts(0) for window in read_part(path)]
    assert store.last(0) == 5 and store.last(1) is None
    for before, after in zip(windows, found, strict=True):
        assert (before.window_id, before.end_ns, before.jpeg) == (after.window_id, after.end_ns, after.jpeg)
        assert all((before.voxels[look] == after.voxels[look]).all() for look in (0, 1))
        for one, other in zip(before.answers, after.answers, strict=True):
            assert (one.token_ids == other.token_ids).all() and (one.log_probs == other.log_probs).all()
            assert (one.likely == other.likely).all() and (one.states is None) is (other.states is None)
            assert one.states is None or one.states.shape == other.states.shape
            assert one.states is None or (one.states == np.asarray(other.states)).all()


def test_run_that_is_there_already_is_gone_on_with_only_when_asked(opened):
    opened()
    with pytest.raises(CrossSpecError, match='go on with --resume'):
        opened()
    assert opened(resume=True).parts(0) == []


@pytest.mark.parametrize(('keys', 'values', 'word'), [
    pytest.param(KEYS | {'verifier_key': 'cafe'}, {}, 'those of another verifier', id='verifier'),
    pytest.param(KEYS, {'prompts': ('Else?',)}, 'another prompts', id='prompts'),
    pytest.param(KEYS, {'slide': 8}, 'another slide', id='slide'),
    pytest.param(KEYS, {'topics': ('/other/image',)}, 'another topics', id='topics'),
    pytest.param(KEYS, {'sources': ('drafter', 'medusa')}, 'another sources', id='sources'),
    pytest.param(KEYS, {'held_out': 0.3}, 'another held_out', id='held_out')])
def test_answers_to_something_else_are_refused_and_stay(opened, keys, values, word):
    opened().add(0, [_window(1)])
    with pytest.raises(CrossSpecError, match=word):
        opened(keys, resume=True, **values)
    assert opened(resume=True).last(0) == 1


def test_folder_of_another_version_is_refused(opened, monkeypatch):
    opened()
    monkeypatch.setattr(store_module, 'VERSION', 2)
    with pytest.raises(CrossSpecError, match='another version'):
        opened(resume=True)


def test_more_than_there_is_room_for_is_refused_before_anything_is_answered(opened, monkeypatch):
    with pytest.raises(CrossSpecError, match='more than --disk-mb 1: raise it'):
        opened(windows=2000, disk_mb=1)
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(store_module.shutil, 'disk_usage', lambda path: usage(10, 9, 1))
    with pytest.raises(CrossSpecError, match='free some space'):
        opened(windows=2000)


def test_states_count_in_what_is_needed(opened, tmp_path):
    opened(windows=400, disk_mb=1)
    with pytest.raises(CrossSpecError, match='answers, states and looks would take up to 13 MB, more than --disk-mb'):
        opened(windows=400, disk_mb=1, state_bytes=3000, sources=('drafter', 'medusa'), out=tmp_path / 'other')


def test_part_without_its_states_is_named(opened):
    store = opened()
    store.add(0, [_window(1, states=True)])
    store.parts(0)[0].with_suffix('.states.npy').unlink()
    with pytest.raises(CrossSpecError, match=r'states\.npy.*remove it and .*\.npy.*--resume'):
        read_part(store.parts(0)[0])


def test_disk_that_fills_leaves_the_parts_before(opened, monkeypatch):
    store = opened()
    store.add(0, [_window(1)])

    def full(path, array):
        path.write_bytes(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(store_module, '_save', full)
    with pytest.raises(CrossSpecError, match='is full: free some space.*--resume'):
        store.add(0, [_window(2)])
    assert store.last(0) == 1 and not [path for path in store.folder.rglob('*.part')]


def test_broken_part_is_named(opened):
    store = opened()
    store.add(0, [_window(1), _window(2)])
    path = store.parts(0)[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CrossSpecError, match=f'{path.name}.*go on with --resume'):
        read_part(path)
