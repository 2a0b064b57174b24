"""Words on the screen: dim, solid, struck, and plain lines where there is no terminal."""
import io

import pytest
import sample

from crossspec_ros.demo.live import LiveView, format_age, window_text
from crossspec_ros.speculation.types import Stage
from crossspec_ros.view.record import Recorder
from crossspec_ros.view.words import Fate, Run, compare, remainder


@pytest.mark.parametrize(('age', 'text'), [
    pytest.param(None, '-', id='unknown'), pytest.param(12.4, '+12 ms', id='late'),
    pytest.param(-95.0, '-95 ms', id='ahead'),
    pytest.param(1234.0, '+1.23 s', id='seconds'), pytest.param(-0.2, '+0 ms', id='no_minus_nought')])
def test_format_age(age, text):
    assert format_age(age) == text


@pytest.mark.parametrize(('before', 'after', 'runs'), [
    pytest.param('a red car', 'a red car', [Run(Fate.KEPT, 'a red car')], id='equal'),
    pytest.param('a red car', 'a blue car', [Run(Fate.KEPT, 'a'), Run(Fate.STRUCK, 'red'), Run(Fate.ADDED, 'blue'),
                                             Run(Fate.KEPT, 'car')], id='replaced'),
    pytest.param('', 'a car', [Run(Fate.ADDED, 'a car')], id='no_draft'),
    pytest.param('a car', '', [Run(Fate.STRUCK, 'a car')], id='no_caption')])
def test_compare_gives_the_fate_of_every_word(before, after, runs):
    assert compare(before, after) == runs


def test_remainder_leaves_what_is_still_open():
    assert remainder('a red car ahead', 'a blue') == 'car ahead'
    assert remainder('a red', 'a red car') == ''


def _styles(text):
    return [(text.plain[span.start:span.end], span.style) for span in text.spans]


def test_window_text_goes_from_dim_to_solid():
    record = Recorder()
    window = record.add_draft(sample.draft(1, 'a red truck ahead'), 5.0, 0)
    assert _styles(window_text(window)) == [('a red truck ahead', 'dim')]
    record.add_caption(sample.caption(1, 'a red car', Stage.PARTIAL, stable=9), 50.0)
    assert window_text(window).plain == 'a red car ahead'
    assert ('a red car', 'bold') in _styles(window_text(window)) and ('ahead', 'dim') in _styles(window_text(window))
    record.add_caption(sample.caption(1, 'a red car ahead'), 70.0)
    assert ('truck', 'dim strike red') in _styles(window_text(window))
    assert ('car', 'bold green') in _styles(window_text(window))


def test_live_view_without_terminal_prints_a_line_each():
    record, out = Recorder(), io.StringIO()
    with LiveView(record, file=out, title='demo') as view:
        view.say('ready [in 2 s]')
        view.draft(record.add_draft(sample.draft(1, 'a [red] car'), -80.0, 0))
        view.caption(record.add_caption(sample.caption(1, 'a', Stage.PARTIAL), 20.0))
        view.caption(record.add_caption(sample.caption(1, 'a [red] car'), 90.0))
        view.tick()
    lines = out.getvalue().splitlines()
    assert lines[0] == 'ready [in 2 s]'
    assert len(lines) == 3 and 'draft' in lines[1] and '-80 ms' in lines[1] and 'a [red] car' in lines[1]
    assert 'caption' in lines[2] and '+90 ms' in lines[2] and '2.0 tokens/pass' in lines[2]
    assert '\x1b' not in out.getvalue()


def test_live_view_on_terminal_shows_windows_and_keys():
    out = io.StringIO()
    with LiveView(sample.record(), file=out, title='demo', force_terminal=True) as view:
        view.tick()
    assert '12 windows, 11 verified' in out.getvalue() and '\x1b[' in out.getvalue()
