"""Cost curve, tree size, self-switching, statistics."""
from __future__ import annotations

import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.budget import CostCurve, SurvivalRecord, best_size
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.statistics import SpeculationStatistics
from crossspec_ros.speculation.switch import SourceSwitch
from crossspec_ros.speculation.tree import TokenTree
from crossspec_ros.speculation.types import Draft


def test_cost_curve_is_linear_between_and_beyond_points():
    curve = CostCurve({1: 10.0, 8: 17.0, 64: 73.0})
    assert curve(1) == 10 and curve(4.5) == pytest.approx(13.5) and curve(36) == pytest.approx(45)
    assert curve(127) == pytest.approx(136) and curve(0) == 10


def test_cost_curve_follows_and_never_falls():
    curve = CostCurve({1: 10.0, 8: 8.0})
    assert curve(1) == curve(8) == 9
    for _ in range(100):
        curve.observe(8, 30.0)
    assert curve(8) == pytest.approx(30, abs=0.01)


def test_cost_curve_does_not_take_a_slow_moment_for_the_cost_of_a_size():
    """One forward in a busy moment, of a size not met before or met: what is larger stays worth trying."""
    true = CostCurve({1: 10.0, 64: 20.0, 128: 30.0})
    for size in (90, 64):
        curve = CostCurve({1: 10.0, 64: 20.0, 128: 30.0})
        curve.observe(size, 10 * true(size))
        assert curve(128) <= 1.1 * true(128) and curve(size) <= 1.1 * true(size)


def test_cost_curve_of_sizes_that_are_not_tried_follows_the_machine():
    """Measured in a busy moment, then used at one size: the sizes beside it come down with it, not the other way."""
    curve = CostCurve({1: 30.0, 64: 60.0, 128: 90.0})
    for _ in range(200):
        curve.observe(64, 20.0)
    assert curve(64) == pytest.approx(20, abs=0.1) and curve(1) < 21 and curve(128) < 70
    steep = CostCurve({1: 10.0, 64: 20.0, 80: 60.0})
    for _ in range(200):
        steep.observe(64, 20.0)
    assert steep(80) == pytest.approx(60)                        # what is so stays, however often its neighbour is met


def test_best_size_comes_back_to_what_pays_after_slow_moments():
    """The tree of a size that a busy moment made dear is tried again, and the true cost found."""
    random = np.random.default_rng(0)
    true, curve = CostCurve({1: 10.0, 128: 30.0}), CostCurve({size: 10.0 * 8 ** (size == 16) for size in (1, 16, 128)})
    survivals, chosen = [0.97 ** depth for depth in range(60)], []
    for _ in range(200):
        size = best_size(survivals, curve)
        curve.observe(size + 1, true(size + 1) * random.choice([1.0, 8.0], p=[0.9, 0.1]))
        chosen.append(size)
    wanted = best_size(survivals, true)
    assert sum(abs(size - wanted) < 16 for size in chosen[100:]) > 90


def test_cost_curve_is_bounded_and_refuses_nonsense():
    curve = CostCurve()
    assert not curve.known
    with pytest.raises(CrossSpecError, match='measured point'):
        curve(1)
    for tokens, cost in ((0, 1.0), (1, 0.0), (1, float('nan')), (1, float('inf'))):
        with pytest.raises(CrossSpecError, match='tokens >= 1'):
            curve.observe(tokens, cost)
    for tokens in range(1, 5000):
        curve.observe(tokens, tokens + 1.0)
    assert len(curve.points()) < 60


def test_best_size_is_the_best_rate():
    survivals = [0.9, 0.8, 0.5, 0.2, 0.1, 0.01]
    cost = CostCurve({1: 10.0, 100: 60.0})
    rates = [(1 + sum(survivals[:size])) / cost(1 + size) for size in range(7)]
    assert best_size(survivals, cost) == rates.index(max(rates)) > 0


@pytest.mark.parametrize('slope, size', [
    pytest.param(0.0, 6, id='free: all'), pytest.param(100.0, 0, id='dear: none')])
def test_best_size_extremes(slope, size):
    cost = CostCurve({1: 10.0, 101: 10.0 + 100 * slope})
    assert best_size([0.9, 0.8, 0.5, 0.2, 0.1, 0.01], cost) == size


def test_best_size_in_a_fused_pass_is_larger():
    cost = CostCurve({1: 10.0, 1000: 1009.0})
    survivals = [0.5 ** depth for depth in range(12)]
    assert best_size(survivals, cost, fused_tokens=500) > best_size(survivals, cost)


def test_best_size_passes_over_a_step_in_the_curve():
    cost = CostCurve({1: 10.0, 8: 10.0, 10: 14.0, 60: 14.0})
    assert best_size([0.9] * 40, cost) == 40


def test_survival_record_believes_what_happened():
    record = SurvivalRecord()
    assert record.expected([1], [0.7]) == [0.7]
    for _ in range(200):
        record.observe([1, 2], [0.7, 0.7], {1})
    low, high = record.expected([1, 2], [0.7, 0.7])
    assert low < 0.15 and high > 0.9
    record.clear()
    assert record.expected([1], [0.7]) == [0.7]


def test_switch_goes_off_when_nothing_hits_and_comes_back():
    switch = SourceSwitch()
    assert switch.on and switch.share is None
    switch.add(40, 0)
    assert switch.on  # too early to say
    switch.add(40, 0)
    assert not switch.on
    switch.add(20, 1)
    assert not switch.on
    switch.add(40, 20)
    assert switch.on


def test_proposer_leaves_a_useless_source_out_and_takes_it_back():
    proposer = Proposer(ProposerConfig(sources=('drafts',)))

    def window(window_id, tokens, said):
        proposer.begin(Opening(window_id, 'q'))
        proposer.inbox.offer(Draft(window_id, 0, 0, 'q', '', '', tokens))
        tree = proposer.propose((), 16)
        node, nodes = -1, []
        for token in said:
            node = tree.child(node, token)
            if node is None:
                break
            nodes.append(node)
        proposer.observe(PassOutcome(tree, tuple(nodes), said), said)
        return len(tree)

    sizes = [window(number, (9, 9), (1, 2)) for number in range(80)]
    assert sizes[0] == 2 and sizes[-1] == 0
    assert not proposer.statistics()['sources']['event_drafter']['on']
    sizes = [window(100 + number, (1, 2, 3), (1, 2, 3)) for number in range(40)]
    assert sizes[0] == 0 and sizes[-1] == 3


def test_proposer_sizes_the_tree_by_measured_cost():
    proposer = Proposer(ProposerConfig(sources=('previous',)))
    proposer.begin(Opening(0, 'q'))
    proposer.finish(range(40))
    proposer.begin(Opening(1, 'q'))
    assert len(proposer.propose((), 64)) > 4
    proposer.cost.observe(1, 1.0)
    proposer.cost.observe(64, 64.0)
    assert len(proposer.propose((), 64)) == 0


def test_proposer_estimates_what_it_saved():
    proposer = Proposer(ProposerConfig(sources=('previous',), node_ms=0.0))
    proposer.cost.observe(1, 10.0)
    proposer.cost.observe(101, 20.0)
    proposer.begin(Opening(0, 'q'))
    proposer.finish((1, 2, 3))
    proposer.begin(Opening(1, 'q'))
    tree = proposer.propose((), 64)
    proposer.observe(PassOutcome(tree, (0, 1, 2), (1, 2, 3, 4)), (1, 2, 3, 4))
    # 3 steps of 10 ms were saved, for 3 nodes of 0.1 ms
    proposer.observe(PassOutcome(proposer.propose((1, 2, 3, 4), 64), (), (5,)), (1, 2, 3, 4, 5))
    assert len(tree) == 3 and proposer.statistics()['saved_ms'] == 0, 'a caption counts when it is complete'
    proposer.finish((1, 2, 3, 4, 5))
    assert proposer.statistics()['saved_ms'] == pytest.approx(29.7)


def test_statistics_count_by_source_and_position():
    statistics = SpeculationStatistics()
    assert statistics.report()['mean_acceptance_length'] is None
    tree = TokenTree((1, 2, 3), (-1, 0, -1), (1, 3, 2), (.5, .4, .3), ('a', 'b'))
    statistics.count_pass(tree, (0, 1), (1, 2, 9), first=True)
    statistics.count_pass(TokenTree(), (), (4,), first=False)
    report = statistics.report()
    assert report['mean_acceptance_length'] == 2 and report['num_drafts'] == 1 and report['num_passes'] == 2
    assert report['draft_acceptance_rate'] == pytest.approx(2 / 3)
    assert report['hidden_tokens_accepted'] == 2 and report['acceptance_rate_per_pos'] == [1, 1]
    a, b = report['sources']['a'], report['sources']['b']
    assert (a['num_draft_tokens'], a['num_accepted_tokens'], a['exclusive_accepted_tokens']) == (2, 2, 1)
    assert (b['num_draft_tokens'], b['num_accepted_tokens'], b['exclusive_accepted_tokens']) == (2, 1, 0)


def test_cost_curve_along_is_the_curve_one_by_one():
    curve = CostCurve({2: 10.0, 8: 17.0, 64: 73.0})
    assert curve.along(1, 90).tolist() == pytest.approx([curve(size) for size in range(1, 91)])
    with pytest.raises(CrossSpecError, match='measured point'):
        CostCurve().along(1, 2)
