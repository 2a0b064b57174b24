"""Drafts that are trees through the engine: captions as `generate` says them, fewer passes where a branch hits."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.speculation.types import prefix_hash
from engine_harness import TOKENS, caption_of, draft_of, feed, make_engine, without_clock

FEW = 10                         # tokens; of a drafter that nothing is known of, deep nodes are not believed


def tree_of(expected, place: int, right: bool) -> dict[str, tuple[int, ...]]:
    """A chain that is wrong at ``place``, with a branch there that is the caption's rest, or wrong too."""
    chain = [(token + 7) % 200 + 20 if index == place else token for index, token in enumerate(expected)]
    rest = [token if right else (token + 11) % 200 + 20 for token in expected[place:]]
    parents = [*range(-1, len(chain) - 1), place - 1, *range(len(chain), len(chain) + len(rest) - 1)]
    return dict(token_ids=(*chain, *rest), parents=tuple(parents),
                weights=(900,) * len(chain) + (400,) + (900,) * (len(rest) - 1))


@pytest.mark.parametrize('sources', [('drafts',), ('memory', 'previous', 'drafts', 'recycling')], ids=['alone', 'all'])
def test_branch_saves_a_pass_and_changes_no_word(target, scenes, sources):
    passes = {}
    for right in (True, False):
        engine = without_clock(make_engine(target, sources=sources, max_new_tokens=FEW))
        clip, expected = scenes[0][0], scenes[0][1][:FEW]
        assert engine.offer(draft_of(target, 1, **tree_of(expected, FEW // 3, right))) is None
        session = feed(engine, 1, clip)
        *_, final = session.answer()
        session.close()
        assert final.token_ids == expected and final.lossless
        passes[right] = final.target_passes
    assert passes[True] < passes[False]


def test_trees_at_random_change_no_word(target, scenes):
    generator = np.random.default_rng(3)
    engine = make_engine(target, max_nodes=24, first_nodes=24)
    for window in range(12):
        clip, expected = scenes[window % len(scenes)]
        count = int(generator.integers(1, 40))
        right = generator.random(count) < 0.7
        parents = [int(generator.integers(-1, node)) if generator.random() < 0.3 else node - 1 for node in range(count)]
        depths = [0] * count
        for node, parent in enumerate(parents):
            depths[node] = depths[parent] + 1 if parent >= 0 else 0
        tokens = [expected[depth % len(expected)] if hit else int(generator.integers(20, 200))
                  for depth, hit in zip(depths, right)]
        weights = generator.integers(1, 2**32, count).tolist()
        offered = draft_of(target, window, tokens, parents=tuple(parents), weights=tuple(weights))
        assert engine.offer(offered) is None
        assert caption_of(engine, window, clip).token_ids == expected
    assert engine.statistics()['proposer']['sources']['event_drafter']['num_accepted_tokens'] > 0


def test_redraft_that_is_a_tree_goes_on_from_the_verdict(target, scenes):
    engine = without_clock(make_engine(target, sources=('drafts',), max_nodes=TOKENS, first_nodes=TOKENS))
    clip, expected = scenes[1]
    place = len(expected) // 2
    assert engine.offer(draft_of(target, 1, tree_of(expected, place, right=False)['token_ids'][:place + 1])) is None
    session, said = feed(engine, 1, clip), []
    for each in session.answer(should_stop=lambda: len(said) >= 2):      # one verdict, one caption
        said.append(each)
    committed = said[0].committed
    assert place < len(committed) < len(expected) - 2
    rest = expected[len(committed):]
    assert engine.offer(draft_of(target, 1, revision=1, base_length=len(committed), base_hash=prefix_hash(committed),
                                 **tree_of(rest, len(rest) // 2, right=True))) is None
    *_, final = session.answer()
    session.close()
    assert final.token_ids == expected and final.target_passes == 2
