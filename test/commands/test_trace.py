"""`crossspec trace` joins parts and tells where the age went; `up` and launch files say where parts go."""
import json

import pytest
from trace_rules import broken

from crossspec_ros import cli
from crossspec_ros.commands import up
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import declare
from crossspec_ros.tracing import summary
from crossspec_ros.tracing.tracer import Tracer


def leave_part(folder):
    """A part of a verifier that published one caption."""
    tracer = Tracer()
    tracer.open(folder, '/crossspec/verifier')
    tracer.instant('window whole', window=7)
    with tracer.span('answer', window=7):
        with tracer.span('verify'):
            sum(range(20_000))
        with tracer.span('publish', window=7, stage='FINAL', age_ms=40.0, passes=1):
            pass
    tracer.close()


def test_trace_joins_parts_and_tells_where_the_age_went(tmp_path, capsys):
    leave_part(tmp_path / 'parts')
    assert cli.main(['trace', str(tmp_path / 'parts'), '--out', str(tmp_path / 'all.json')]) == 0
    told = capsys.readouterr().out
    assert '1 captions' in told and 'first pass' in told and 'settle' in told and 'ui.perfetto.dev' in told
    events = json.loads((tmp_path / 'all.json').read_text())['traceEvents']
    assert not broken(events) and any(event['name'] == 'window 7' for event in events)
    assert cli.main(['trace', str(tmp_path / 'parts'), '--out', str(tmp_path / 'all.json'), '--json']) == 0
    window, = json.loads(capsys.readouterr().out)['windows']
    assert window['window_id'] == 7 and sum(window['stage_ms'].values()) == pytest.approx(window['age_ms'], abs=0.1)


def test_trace_of_a_folder_without_parts_is_bad_input(tmp_path, capsys):
    assert cli.main(['trace', str(tmp_path)]) == 2
    assert 'must be a folder with the parts of a trace' in capsys.readouterr().err


def test_argument_trace_reaches_every_node(tmp_path):
    specs = declare({'trace': str(tmp_path), 'bag': 'world:1', 'viewer': 'true', 'keep': 'true'})
    assert len(specs) == 7 and {spec.parameters['trace.folder'] for spec in specs} == {str(tmp_path)}
    assert not any('trace.folder' in spec.parameters for spec in declare({'bag': 'world:1'}))


def test_up_with_a_trace_gives_its_nodes_a_folder_beside_the_file_and_makes_nothing_to_print(tmp_path, capsys):
    assert cli.main(['up', '--print', '--trace', str(tmp_path / 'all.json')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(f'{tmp_path / "all.json"}.parts' in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_up_removes_the_parts_of_an_earlier_trace_and_its_own_once_they_are_joined(tmp_path, capsys):
    path = tmp_path / 'all.json'
    parts = summary.parts_of(path)
    parts.mkdir()
    (parts / 'old-1.json').write_text('[\n')
    summary.begin(parts)
    assert not list(parts.iterdir())
    leave_part(parts)
    up._keep_timeline(parts, str(path))
    assert path.exists() and not parts.exists() and 'first pass' in capsys.readouterr().err


def test_up_whose_nodes_left_no_part_says_so(tmp_path, capsys):
    summary.begin(tmp_path / 'parts')
    up._keep_timeline(tmp_path / 'parts', str(tmp_path / 'all.json'))
    assert 'no timeline: ' in capsys.readouterr().err


def test_a_trace_where_nothing_can_be_written_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(CrossSpecError, match='trace must be a file in a folder that can be written'):
        summary.begin(summary.parts_of(tmp_path / 'file' / 'all.json'))
