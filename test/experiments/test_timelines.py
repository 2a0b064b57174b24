"""Experiments on a timeline: the critical path of a window, and how busy the processes are."""
from __future__ import annotations

import json
from dataclasses import replace

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.registry import experiments
from crossspec_ros.experiments.studies.machine import spans, within
from crossspec_ros.tracing.timeline import join, read_parts
from crossspec_ros.tracing.tracer import CLOCK

_MS = 1000.0


def _event(name, start_ms, length_ms, pid, **args):
    return {'name': name, 'ph': 'X', 'pid': pid, 'tid': pid, 'ts': start_ms * _MS, 'dur': length_ms * _MS,
            'tdur': length_ms * _MS, 'args': args}


def _part(folder, name, pid, events):
    heads = [{'name': CLOCK, 'ph': 'M', 'pid': pid, 'args': {'perf_ns': 0, 'system_ns': 0, 'host': 'a'}},
             {'name': 'process_name', 'ph': 'M', 'pid': pid, 'args': {'name': f'/car/{name}'}}]
    (folder / f'{name}-{pid}.json').write_text('[\n' + ',\n'.join(map(json.dumps, [*heads, *events])), encoding='utf-8')


@pytest.fixture
def timeline(tmp_path):
    """Two windows, 40 ms in the verifier each: encode 10, verify 20, then a wait of 5 before the caption is out."""
    events = []
    for window, end_ms in ((1, 1000.0), (2, 2000.0)):
        events += [
            _event('image arrives', end_ms + 1, 1, 10, since_sent_ms=1.0, since_received_ms=0.5),
            {'name': 'window whole', 'ph': 'i', 's': 't', 'pid': 10, 'tid': 10, 'ts': (end_ms + 3) * _MS,
             'args': {'window': window}},
            _event('encode', end_ms + 3, 10, 10), _event('verify', end_ms + 13, 20, 10),
            _event('publish', end_ms + 38, 2, 10, window=window, stage='FINAL', age_ms=38.0, passes=1)]
    _part(tmp_path, 'verifier', 10, events)
    _part(tmp_path, 'drafter', 20, [_event('draft forward', 1000, 20, 20), _event('draft forward', 1010, 20, 20)])
    return tmp_path


def _measured(name, timeline, tmp_path):
    experiment = experiments()[name]
    settings = replace(experiment.quick, timeline=str(timeline))
    part, = experiment.parts(settings)
    found = {part: experiment.measure(settings, part, Lab(settings, tmp_path))}
    return found[part], experiment.conclude(settings, found)


def test_breakdown_shows_that_the_age_is_the_sum_of_its_stages_and_not_the_longest(timeline, tmp_path):
    found, outcome = _measured('breakdown', timeline, tmp_path)
    assert [round(window['age_ms']) for window in found['windows']] == [40, 40]
    rows = {row[0].split(':')[0]: row for row in outcome.tables[0].rows}
    assert rows['encode'][1].value == pytest.approx(10) and rows['first pass'][1].value == pytest.approx(20)
    assert rows['the longest stage of each window'][2].value == pytest.approx(0.5)
    assert outcome.verdict == 'does not hold' and '"first pass" and "encode"' in outcome.advice


def test_machine_counts_forwards_once_and_the_idle_time_between(timeline, tmp_path):
    found, outcome = _measured('machine', timeline, tmp_path)
    assert found['gaps_ms']['verifier'] == [pytest.approx(970.0)]
    busy = spans(join(read_parts(timeline)), 'drafter', ('draft forward',))
    assert len(busy) == 1 and within(busy, *busy[0]) == pytest.approx(30 * _MS)
    share = outcome.tables[0].rows[0][1]
    assert share.value == pytest.approx(sum(each['verifier'] for each in found['seconds'])
                                        / sum(each['wall'] for each in found['seconds']))
    assert outcome.verdict == 'does not hold'


@pytest.mark.parametrize('name', ['breakdown', 'machine'])
def test_a_timeline_without_captions_is_refused(name, tmp_path):
    _part(tmp_path, 'verifier', 10, [_event('publish', 1, 1, 10, stage='PARTIAL')])
    with pytest.raises(CrossSpecError, match='it has none: run the graph for longer'):
        _measured(name, tmp_path, tmp_path)
    with pytest.raises(CrossSpecError, match='parts of a trace'):
        _measured(name, tmp_path / 'nowhere', tmp_path)
