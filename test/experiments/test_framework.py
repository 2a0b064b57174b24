"""How experiments are found, run, kept, refused and reported."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import pytest
from tiny_settings import tiny

from crossspec_ros import __version__
from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments import process, running
from crossspec_ros.experiments.experiment import (
    HOLDS, QUICK, Experiment, Outcome, Plot, Settings, Table, Value, outcome_from)
from crossspec_ros.experiments.folder import RESULT, SETTINGS, ResultFolder
from crossspec_ros.experiments.intervals import over, ratio
from crossspec_ros.experiments.methods import METHODS, not_built
from crossspec_ros.experiments.registry import chosen, experiments
from crossspec_ros.experiments.report import read_results, render_html, render_markdown, write_report


@dataclass(frozen=True)
class Toy(Experiment):
    """Breaks off in its second part as often as it is told to."""

    def parts(self, settings):
        return ('one', 'two')

    def measure(self, settings, part, lab):
        MEASURED.append(part)
        if part == 'two' and BREAKS:
            raise BREAKS.pop()
        return {'rows': [{'drive': drive, 'tokens': 4, 'passes': 2} for drive in 'ab']}

    def conclude(self, settings, found):
        value = ratio(found['one']['rows'] + found['two']['rows'], 'tokens', 'passes')
        return Outcome((Table('A <b>title</b>', ('row', 'tau'), (('x|y', value), ('z', None))),), 'it is 2.', HOLDS,
                       'Do nothing.', Plot('bars', 'P', 'x', '', {'brisk': [('x|y', 2.0, 1.5, 2.5)]}, 1.0),
                       ('a reason',))


MEASURED: list[str] = []
BREAKS: list[BaseException] = []
TOY = Toy('toy', 'A toy', '<script>alert(1)</script>', 'nothing & less', 'What it is.', quick=Settings(**QUICK))


@pytest.fixture
def toy(monkeypatch, tmp_path):
    MEASURED.clear()
    BREAKS.clear()
    monkeypatch.setattr(process, 'experiments', lambda: {'toy': TOY})
    folder = ResultFolder(tmp_path, TOY, TOY.quick, 'abc')
    folder.claim()
    return folder


def run(folder, said=None):
    process.measure({'name': 'toy', 'settings': json.loads(json.dumps(asdict(folder.settings))), 'quick': True,
                     'out': str(folder.path.parent), 'command': ['crossspec', 'experiment'], 'commit': 'abc'},
                    (said if said is not None else []).append)


def test_every_method_is_measured_by_an_experiment_there_is_or_says_why_not():
    known = experiments()
    assert len(known) >= 12 and all(each.source and each.claim and each.measures for each in known.values())
    assert not {name for method in METHODS for name in method.where} - set(known)
    assert all(method.why for method in not_built()) and len(METHODS) >= 35


def test_unknown_name_is_refused_with_the_nearest(capsys):
    with pytest.raises(CrossSpecError, match="no experiment 'sorces'; did you mean sources"):
        chosen(['sampling', 'sorces'])
    assert main(['experiment', 'run', 'qqq']) == 2
    assert 'one of ablations' in capsys.readouterr().err
    assert list(chosen(['lookahead', 'sampling', 'lookahead'])) == ['lookahead', 'sampling']
    assert chosen([]) == chosen(['all']) == experiments()


@pytest.mark.parametrize('stop', [KeyboardInterrupt(), CrossSpecError('mend it')], ids=['interrupted', 'refused'])
def test_finished_parts_are_kept_and_not_measured_again(toy, stop):
    BREAKS.append(stop)
    with pytest.raises(type(stop)):
        run(toy)
    assert toy.missing() == ['two'] and not toy.done
    run(toy)
    assert MEASURED == ['one', 'two', 'two'] and toy.done
    assert not list(toy.path.rglob('*.part'))


def test_results_of_other_settings_version_or_commit_are_refused(toy, tmp_path):
    with pytest.raises(CrossSpecError, match='steps 40 where 41 is asked for: name another folder with --out'):
        ResultFolder(tmp_path, TOY, replace(TOY.quick, steps=41), 'abc').claim()
    with pytest.raises(CrossSpecError, match='commit abc where this is def'):
        ResultFolder(tmp_path, TOY, TOY.quick, 'def').claim()
    path = toy.path / SETTINGS
    path.write_text(path.read_text().replace(__version__, '0.0.1'))
    with pytest.raises(CrossSpecError, match='version 0.0.1 where this is'):
        toy.claim()
    path.write_text('{')
    with pytest.raises(CrossSpecError, match='cannot be read.*delete it'):
        toy.claim()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert main(['experiment', 'run', 'sampling', '--quick', '--out', str(tmp_path / 'file')]) == 2
    assert '--out must be a folder' in capsys.readouterr().err
    assert main(['experiment', 'run', 'sampling', '--seeds', '0', '--out', str(tmp_path)]) == 2
    assert main(['experiment', 'report', str(tmp_path / 'none')]) == 2
    assert main(['experiment', 'report', str(tmp_path)]) == 2
    assert 'no finished experiment' in capsys.readouterr().err


def test_report_says_claim_and_measurement_and_escapes_what_it_is_told(toy, tmp_path):
    run(toy)
    page, markdown = write_report(tmp_path)
    html, text = page.read_text(), markdown.read_text()
    assert '<script>' not in html and '&lt;script&gt;' in html and 'nothing &amp; less' in html
    assert 'http' not in html.replace('data:image', '') and 'data:image/png;base64,' in html
    assert '2.00 (2.00 to 2.00)' in html and 'Left out: a reason.' in html and 'holds' in html
    assert '<script>' not in text and 'x\\|y' in text and '![P](experiments/toy.png)' in text
    assert (tmp_path / 'experiments' / 'toy.png').read_bytes().startswith(b'\x89PNG')
    assert all(method.name.replace("'", '&#39;') in html for method in METHODS)
    figures = json.loads((tmp_path / 'experiments' / 'toy.json').read_text())
    assert figures['outcome']['verdict'] == 'holds' and 'parts' not in figures and 'experiments/toy.json' in text
    assert str(tmp_path) not in json.dumps(figures) and figures['provenance']['commit']
    result = json.loads((toy.path / RESULT).read_text())
    result['outcome']['verdict'] = 'perhaps'
    (toy.path / RESULT).write_text(json.dumps(result))
    with pytest.raises(CrossSpecError, match='of another version'):
        read_results(tmp_path)


def test_outcome_comes_back_as_it_was_written():
    outcome = TOY.conclude(TOY.quick, {part: TOY.measure(TOY.quick, 'one', None) for part in ('one', 'two')})
    again = outcome_from(json.loads(json.dumps(asdict(outcome))))
    assert again.tables == outcome.tables and again.verdict == HOLDS
    assert render_markdown and render_html and again.plot.mark == 1.0


def test_intervals_are_of_drives_and_paired():
    rows = [{'drive': drive, 'tokens': tokens, 'passes': 1} for drive, tokens in (('a', 1), ('b', 9))
            for _ in range(50)]
    wide = ratio(rows, 'tokens', 'passes')
    assert (wide.value, wide.low, wide.high) == (5.0, 1.0, 9.0)
    more = [row | {'tokens': row['tokens'] + 1} for row in rows]
    assert over(more, rows, 'tokens', 'passes') == Value(1.0, 1.0, 1.0)
    assert ratio(rows[:50], 'tokens', 'passes') == Value(1.0) and ratio([], 'tokens', 'passes') is None


def test_pages_say_which_of_the_runs_were_quick(toy, tmp_path):
    run(toy)
    page, markdown = write_report(tmp_path)
    assert 'These are quick runs' in markdown.read_text() and 'quick runs</div>' in page.read_text()
    facts = json.loads((toy.path / 'result.json').read_text())
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'whole' / 'result.json').write_text(json.dumps(facts | {'name': 'whole', 'quick': False}))
    page, markdown = write_report(tmp_path)
    assert 'Those of toy are quick runs' in markdown.read_text() and 'quick runs: toy</div>' in page.read_text()
    facts = json.loads((toy.path / 'result.json').read_text())
    (toy.path / 'result.json').write_text(json.dumps(facts | {'quick': False}))
    page, markdown = write_report(tmp_path)
    assert 'quick' not in markdown.read_text().split('| Experiment')[0] and 'quick runs' not in page.read_text()


def test_run_starts_a_process_that_goes_on_from_what_is_there(tmp_path, capsys):
    words = ['experiment', 'run', 'sampling', '--quick', '--out', str(tmp_path), '--json']
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)['sampling']
    assert first['provenance']['command'].startswith('crossspec') and first['quick'] and first['settings']['seeds'] == 1
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.json')}
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)['sampling'] == first
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.json')}
    assert main([*words, '--seeds', '2']) == 2
    assert 'seeds 1 where 2 is asked for' in capsys.readouterr().err


def test_a_process_that_fails_is_told_with_the_end_of_its_log(tmp_path, pair, monkeypatch):
    known = experiments()['frames']
    broken = replace(tiny(known, pair), side=7)                      # less than a patch
    with pytest.raises(CrossSpecError, match='frames.*finished parts are kept'):
        running.run_experiment(known, broken, tmp_path, quick=True, command=['crossspec'], bars=_no_bar)


class _no_bar:
    def __init__(self, *_):
        pass

    def __enter__(self):
        return lambda count: None

    def __exit__(self, *_):
        return False
