"""Parts of several processes and hosts on one clock."""
import json

import pytest
from trace_rules import broken

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.tracing.timeline import Part, join, write


def part(name, pid, perf_ns, system_ns, host='a', at_us=(0.0,)):
    events = [{'name': 'thread_name', 'ph': 'M', 'pid': pid, 'tid': pid, 'args': {'name': 'main'}}]
    events += [{'name': name, 'ph': 'X', 'pid': pid, 'tid': pid, 'ts': ts, 'dur': 1.0} for ts in at_us]
    return Part(name, pid, {'perf_ns': perf_ns, 'system_ns': system_ns, 'host': host}, events)


def test_parts_of_one_machine_line_up_though_its_clock_was_set_meanwhile():
    stepped = part('b', 2, 5_000_000, 999_000_000_000, at_us=(150.0,))          # the clock jumped before it started
    timeline = join([part('a', 1, 1_000_000, 7_000_000_000, at_us=(100.0,)), stepped])
    assert [(event['name'], event['ts']) for event in timeline.events if event['ph'] == 'X'] == [
        ('a', 0.0), ('b', 50.0)]
    assert timeline.zero_ns == 7_000_000_000 - 1_000_000 + 100_000


def test_parts_of_two_machines_line_up_by_their_system_clocks():
    other = part('b', 2, 9_000_000, 7_000_000_000, host='other', at_us=(9_010.0,))
    timeline = join([part('a', 1, 1_000_000, 7_000_000_000, at_us=(1_000.0,)), other])
    assert [event['ts'] for event in timeline.events if event['ph'] == 'X'] == [0.0, 10.0]


def test_two_processes_of_one_number_get_two():
    timeline = join([part('a', 7, 0, 0), part('b', 7, 0, 0, host='other')])
    assert len({event['pid'] for event in timeline.events}) == 2 and not broken(timeline.events)


def test_timeline_is_written_as_an_object_with_its_events(tmp_path):
    timeline = join([part('a', 7, 0, 5_000)])
    write(timeline, tmp_path / 'trace.json')
    whole = json.loads((tmp_path / 'trace.json').read_text())
    assert whole['traceEvents'] == timeline.events and whole['otherData']['zero_ns'] == '5000'
    assert [path.name for path in tmp_path.iterdir()] == ['trace.json']
    with pytest.raises(CrossSpecError, match='cannot be written'):
        write(timeline, tmp_path / 'none' / 'trace.json')


@pytest.mark.parametrize('change', [
    pytest.param({'ph': 'Q'}, id='phase'), pytest.param({'dur': -1.0}, id='length'),
    pytest.param({'tid': 9}, id='thread without a name'), pytest.param({'ts': 0.5, 'dur': 2.0}, id='overlap')])
def test_rules_find_what_is_broken(change):
    events = join([part('a', 7, 0, 0)]).events
    own = next(event for event in events if event['ph'] == 'X')
    assert not broken(events) and broken([*events, own | change])
