"""The event drafter: what it drafts, that it changes nothing it is given, and what bad input gets."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import DraftTokens, EventDrafter, load_drafter
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.speculation.tree import TokenTree, tree_fault
from crossspec_ros.train.drafter_stage import new_drafter
from crossspec_ros.train.recipe import save_drafter
from crossspec_ros.train.tokenizer_training import answer_ids, train_tokenizer
from crossspec_ros.world import DESCRIBE, QUESTIONS, sample_captions


@pytest.fixture(scope='module')
def drafter() -> EventDrafter:
    tokenizer = train_tokenizer([*sample_captions(400, 1), *QUESTIONS], 600)
    return new_drafter(tokenizer, seed=3).eval()


@pytest.fixture
def voxel(drafter: EventDrafter) -> np.ndarray:
    return np.random.default_rng(5).normal(size=drafter.shape).astype(np.float32)


def _slow_greedy(drafter: EventDrafter, voxel: np.ndarray, prefix: list[int], count: int) -> list[int]:
    """The same without a cache."""
    ids, question = list(prefix), drafter.question_ids(DESCRIBE)
    for _ in range(count):
        with torch.inference_mode():
            hidden = drafter(torch.from_numpy(voxel)[None], torch.tensor([[*question, *ids]]))
            ids.append(int(drafter.logits(hidden[0, -1]).argmax()))
        if ids[-1] == drafter.config.eos_token_id:
            break
    return ids[len(prefix):]


@pytest.mark.parametrize('prefix', [pytest.param([], id='from_the_begin'),
                                    pytest.param([300, 301, 302], id='behind_a_prefix')])
def test_draft_equals_decoding_without_a_cache(drafter: EventDrafter, voxel: np.ndarray, prefix: list[int]) -> None:
    draft = drafter.draft(voxel, prompt=DESCRIBE, prefix_ids=prefix, max_tokens=12)
    assert list(draft.token_ids) == _slow_greedy(drafter, voxel, prefix, 12)
    assert draft.parents == () and len(draft.weights) == len(draft.token_ids)
    assert draft.text == drafter.tokenizer.decode([*prefix, *draft.token_ids])


def test_draft_takes_a_whole_prompt_or_a_bare_question(drafter: EventDrafter) -> None:
    assert drafter.question_ids(f'USER: <video>\n{DESCRIBE} ASSISTANT:') == drafter.question_ids(DESCRIBE)


def test_draft_leaves_its_input_alone(drafter: EventDrafter, voxel: np.ndarray) -> None:
    before = voxel.copy()
    voxel.flags.writeable = False
    drafter.draft(voxel, prompt=DESCRIBE, max_tokens=3)
    np.testing.assert_array_equal(voxel, before)


@pytest.fixture(scope='module')
def decided() -> EventDrafter:
    """A random drafter that has opinions: some of its second choices are likely."""
    tokenizer = train_tokenizer([*sample_captions(400, 1), *QUESTIONS], 600)
    drafter = new_drafter(tokenizer, seed=3).eval()
    with torch.no_grad():
        drafter.norm.weight.copy_(12.0 * torch.randn(drafter.config.dim, generator=torch.Generator().manual_seed(1)))
    return drafter


def _branches(tree: DraftTokens, length: int) -> list[tuple[list[int], list[int]]]:
    """(words before, words) of each branch beside a chain of ``length``."""
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(tree.parents):
        children.setdefault(parent, []).append(node)
    found = []
    for node in range(length, len(tree.token_ids)):
        if tree.parents[node] < length:
            words, last = [tree.token_ids[node]], node
            while children.get(last):
                last, = children[last]
                words.append(tree.token_ids[last])
            found.append((list(tree.token_ids[:tree.parents[node] + 1]), words))
    return found


@pytest.mark.parametrize('prefix, least', [pytest.param([], 2, id='from_the_begin'),
                                           pytest.param([300, 301, 302], 1, id='behind_a_prefix')])
def test_draft_branches_are_second_choices_and_what_follows_them(decided: EventDrafter, voxel: np.ndarray,
                                                                 prefix: list[int], least: int) -> None:
    chain = decided.draft(voxel, prompt=DESCRIBE, prefix_ids=prefix, max_tokens=10)
    tree = decided.draft(voxel, prompt=DESCRIBE, prefix_ids=prefix, max_tokens=10, alternatives=24)
    length = len(chain.token_ids)
    assert tree.token_ids[:length] == chain.token_ids and tree.text == chain.text
    assert length < len(tree.token_ids) <= length + 24
    assert tree_fault(tree.token_ids, tree.parents, tree.weights) is None
    branches = _branches(tree, length)
    assert len(branches) >= least and max(len(words) for _, words in branches) > 1
    for before, words in branches:
        assert words[0] != chain.token_ids[len(before)]
        assert words[1:] == _slow_greedy(decided, voxel, [*prefix, *before, words[0]], len(words) - 1)
        assert len(before) + len(words) <= 10


def test_draft_branches_are_those_likeliest_from_the_start_on(decided: EventDrafter, voxel: np.ndarray) -> None:
    chain = decided.draft(voxel, prompt=DESCRIBE, max_tokens=10)
    paths = {}
    for alternatives in (4, 24):
        tree = decided.draft(voxel, prompt=DESCRIBE, max_tokens=10, alternatives=alternatives)
        beliefs: list[float] = []
        for parent, weight in zip(tree.parents, tree.weights, strict=True):
            beliefs.append(weight / 1000 * (beliefs[parent] if parent >= 0 else 1.0))
        paths[alternatives] = sorted(beliefs[len(chain.token_ids):], reverse=True)
    assert paths[4] == pytest.approx(paths[24][:4])


def test_draft_branches_end_when_asked(decided: EventDrafter, voxel: np.ndarray) -> None:
    asked = iter([False] * 6 + [True] * 20)
    tree = decided.draft(voxel, prompt=DESCRIBE, max_tokens=6, alternatives=24, should_stop=lambda: next(asked))
    assert len(tree.token_ids) > 6 and all(len(words) == 1 for _, words in _branches(tree, 6))


def test_draft_stops_when_asked(drafter: EventDrafter, voxel: np.ndarray) -> None:
    asked = iter([False, False, True])
    assert len(drafter.draft(voxel, prompt=DESCRIBE, should_stop=lambda: next(asked)).token_ids) == 2


def test_draft_behind_the_end_is_empty(drafter: EventDrafter, voxel: np.ndarray) -> None:
    assert drafter.draft(voxel, prompt=DESCRIBE, prefix_ids=[300, drafter.config.eos_token_id]).token_ids == ()


def test_draft_of_a_prefix_longer_than_its_positions_is_empty(drafter: EventDrafter, voxel: np.ndarray) -> None:
    prefix = [300] * drafter.config.max_caption_tokens
    assert drafter.draft(voxel, prompt=DESCRIBE, prefix_ids=prefix).token_ids == ()


def test_draft_of_no_events_is_a_draft(drafter: EventDrafter) -> None:
    assert drafter.draft(np.zeros(drafter.shape, np.float32), prompt=DESCRIBE, max_tokens=4).token_ids


@pytest.mark.parametrize('change, text', [
    pytest.param({'voxel': np.zeros((5, 10, 10), np.float32)}, 'shape', id='wrong_shape'),
    pytest.param({'voxel': np.full((5, 96, 96), np.nan, np.float32)}, 'finite', id='nan'),
    pytest.param({'prefix_ids': [10 ** 6]}, 'prefix_ids', id='foreign_prefix'),
    pytest.param({'max_tokens': 0}, 'max_tokens', id='no_tokens'),
])
def test_draft_bad_input_is_named(drafter: EventDrafter, voxel: np.ndarray, change: dict[str, object],
                                  text: str) -> None:
    arguments = {'voxel': voxel, 'prompt': DESCRIBE} | change
    with pytest.raises(CrossSpecError, match=text):
        drafter.draft(arguments.pop('voxel'), **arguments)


def test_load_drafter_gives_back_what_was_saved(drafter: EventDrafter, voxel: np.ndarray, tmp_path: Path) -> None:
    save_drafter(drafter, tmp_path / 'drafter')
    loaded = load_drafter(tmp_path / 'drafter')
    assert loaded.shape == (5, 96, 96) and loaded.tokenizer_key == tokenizer_key(drafter.tokenizer)
    half = {name: value.half().float() for name, value in drafter.state_dict().items()}
    assert all(torch.equal(value, half[name]) for name, value in loaded.state_dict().items())
    assert answer_ids(loaded.tokenizer, 'A car.') == answer_ids(drafter.tokenizer, 'A car.')


def _cut(folder: Path) -> None:
    path = folder / 'model.safetensors'
    path.write_bytes(path.read_bytes()[:5000])


def _foreign_tokenizer(folder: Path) -> None:
    train_tokenizer(['something else altogether'], 400).save(str(folder / 'tokenizer.json'))


def _other_shapes(folder: Path) -> None:
    path = folder / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'dim': 64}))


@pytest.mark.parametrize('damage, text', [
    pytest.param(lambda folder: (folder / 'model.safetensors').unlink(), 'missing or cut', id='no_weights'),
    pytest.param(_cut, 'missing or cut', id='cut_weights'),
    pytest.param(_foreign_tokenizer, 'does not belong', id='foreign_tokenizer'),
    pytest.param(lambda folder: (folder / 'tokenizer.json').unlink(), 'tokenizer.json', id='no_tokenizer'),
    pytest.param(lambda folder: (folder / 'tokenizer.json').write_text('{'), 'no tokenizer file',
                 id='broken_tokenizer'),
    pytest.param(lambda folder: (folder / 'config.json').write_text('{'), 'config.json', id='broken_config'),
    pytest.param(lambda folder: (folder / 'config.json').write_text('{"model_type": "llama"}'), 'no event drafter',
                 id='other_model'),
    pytest.param(_other_shapes, 'do not fit', id='other_shapes'),
])
def test_load_drafter_broken_checkpoint_says_what_to_do(drafter: EventDrafter, tmp_path: Path, damage: object,
                                                        text: str) -> None:
    save_drafter(drafter, tmp_path / 'drafter')
    damage(tmp_path / 'drafter')
    with pytest.raises(CrossSpecError, match=text):
        load_drafter(tmp_path / 'drafter')


def test_load_drafter_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CrossSpecError, match='nowhere'):
        load_drafter(tmp_path / 'nowhere')


def test_draft_chain_is_a_valid_token_tree(drafter: EventDrafter, voxel: np.ndarray) -> None:
    TokenTree.chain(drafter.draft(voxel, prompt=DESCRIBE, max_tokens=5).token_ids).check()
