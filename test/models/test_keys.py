"""The key of a checkpoint names its weights, wherever they lie."""
import json
import shutil

import pytest
from tiny_models import write_checkpoint

from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.models.keys import checkpoint_key
from crossspec_ros.models.targets import load_target


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('keys') / 'one', seed=1)


def test_key_is_the_same_for_a_copy_and_what_the_loaded_target_says(folder, tmp_path):
    shutil.copytree(folder, tmp_path / 'copy')
    key = checkpoint_key(folder)
    assert len(key) == 16 and checkpoint_key(tmp_path / 'copy') == key
    assert load_target(folder).model_key == load_target(folder, dtype='bfloat16').model_key == key


def test_key_changes_with_the_weights(folder, tmp_path):
    assert checkpoint_key(write_checkpoint(tmp_path / 'two', seed=2)) != checkpoint_key(folder)
    assert checkpoint_key(tmp_path) == ''


def test_built_in_drafter_carries_the_key_of_the_built_in_verifier():
    config = json.loads((builtin_path('drafter') / 'config.json').read_text(encoding='utf-8'))
    assert config['verifier_key'] == checkpoint_key(builtin_path('verifier'))
