"""The model of caption age, by hand-computed numbers, and which method wins by it."""
from __future__ import annotations

import itertools

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.age import (Method, Timing, bound, break_even_tau, expected_age_ms, pass_tokens,
                                           passes_ms)
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.decision import (DRAFTED, FORMS, LABELS, Drafts, decide, method_of, methods_of,
                                                prefill_share, winners, with_share)


def cost(tokens: float) -> float:
    """10 ms, and a tenth of a millisecond for each token after the first."""
    return 10 + 0.1 * (tokens - 1)


TIMING = Timing(cost, whole_ms=200, newest_ms=8, last_tokens=101, frame_ms=20)
FUSED = Method('fused', fused=True, tau=6, nodes=10)


def test_passes_cost_their_trees_and_the_first_the_prompt_too():
    assert [pass_tokens(4), pass_tokens(4, 101)] == [5, 105]
    assert passes_ms(cost, [10, 4, 0], 101) == pytest.approx(cost(111) + cost(5) + cost(1))
    assert passes_ms(cost, [10, 4]) == pytest.approx(cost(11) + cost(5)) and passes_ms(cost, []) == 0


@pytest.mark.parametrize('method, age_ms', [
    pytest.param(FORMS['generate'], 200 + 29 * 10, id='generate'),
    pytest.param(FORMS['ahead'], 8 + 20 + 29 * 10, id='ahead'),
    pytest.param(Method('lookup', ahead=False, tau=2, nodes=10), 200 + 29 / 2 * 11, id='after the whole prefill'),
    pytest.param(Method('memory', tau=6, nodes=10), 28 + 29 / 6 * 11, id='after the last prefill'),
    pytest.param(FUSED, 28 + 1 + 4 * 11, id='fused'),
    pytest.param(Method('heads', tau=2, nodes=10, step_ms=4), 28 + 29 / 2 * 15, id='with a step of its own'),
    pytest.param(Method('drafter_late', tau=6, nodes=10, there_ms=45), 28 + 2 * 10 + 27 / 6 * 11, id='late'),
    pytest.param(Method('drafter_late', tau=6, nodes=10, there_ms=10_000), 28 + 29 * 10, id='too late'),
    pytest.param(Method('fused', fused=True, tau=6, nodes=10, there_ms=9), 28 + 29 / 6 * 11, id='late for the prefill'),
    pytest.param(Method('fused', fused=True, tau=6, nodes=10, there_ms=8), 28 + 1 + 4 * 11, id='there in time'),
    pytest.param(Method('fused', fused=True, tau=40, nodes=60), 28 + 6, id='one pass'),
])
def test_ages_of_thirty_tokens_by_hand(method, age_ms):
    assert expected_age_ms(TIMING, method, 30) == pytest.approx(age_ms)


def test_frames_that_take_longer_than_their_interval_are_waited_for():
    slow = Timing(cost, 2000, 8, 101, frame_ms=135, frames=8, interval_ms=125)
    assert expected_age_ms(slow, FORMS['ahead'], 1) == pytest.approx(7 * 10 + 28)
    cannot = Timing(cost, 200, 8, 101, ahead=False)
    assert expected_age_ms(cannot, FORMS['ahead'], 30) == expected_age_ms(cannot, FORMS['generate'], 30)


def methods(tau: float) -> list[Method]:
    return methods_of({name: Drafts(tau, 12, 3, 60 if name == 'drafter_late' else 0) for name in DRAFTED})


@pytest.mark.parametrize('tokens', [1, 2, 8, 36, 300])
def test_more_tokens_a_pass_never_make_a_caption_older_and_no_speedup_passes_its_bound(tokens):
    taus = [1, 1.01, 1.5, 2, 5, 12, 40, 1000]
    for place in range(len(methods(1))):
        ages = [expected_age_ms(TIMING, methods(tau)[place], tokens) for tau in taus]
        assert all(later <= before + 1e-9 for before, later in itertools.pairwise(ages))
    for tau in taus:
        for row in decide(TIMING, methods(tau), tokens):
            assert row.speedup <= row.bound + 1e-9
            assert row.age_ms >= TIMING.prefill_ms(row.method.ahead)


def test_bound_is_one_over_what_stays():
    share = prefill_share(TIMING, 30)
    assert share == pytest.approx(200 / 490)
    assert bound(TIMING, Method('lookup', ahead=False, tau=9), 30) == pytest.approx(1 / share)
    assert bound(TIMING, FUSED, 30) == pytest.approx(490 / 28)


@pytest.mark.parametrize('name', DRAFTED)
def test_break_even_is_where_drafts_cost_what_they_save(name):
    method = method_of(name, Drafts(3, 12, 3))
    plain_ms = expected_age_ms(TIMING, FORMS['ahead' if method.ahead else 'generate'], 30)
    tau = break_even_tau(TIMING, method, 30, plain_ms)
    at_it = method_of(name, Drafts(tau, 12, 3))
    assert 1 < tau < 2 and expected_age_ms(TIMING, at_it, 30) == pytest.approx(plain_ms)


def test_break_even_by_hand_and_where_there_is_none():
    assert break_even_tau(TIMING, Method('memory', nodes=10), 30, 28 + 290) == pytest.approx(1.1)
    assert break_even_tau(TIMING, Method('memory', nodes=10), 30, 28) is None
    assert break_even_tau(TIMING, FUSED, 30, 28.5) is None
    assert break_even_tau(TIMING, FUSED, 30, 29) == pytest.approx(30)
    assert break_even_tau(TIMING, Method('memory'), 1, 28) == 1.0


def test_decide_sorts_and_the_simpler_wins_where_nothing_is_gained():
    found = decide(TIMING, methods_of({'fused': Drafts(6, 10), 'heads': Drafts(1.0, 0)}), 30)
    assert [row.method.name for row in found] == ['fused', 'ahead', 'heads', 'generate']
    assert found[0].speedup == pytest.approx(490 / 73) and found[1].pays_from_tau is None
    assert [method.nodes for method in methods_of({'memory': Drafts(3.5)})] == [0, 0, 5]
    assert set(LABELS) == set(FORMS) and all(form.name == name for name, form in FORMS.items())


def test_generate_may_take_more_for_a_token_than_a_bare_forward():
    slow = decide(TIMING, methods_of({}, generate_step_ms=5), 30)[-1]
    assert slow.method.name == 'generate' and slow.age_ms == pytest.approx(490 + 29 * 5) and slow.speedup == 1


@pytest.mark.parametrize('share', [0.05, 0.5, 0.95])
def test_a_verifier_with_another_share_of_prefill(share):
    other = with_share(TIMING, share, 30)
    assert prefill_share(other, 30) == pytest.approx(share) and other.cost is TIMING.cost
    assert other.newest_ms / other.whole_ms == pytest.approx(TIMING.newest_ms / TIMING.whole_ms)
    assert other.last_forward_ms >= 10


def test_winners_go_from_no_drafts_to_drafts_with_tau():
    curve = CostCurve({1: 10, 101: 20, 400: 50})
    timing = Timing(curve, 200, 8, 101)
    found = winners(timing, lambda tau: methods_of({'fused': Drafts(tau, 20)}), [0.2, 0.8], [1.0, 1.1, 1.5, 6], 36)
    assert [[row.method.name for row in line] for line in found] == [['ahead', 'ahead', 'fused', 'fused']] * 2
    assert found[1][3].speedup > found[0][3].speedup            # what is not hidden is what is left of a long prefill


@pytest.mark.parametrize('call, words', [
    pytest.param(lambda: Method('memory', tau=0.5), 'tau must be >= 1', id='tau'),
    pytest.param(lambda: Method('memory', nodes=-1), 'nodes and step_ms', id='nodes'),
    pytest.param(lambda: Timing(cost, float('nan'), 8, 101), 'whole_ms and last_ms', id='time'),
    pytest.param(lambda: Timing(cost, 200, -8, 101), 'newest_ms must be', id='negative time'),
    pytest.param(lambda: Timing(cost, 200, 8, 0), 'last_tokens and frames', id='tokens of the prompt'),
    pytest.param(lambda: expected_age_ms(TIMING, FUSED, 0), 'tokens must be >= 1', id='answer'),
    pytest.param(lambda: methods_of({'wish': Drafts(3)}), 'drafts must be among', id='name'),
    pytest.param(lambda: method_of('generate', Drafts(3)), 'drafts must be among', id='no drafts'),
    pytest.param(lambda: with_share(TIMING, 1.0, 30), 'share must be between', id='share')])
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(CrossSpecError, match=words):
        call()
