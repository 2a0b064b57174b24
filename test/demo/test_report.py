"""The page: one file with no reference to anything outside, and no text that could break it."""
import json
import re

import pytest
import sample

from crossspec_ros.demo import plots, report, summary
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.tracing.path import STAGES, Piece, WindowPath
from crossspec_ros.tracing.summary import summarise
from crossspec_ros.view.record import Recorder


def full_report(record):
    return {**summary.summarise(record), 'version': '0', 'source': 'world:0', 'created': 'now',
            'hardware': summary.hardware(),
            'audit': {'checked': 11, 'mismatched': 1}, 'rss_mb': {'drafter': 400.0}, 'cpu_s': {'drafter': 3.0},
            'events': {'/events': {'packets': 12, 'events': 3456}}, 'dropped': {'verifier': {'stale draft': 2}},
            'definitions': summary.DEFINITIONS}


def test_report_html_is_one_file_with_pictures_and_plots(tmp_path):
    (tmp_path / f'{sample.START}_frame.jpg').write_bytes(b'\xff\xd8jpeg')
    page = report.render_html(full_report(sample.record()), tmp_path)
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and '<script' not in page and 'url(http' not in page
    assert page.count('<img ') == 1 and page.count('<svg') == 4
    assert '<del>truck</del>' in page and '<ins>car</ins>' in page and '3,456' in page and 'not verified' in page
    assert '10 / 11' in page


def test_report_html_shows_the_path_of_each_caption_where_there_was_a_timeline(tmp_path):
    stages = {'camera': 4.0, 'settle': 2.5, 'first pass': 30.0, 'no core': 6.0}
    paths = [WindowPath(window, 1, tuple(_pieces(stages)), 1, 2.0) for window in sample.record().windows]
    page = report.render_html({**full_report(sample.record()), 'critical_path': summarise(paths)}, tmp_path)
    assert page.count('<svg') == 6 and 'from the publication to the monitor' in page
    assert all(f'<td>{stage}</td>' in page for stage in stages) and '<td>prefill</td>' not in page
    page = report.render_html({**full_report(sample.record()), 'critical_path': summarise([])}, tmp_path)
    assert page.count('<svg') == 4


def test_every_stage_has_a_colour_of_its_own():
    assert list(plots.STAGE_COLOURS) == [stage for stage in STAGES if stage in plots.STAGE_COLOURS]
    assert set(plots.STAGE_COLOURS) == set(STAGES)
    assert len(set(plots.STAGE_COLOURS.values())) == len(STAGES)


def _pieces(stages):
    at_us = 0.0
    for stage, length_ms in stages.items():
        yield Piece(stage, at_us, at_us + 1000 * length_ms)
        at_us += 1000 * length_ms


def test_report_html_escapes_what_a_model_says(tmp_path):
    record = Recorder()
    record.add_draft(sample.draft(1, '<script>alert(1)</script> & more'), 3.0, 0)
    page = report.render_html(full_report(record), tmp_path)
    assert '<script>' not in page and '&lt;script&gt;' in page


@pytest.mark.parametrize('text', [
    pytest.param('a \x1b[31mred\x9b2J car', id='escape'), pytest.param('a \u202egpj.exe\u2066 car', id='direction'),
    pytest.param('a\u200b \ud800car', id='no width and half a pair')])
def test_report_html_has_no_character_that_acts(tmp_path, text):
    record = Recorder()
    record.add_draft(sample.draft(1, text), 3.0, 0)
    record.add_draft(sample.draft(2, 'a car'), 3.0, 0)
    record.add_caption(sample.caption(2, text), 9.0)
    page = report.render_html({**full_report(record), 'source': text}, tmp_path)
    assert not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]', page)
    report.write_html(tmp_path / 'report.html', full_report(record), tmp_path)


def test_report_html_of_an_empty_demo_is_whole(tmp_path):
    page = report.render_html(full_report(Recorder()), tmp_path)
    assert page.rstrip().endswith('</html>') and 'nothing was verified' in page


def test_report_json_reads_back(tmp_path):
    whole = full_report(sample.record())
    report.write_json(tmp_path / 'report.json', whole)
    assert json.loads((tmp_path / 'report.json').read_text()) == whole
    assert [path.name for path in tmp_path.iterdir()] == ['report.json']


def test_report_unwritable_folder_is_named(tmp_path):
    with pytest.raises(CrossSpecError, match='report.json cannot be written'):
        report.write_json(tmp_path / 'none' / 'report.json', {})


def test_report_html_of_a_long_demo_has_a_bounded_number_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(report, 'MAX_PICTURED', 5)
    record = sample.record()
    for window_id in record.windows:
        (tmp_path / f'{window_id}_frame.jpg').write_bytes(b'jpeg')
    page = report.render_html(full_report(record), tmp_path)
    assert page.count('<img ') == 4 and page.count('class="window"') == 12
