"""Counts taken from diagnostics, and which windows belong to a stream."""
import pytest
import sample

from crossspec_ros.demo import counts
from crossspec_ros.view.drops import dropped_by_node
from crossspec_ros.view.record import Diagnostic, Recorder

DIAGNOSTICS = {
    '/crossspec/drafter': Diagnostic(0, 'ok', {'received /cam/events': '105', 'packets': '105', 'events': '82469',
                                               'dropped_time_back': '3',
                                     'dropped_malformed': '0', 'drafts': '7'}),
    '/crossspec/verifier': Diagnostic(1, 'no image', {'draft_refused': '2', 'prompt_key': 'refused',
                                                      'windows_skipped': '1'}),
    '/crossspec/player': Diagnostic(0, 'ok', {'late': '0', 'messages': '12'})}


def test_dropped_by_node_keeps_causes_that_happened():
    assert dropped_by_node(DIAGNOSTICS) == {
        'drafter': {'dropped_time_back': 3}, 'verifier': {'draft_refused': 2, 'windows_skipped': 1}}


def test_events_by_topic_are_the_drafters():
    assert counts.events_by_topic(DIAGNOSTICS) == {'/cam/events': {'packets': 105, 'events': 82469}}
    assert counts.events_by_topic({}) == {}


@pytest.mark.parametrize(('first_s', 'last_s', 'expected'), [
    pytest.param(10.0, 12.0, [11, 12], id='whole_windows'),
    pytest.param(10.0, 12.01, [11, 12, 13], id='last_one_begun'),
    pytest.param(9.5, 11.9, [10, 11, 12], id='cut_at_both_ends'), pytest.param(11.4, 11.4001, [12], id='inside_one')])
def test_stream_window_ids_leave_out_what_came_after(first_s, last_s, expected):
    record = Recorder()
    for window_id in range(5, 20):
        record.add_draft(sample.draft(window_id, 'a car'), 0.0, 0)
    assert counts.stream_window_ids(record, round(first_s * 1e9), round(last_s * 1e9)) == expected
    assert list(record.only(expected).windows) == expected
