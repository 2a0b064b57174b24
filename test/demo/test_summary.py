"""Numbers of the report from a record made by hand."""
import dataclasses

import pytest
import sample

from crossspec_ros.demo import summary
from crossspec_ros.speculation.types import Stage
from crossspec_ros.view.record import Recorder


@pytest.mark.parametrize(('values', 'expected'), [
    pytest.param([], {'p50': None, 'p95': None, 'p99': None, 'n': 0}, id='empty'),
    pytest.param([None, None], {'p50': None, 'p95': None, 'p99': None, 'n': 0}, id='none_seen'),
    pytest.param([7.0, None], {'p50': 7.0, 'p95': 7.0, 'p99': 7.0, 'n': 1}, id='one'),
    pytest.param(list(range(101)), {'p50': 50.0, 'p95': 95.0, 'p99': 99.0, 'n': 101}, id='many'),
])
def test_percentiles_leave_out_what_was_not_seen(values, expected):
    assert summary.percentiles(values) == expected


def test_summarise_counts_windows_not_messages():
    got = summary.summarise(sample.record())
    assert (got['windows'], got['drafts'], got['captions']) == (12, 12, 11)
    assert (got['draft_messages'], got['caption_messages']) == (24, 22)
    assert got['draft_age_ms']['n'] == 12 and got['caption_age_ms']['n'] == 11
    assert got['deadline_misses'] == {'draft': 1, 'caption': 0, 'draft_over_budget': 0, 'caption_over_budget': 3}
    assert got['mode'] == 'cross_modal'


def test_summarise_acceptance_adds_up_over_windows():
    got = summary.summarise(sample.record())['acceptance']
    assert got['num_draft_tokens'] == 11 * 40
    assert got['per_source']['memory'] == {'num_draft_tokens': 220, 'num_accepted_tokens': 55,
                                           'draft_acceptance_rate': 0.25}
    lengths = [len(sample.WORDS[i % 4].split()) + 1 for i in range(12) if i != 5]
    assert got['tau'] == pytest.approx(sum(lengths) / 22, abs=1e-3)


def test_summarise_events_only_is_draft_only():
    record = Recorder()
    record.add_draft(sample.draft(3, 'a car'), 10.0, 5)
    got = summary.summarise(record)
    assert (got['mode'], got['captions'], got['acceptance']['tau']) == ('draft_only', 0, None)
    assert got['caption_age_ms']['p50'] is None


def test_summarise_nothing_seen_is_empty():
    got = summary.summarise(Recorder())
    assert (got['windows'], got['mode'], got['captions_by_window']) == (0, None, [])


def test_recorder_retracted_caption_is_gone():
    record = sample.record(1)
    record.add_caption(sample.caption(sample.START, '', Stage.RETRACTED), 0.0)
    assert summary.summarise(record)['captions'] == 0 and record.retracted == 1


def test_recorder_drafts_are_ordered_by_revision():
    record = Recorder()
    for revision in (2, 0, 1):
        record.add_draft(sample.draft(1, f'revision {revision}', revision), 0.0, 0)
    assert record.windows[1].draft.text == 'revision 2'


def test_window_draft_is_the_last_from_events_alone():
    record = Recorder()
    record.add_draft(sample.draft(1, 'a truck', 0), 12.0, 0)
    record.add_draft(dataclasses.replace(sample.draft(1, 'a car that', 1), base_length=2), 99.0, 0)
    assert record.windows[1].draft.text == 'a truck' and len(record.windows[1].drafts) == 2
    assert record.windows[1].draft_age_ms == 12.0
