"""Text from outside on every screen: read, never obeyed."""
import io
import re

import numpy as np
import pytest

from crossspec_ros.demo.live import LiveView
from crossspec_ros.demo.plots import acceptance_by_source
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage
from crossspec_ros.view.drawing import UNVERIFIED, VERIFIED, Words, as_html, compose
from crossspec_ros.view.feed import Feed
from crossspec_ros.view.record import Recorder
from crossspec_ros.view.safe import REPLACED, clean, markdown, rich_text
from crossspec_ros.view.shown import Shown
from crossspec_ros.view.words import compare, remainder

S = 1_000_000_000
NASTY = {'escape': 'a \x1b[2J\x1b[31mred car', 'c1': 'a \x9b31mred car', 'bell and backspace': 'a\x07 car\x08\x08\x08',
         'override': 'a \u202egpj.exe car', 'isolate': 'a \u2066car', 'no width': 'a\u200b car\ufeff',
         'tags': 'a car\U000e0041', 'line ends': 'a\r\ncar\u2028ahead\x85', 'surrogate': 'a \ud800 car',
         'markup': '<script>alert(1)</script> & "quoted"', 'markdown': '![x](http://a.b/c) **b** ~~s~~ [l](u) `c` # h',
         'osc': '\x1b]8;;http://a.b\x07link\x1b]8;;\x07'}
each = pytest.mark.parametrize('text', [pytest.param(text, id=name) for name, text in NASTY.items()])
BAD = re.compile('[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff'
                 '\ud800-\udfff\U000e0000-\U000e007f]')


def draft(text: str, window: int = 1) -> Draft:
    return Draft(window, window * S, 0, '', '', text, ())


def caption(text: str, stage: Stage = Stage.FINAL, window: int = 1) -> Caption:
    return Caption(window, window * S, stage, text, len(text), (), Mode.CROSS_MODAL, True, target_passes=1)


@each
def test_clean_leaves_nothing_that_acts(text):
    assert not BAD.search(clean(text))
    clean(text).encode('utf-8')


@pytest.mark.parametrize('text', ['a red car', 'ein grünes Auto, 3 m', '前方有一辆红色的车', 'یک خودروی قرمز',
                                  'می\u200cرود', '👩\u200d🚒 ahead'])
def test_clean_leaves_words_alone(text):
    assert clean(text) == text


def test_clean_shows_that_something_was_taken_out_and_bounds_the_length():
    assert clean('a\x1bb') == f'a{REPLACED}b'
    assert len(clean('x' * 10**6)) < 5000 and clean('x' * 10**6).endswith('…')


def test_markdown_escapes_everything_that_means_something():
    assert markdown('*a* <b> [c](d) `e` #f') == r'\*a\* \<b\> \[c\]\(d\) \`e\` \#f'
    assert markdown('   1. a\n\n    code') == r'1\. a code'


def test_rich_text_escapes():
    assert rich_text('<b a="1">&') == '&lt;b a=&quot;1&quot;&gt;&amp;'


@each
def test_words_of_a_window_are_clean(text):
    assert not any(BAD.search(run.text) for run in compare(text, 'a ' + text))
    assert not BAD.search(remainder('a b c ' + text, 'a b'))


@each
@pytest.mark.parametrize('terminal', [pytest.param(True, id='terminal'), pytest.param(False, id='file')])
def test_terminal_gets_no_control_character_of_a_text(text, terminal):
    record, out = Recorder(), io.StringIO()
    with LiveView(record, file=out, title='demo', force_terminal=terminal) as view:
        view.draft(record.add_draft(draft(text), 1.0, 0))
        view.tick()
        view.caption(record.add_caption(caption(text, Stage.PARTIAL), 2.0))
        view.tick()
        view.caption(record.add_caption(caption(text + ' ahead'), 3.0))
    own = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', out.getvalue().replace('\r', '').replace('\n', '')) if terminal \
        else out.getvalue().replace('\n', '')
    assert not BAD.search(own)
    assert '\x1b[2J' not in out.getvalue() and '\x1b]8' not in out.getvalue()


@each
def test_overlay_shows_clean_text(text):
    screen = Shown(4 * S, S)
    screen.add_draft(draft(text, 2))
    screen.add_caption(caption(text, Stage.PARTIAL, 2))
    verified, drafted = screen.text(2 * S)
    assert not BAD.search(verified) and not BAD.search(drafted)
    words = [Words(verified, VERIFIED), Words('open', UNVERIFIED)]
    assert compose([np.zeros((30, 40, 3), np.uint8)], words, 'note', 320).dtype == np.uint8
    assert not BAD.search(as_html(words)) and '<script>' not in as_html(words)


@each
def test_feed_tells_clean_text(text):
    feed = Feed(4 * S, S)
    feed.add_prompt(text)
    feed.add_draft(draft(text), 5.0)
    feed.add_caption(caption('a ' + text), 9.0)
    words = feed.look(S, {}).words
    told = [words.question, words.verified, words.drafted, words.note,
            *(run.text for each in words.corrected for run in each.runs)]
    assert not any(BAD.search(part) for part in told) and words.corrected


@each
def test_plots_take_any_name(text):
    svg = acceptance_by_source({text: {'num_draft_tokens': 3, 'num_accepted_tokens': 2},
                                '$\\frac{': {'num_draft_tokens': 3, 'num_accepted_tokens': 1}})
    assert '<script>' not in svg and '</svg>' in svg
