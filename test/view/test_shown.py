"""What is on the screen."""
from dataclasses import replace

from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage
from crossspec_ros.view.shown import Shown

S = 1_000_000_000


def draft(window: int, revision: int = 0, text: str = 'a red car ahead') -> Draft:
    return Draft(window, window * S, revision, '', '', text, ())


def caption(window: int, stage: Stage, text: str = 'a blue') -> Caption:
    return Caption(window, window * S, stage, text, len(text), (), Mode.CROSS_MODAL, True)


def shown() -> Shown:
    return Shown(stale_ns=4 * S, stride_ns=S)


def test_shown_draft_alone_is_unverified():
    screen = shown()
    screen.add_draft(draft(10))
    assert screen.text(10 * S) == ('', 'a red car ahead')
    assert screen.mode(10 * S) is Mode.DRAFT_ONLY


def test_shown_partial_caption_takes_the_drafts_place_word_by_word():
    screen = shown()
    screen.add_draft(draft(10))
    screen.add_caption(caption(10, Stage.PARTIAL))
    assert screen.text(10 * S) == ('a blue', 'car ahead')
    screen.add_caption(caption(10, Stage.FINAL, 'a blue van ahead'))
    assert screen.text(10 * S) == ('a blue van ahead', '')


def test_shown_next_windows_draft_replaces_the_caption():
    screen = shown()
    screen.add_caption(caption(10, Stage.FINAL))
    screen.add_draft(draft(11))
    assert screen.text(11 * S) == ('', 'a red car ahead')
    assert screen.mode(11 * S) is Mode.CROSS_MODAL


def test_shown_older_revision_is_ignored():
    screen = shown()
    screen.add_draft(draft(10, 2, 'new'))
    screen.add_draft(draft(10, 1, 'old'))
    assert screen.text(10 * S) == ('', 'new')


def test_shown_stale_text_goes():
    screen = shown()
    screen.add_caption(caption(10, Stage.FINAL))
    assert screen.text(14 * S) == ('a blue', '') and screen.text(15 * S) == ('', '')


def test_shown_retraction_leaves_nothing():
    screen = shown()
    screen.add_draft(draft(10))
    screen.add_caption(caption(10, Stage.PARTIAL))
    screen.add_caption(caption(10, Stage.RETRACTED))
    assert screen.text(10 * S) == ('', '') and screen.mode(10 * S) is None


def test_shown_recording_that_begins_again_is_followed():
    screen = shown()
    screen.add_draft(draft(100))
    screen.add_draft(draft(3, text='again'))
    assert screen.text(3 * S) == ('', 'again')


def test_shown_words_of_a_drafter_for_another_verifier_are_left_out_and_told():
    other = replace(draft(10), other_verifier=True)
    screen = shown()
    screen.add_draft(other)
    assert screen.text(10 * S) == ('', '') and 'drafter not trained for this verifier' in screen.note(10 * S)
    screen.add_caption(caption(10, Stage.PARTIAL))
    assert screen.text(10 * S) == ('a blue', '')
    told = Shown(stale_ns=4 * S, stride_ns=S, show_untrained=True)
    told.add_draft(other)
    assert told.text(10 * S) == ('', 'a red car ahead') and 'not trained' in told.note(10 * S)
    screen.add_draft(draft(11))
    assert screen.text(11 * S) == ('', 'a red car ahead') and 'not trained' not in screen.note(11 * S)
