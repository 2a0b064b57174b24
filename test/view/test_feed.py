"""What a live view tells its screens, and what it keeps of all that comes."""
from dataclasses import replace

from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict
from crossspec_ros.view.feed import ACCEPTANCE, AGES, DROPS, Feed
from crossspec_ros.view.record import Diagnostic, Latency
from crossspec_ros.view.words import Fate, Run, standing

S = 1_000_000_000


def draft(window: int, text: str = 'a red truck ahead') -> Draft:
    return Draft(window, window * S, 0, '', '', text, ())


def caption(window: int, stage: Stage = Stage.FINAL, text: str = 'a red car ahead') -> Caption:
    return Caption(window, window * S, stage, text, len(text), (), Mode.CROSS_MODAL, True)


def latency(window: int, draft_ms: float | None, caption_ms: float | None) -> Latency:
    return Latency(window, None, draft_ms, None, caption_ms, None, {}, 'cross_modal', False, False, 0, 0)


def feed() -> Feed:
    return Feed(4 * S, S)


def test_standing_words_go_from_open_to_kept_to_corrected():
    assert standing('a red truck', None) == [Run(Fate.OPEN, 'a red truck')]
    assert standing('a red truck', caption(1, Stage.PARTIAL, 'a red')) == [
        Run(Fate.KEPT, 'a red'), Run(Fate.OPEN, 'truck')]
    assert standing('a red truck', caption(1, text='a red car')) == [
        Run(Fate.KEPT, 'a red'), Run(Fate.STRUCK, 'truck'), Run(Fate.ADDED, 'car')]
    assert standing('', caption(1, text='a car')) == [Run(Fate.KEPT, 'a car')]
    assert standing('', None) == []


def test_look_tells_words_once():
    live = feed()
    live.add_draft(draft(1), 20.0)
    words = live.look(S, {}).words
    assert (words.verified, words.drafted) == ('', 'a red truck ahead')
    assert live.look(S, {}).words is None
    live.again()
    assert live.look(S, {}).words == words


def test_look_agrees_with_the_overlay():
    live = feed()
    live.add_draft(draft(1), 20.0)
    live.add_caption(caption(1, Stage.PARTIAL, 'a red'), 60.0)
    words = live.look(S, {}).words
    assert (words.verified, words.drafted) == live.shown.text(S)
    assert words.note == live.shown.note(S)


def test_look_tells_corrections_with_ages():
    live = feed()
    live.add_draft(draft(1), 20.0)
    live.add_caption(caption(1), 95.0)
    corrected, = live.look(S, {}).words.corrected
    assert Run(Fate.STRUCK, 'truck') in corrected.runs and Run(Fate.ADDED, 'car') in corrected.runs
    assert corrected.ages == 'draft +20 ms, caption +95 ms'


def test_look_retracted_caption_is_told_no_more():
    live = feed()
    live.add_caption(caption(1), 95.0)
    live.add_caption(caption(1, Stage.RETRACTED, ''), 99.0)
    words = live.look(S, {}).words
    assert (words.verified, words.corrected) == ('', ())


def test_ages_and_acceptance_become_values():
    live = feed()
    live.add_latency(latency(1, 20.0, None), S)
    live.add_verdict(Verdict(1, S, (), 0, 1, True, {'memory': 3}, {'memory': 4, 'prompt': 2}), S)
    live.add_verdict(Verdict(2, 2 * S, (), 0, 1, False, {'memory': 4}, {'memory': 4}), S)      # not its last
    values = {(value.group, value.name): value.value for value in live.look(S, {}).values}
    assert values == {(AGES, 'draft'): 20.0, (ACCEPTANCE, 'memory'): 75.0, (ACCEPTANCE, 'prompt'): 0.0}


def test_drops_are_told_when_they_grow_and_states_as_they_are():
    live = feed()
    for count in ('0', '2', '2', '3'):
        live.add_diagnostic('/crossspec/verifier', Diagnostic(1, 'no image', {'frames_late': count, 'windows': '9'}), S)
    look = live.look(S, {})
    assert [value.value for value in look.values if value.group == DROPS] == [2, 3]
    assert look.states == {'verifier': 'warn'}
    assert [(line.source, line.level, line.text) for line in look.lines] == [('verifier', 'warn', 'no image')]


def test_memory_is_bounded_whatever_comes():
    live = feed()
    for window in range(2000):
        live.add_draft(draft(window), 1.0)
        live.add_caption(caption(window), 2.0)
        live.add_latency(latency(window, 1.0, 2.0), window * S)
        live.add_verdict(Verdict(window, window * S, (), 0, 1, True, {}, {f'source{window}': 1}), window * S)
        status = Diagnostic(0, str(window), {f'x{window}_lost': '1'})
        live.add_diagnostic(f'/crossspec/node{window}', status, window * S)
    look = live.look(2000 * S, {})
    assert len(look.values) + len(look.lines) <= 400 and live.left_out > 1000
    assert len(live.record.windows) <= 16 and len(look.states) <= 32 and len(look.words.corrected) <= 6


def test_reset_takes_text_off_the_screen():
    live = feed()
    live.add_caption(caption(9), 1.0)
    live.reset()
    words = live.look(9 * S, {}).words
    assert (words.verified, words.corrected) == ('', ())


def test_look_strikes_no_words_of_a_drafter_for_another_verifier():
    for shown, expected in ((False, {Fate.KEPT}), (True, {Fate.KEPT, Fate.STRUCK, Fate.ADDED})):
        live = Feed(4 * S, S, show_untrained=shown)
        live.add_draft(replace(draft(1), other_verifier=True), 20.0)
        live.add_caption(caption(1), 60.0)
        corrected = live.look(S, {}).words.corrected[0]
        assert {run.fate for run in corrected.runs} == expected
        assert 'drafter not trained for this verifier' in corrected.ages
