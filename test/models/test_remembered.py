"""What was measured of a checkpoint is kept for as long as nothing of it changes."""
import os

import pytest

from crossspec_ros.models import remembered
from crossspec_ros.models.targets import load
from tiny_models import write_checkpoint


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('CROSSSPEC_CACHE_DIR', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'checkpoint'
    path.mkdir()
    (path / 'config.json').write_text('{}')
    return path


def test_recall_gives_what_was_kept_for_the_same_settings(cache, folder):
    assert remembered.recall(folder, 'costs', dtype='float32') is None
    remembered.keep(folder, 'costs', {'1': 2.5}, dtype='float32')
    assert remembered.recall(folder, 'costs', dtype='float32') == {'1': 2.5}
    assert remembered.recall(folder, 'costs', dtype='float16') is None
    assert remembered.recall(folder, 'trial', dtype='float32') is None


@pytest.mark.parametrize('change', [
    pytest.param(lambda path: path.write_text('{"a": 1}'), id='content'),
    pytest.param(lambda path: os.utime(path, ns=(1, 1)), id='time'),
    pytest.param(lambda path: (path.parent / 'more.safetensors').write_bytes(b''), id='file')])
def test_recall_forgets_a_checkpoint_that_has_changed(cache, folder, change):
    remembered.keep(folder, 'costs', 1)
    change(folder / 'config.json')
    assert remembered.recall(folder, 'costs') is None


def test_recall_of_a_broken_file_is_nothing(cache, folder):
    remembered.keep(folder, 'costs', 1)
    for path in cache.iterdir():
        path.write_text('{')
    assert remembered.recall(folder, 'costs') is None


def test_keep_does_nothing_where_it_cannot_or_must_not(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('CROSSSPEC_CACHE_DIR', '')
    remembered.keep(folder, 'costs', 1)
    assert remembered.recall(folder, 'costs') is None
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('CROSSSPEC_CACHE_DIR', str(tmp_path / 'file' / 'below'))
    remembered.keep(folder, 'costs', 1)
    assert remembered.recall(folder, 'costs') is None


def test_load_tries_a_checkpoint_once_and_one_that_fails_each_time(cache, tmp_path, monkeypatch):
    folder, trials = write_checkpoint(tmp_path / 'verifier'), []
    monkeypatch.setattr(load, 'fault', lambda adapter: trials.append(adapter) or 'wrong')
    for _ in range(2):
        with pytest.raises(load.CrossSpecError, match='wrong'):
            load.load_target(folder)
    assert len(trials) >= 2
    trials.clear()
    monkeypatch.setattr(load, 'fault', lambda adapter: trials.append(adapter))
    for _ in range(2):
        load.load_target(folder)
    assert len(trials) == 1
