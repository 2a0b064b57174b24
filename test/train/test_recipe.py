"""The recipe at toy size: it runs end to end, resumes to the same weights, and says what is wrong with broken files."""
from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VideoLlavaForConditionalGeneration

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.train.answers import forced_answers, read_answers, verifier_answers
from crossspec_ros.train.greedy import greedy_answers
from crossspec_ros.train.recipe import STAGES, Recipe, RecipeConfig, save_drafter
from crossspec_ros.world import AHEAD, DESCRIBE, EVALUATION_SEED, QUESTIONS

TINY = RecipeConfig(steps=12, drives=2, clips_per_drive=20, answered=6, workers=1, vision_dim=64,
                    vision_layers=1, dim=64, layers=1)


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('pair')
    patch = pytest.MonkeyPatch()
    patch.setattr('crossspec_ros.train.recipe._SETTINGS', {name: {'batch': 4, 'log_every': 1} for name in (
        'vision', 'language', 'drafter', 'drafter')})
    Recipe(folder, TINY).run()
    yield folder
    patch.undo()


def test_recipe_end_to_end_gives_two_checkpoints_that_load(finished: Path) -> None:
    model = VideoLlavaForConditionalGeneration.from_pretrained(finished / 'verifier', dtype=torch.float32)
    drafter = load_drafter(finished / 'drafter')
    draft = drafter.draft(np.zeros(drafter.shape, np.float32), prompt=DESCRIBE, max_tokens=5)
    assert model.config.text_config.vocab_size == drafter.config.vocab_size
    assert 1 <= len(draft.token_ids) <= 5
    assert (finished / 'curves.png').stat().st_size > 1000


def test_recipe_checkpoints_may_be_read_by_others(finished: Path) -> None:
    for name in ('verifier', 'drafter'):
        folder = finished / name
        wanted = folder.stat().st_mode & 0o666
        assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
            path.name: wanted for path in folder.iterdir()}


def test_recipe_answers_equal_generate(finished: Path) -> None:
    recipe = Recipe(finished, TINY, resume=True)
    features = torch.from_numpy(recipe.features()[:2].copy())
    model = recipe.trained_verifier()
    ours = greedy_answers(model, recipe.tokenizer, features, [DESCRIBE], max_tokens=12)
    frames = recipe.clips().frames([0, 1])
    from crossspec_ros.train.language_stage import prompt_parts
    from crossspec_ros.train.vision_stage import pixels
    head, after = prompt_parts(recipe.tokenizer, DESCRIBE)
    video = [recipe.tokenizer.token_to_id('<video>')] * (8 * 65)
    ids = torch.tensor([[*head, *video, *after]] * 2)
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values_videos=pixels(frames),
                         do_sample=False, max_new_tokens=12)
    assert [row[:len(ours[i][DESCRIBE])] for i, row in enumerate(out[:, ids.shape[1]:].tolist())] == [
        one[DESCRIBE] for one in ours]


@pytest.mark.parametrize('right', [True, False], ids=['right_guesses', 'wrong_guesses'])
def test_answers_are_greedy_whatever_was_guessed(finished: Path, right: bool) -> None:
    recipe = Recipe(finished, TINY, resume=True)
    features, model = torch.from_numpy(recipe.features()[:3].copy()), recipe.trained_verifier()
    expected = greedy_answers(model, recipe.tokenizer, features, [DESCRIBE, AHEAD])
    guesses = expected if right else [{DESCRIBE: [9, 8, 7], AHEAD: [6]}] * 3
    found = verifier_answers(model, recipe.tokenizer, features, guesses)
    assert [{name: answer.token_ids.tolist() for name, answer in row.items()} for row in found] == expected
    assert all(answer.greedy for row in found for answer in row.values())


def test_answers_wrong_guess_is_not_called_greedy(finished: Path) -> None:
    recipe = Recipe(finished, TINY, resume=True)
    features = torch.from_numpy(recipe.features()[:1].copy())
    answer = forced_answers(recipe.trained_verifier(), recipe.tokenizer, features, [{DESCRIBE: [9, 8, 7]}])[0][DESCRIBE]
    assert not answer.greedy
    assert answer.likely.shape == answer.probs.shape == (3, 8)
    assert (np.diff(answer.probs, axis=1) <= 0).all() and (answer.probs.sum(1) <= 1.0001).all()


def test_answers_read_back_are_those_of_spread_clips(finished: Path) -> None:
    recipe = Recipe(finished, TINY, resume=True)
    stored = read_answers(finished / 'answers')
    assert list(stored) == [0, 11, 23, 35, 47, 59]
    features = torch.from_numpy(recipe.features()[[23]].copy())
    expected = greedy_answers(recipe.trained_verifier(), recipe.tokenizer, features, list(QUESTIONS))[0]
    assert {name: answer.token_ids.tolist() for name, answer in stored[23].items()} == expected


@pytest.mark.parametrize('name', ['vision', 'drafter'])
def test_recipe_interrupted_then_resumed_gives_the_same_weights(finished: Path, tmp_path: Path, name: str) -> None:
    for made in ('data', 'answers'):
        (tmp_path / made).symlink_to(finished / made)
    config = dataclasses.replace(TINY, steps=24)
    whole = Recipe(tmp_path, config)
    whole.run(('tokenizer', name))
    expected = torch.load(tmp_path / f'{name}.pt')['model']
    (tmp_path / f'{name}.pt').unlink()
    (tmp_path / f'{name}.done').unlink()
    calls = iter([False] * 2 + [True] * 100)
    with pytest.MonkeyPatch.context() as patch:
        import crossspec_ros.train.recipe as module
        real = module.run_stage
        patch.setattr(module, 'run_stage', lambda *a, **k: real(*a, **k, should_stop=lambda: next(calls)))
        Recipe(tmp_path, config).run((name,))
    (tmp_path / f'{name}.done').unlink()
    assert torch.load(tmp_path / f'{name}.pt')['step'] == 2
    Recipe(tmp_path, config, resume=True).run((name,))
    resumed = torch.load(tmp_path / f'{name}.pt')['model']
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_recipe_cut_checkpoint_says_what_to_do(finished: Path, tmp_path: Path) -> None:
    (tmp_path / 'data').symlink_to(finished / 'data')
    Recipe(tmp_path, TINY).run(('tokenizer',))
    (tmp_path / 'vision.pt').write_bytes((finished / 'vision.pt').read_bytes()[:1000])
    with pytest.raises(CrossSpecError, match='cut or broken.*delete it'):
        Recipe(tmp_path, TINY, resume=True).run(('vision',))


def test_recipe_missing_parts_are_named(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, TINY)
    with pytest.raises(CrossSpecError, match='stage must be one of'):
        recipe.run(('painting',))
    with pytest.raises(CrossSpecError, match='no clips in'):
        recipe.clips()
    with pytest.raises(CrossSpecError, match='features'):
        recipe.features()
    with pytest.raises(CrossSpecError, match='run the stage answers first'):
        read_answers(tmp_path / 'answers')
    (tmp_path / 'answers').mkdir()
    (tmp_path / 'answers' / '000000.npz').write_bytes(b'PK half a file')
    with pytest.raises(CrossSpecError, match='delete the file'):
        read_answers(tmp_path / 'answers')


def test_stages_are_those_of_the_recipe() -> None:
    assert all(hasattr(Recipe, f'_make_{name}') for name in STAGES)


@pytest.mark.long
def test_recipe_two_processes_leave_one_set_of_weights(finished: Path, tmp_path: Path) -> None:
    for made in ('data', 'answers'):
        (tmp_path / made).symlink_to(finished / made)
    Recipe(tmp_path, dataclasses.replace(TINY, processes=2)).run(('tokenizer', 'drafter'))
    state = torch.load(tmp_path / 'drafter.pt')
    assert state['step'] == TINY.stage('drafter').steps
    assert all(torch.isfinite(value).all() for value in state['model'].values())


def test_recipe_full_disk_leaves_no_half_file(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')
    target = tmp_path / 'drafter'
    monkeypatch.setattr('crossspec_ros.models.drafter_folder.save_file', full)
    with pytest.raises(CrossSpecError, match='disk .* is full'):
        save_drafter(load_drafter(finished / 'drafter'), target)
    assert list(tmp_path.iterdir()) == []


def test_recipe_trains_on_no_seed_of_the_evaluation() -> None:
    brisk, calm = RecipeConfig(seed=3).data()
    assert not set(brisk.seeds) & set(calm.seeds) and max(calm.seeds) < EVALUATION_SEED
    assert (brisk.pace, calm.pace) == ('brisk', 'calm')
    with pytest.raises(CrossSpecError, match='seed must be below'):
        RecipeConfig(seed=100).data()


def test_recipe_says_what_each_stage_took(finished: Path) -> None:
    times = json.loads((finished / 'times.json').read_text())
    assert tuple(times) == STAGES
    assert all(stage['wall_s'] >= 0 and stage['cpu_s'] >= 0 for stage in times.values())
