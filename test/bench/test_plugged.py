"""A draft source of another package in the tables: the one of the page, put where an installer would put it."""
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crossspec_ros.bench.drafts import show
from crossspec_ros.cli import main
from lab_package import install_lab
from tiny_pair import write_pair

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'drafters.md'
SHORT = ['--windows', '2', '--drive-windows', '2', '--paces', 'calm', '--resamples', '20']


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    verifier, drafter = write_pair(tmp_path_factory.mktemp('pair'))
    return ['--model', str(verifier), '--drafter', str(drafter)]


@pytest.fixture(autouse=True)
def habit(tmp_path, monkeypatch):
    """What docs/drafters.md shows, as it stands there."""
    text = PAGE.read_text(encoding='utf-8')
    code = re.search(r'```python\n(class Habit.*?)```', text, re.DOTALL)[1]
    group, entry = re.search(r'entry-points\."(crossspec\.draft_sources)"\]\nhabit = "(lab_drafts:Habit)"',
                             text).groups()
    install_lab(tmp_path, monkeypatch, code, f'[{group}]\nhabit = {entry}\n')


def report_of(capsys, *words):
    assert main(['bench', *words, '--sources', 'habit', '--json']) == 0
    return json.loads(capsys.readouterr().out)


def test_decode_has_a_row_of_it_with_the_tokens_of_generate(pair, capsys):
    report = report_of(capsys, 'decode', *pair, '--windows', '2', '--warm', '2', '--max-tokens', '12', '--schemes',
                       'habit,ours,ours + habit')
    rows = report['schemes']
    assert list(rows) == ['generate', 'habit', 'ours', 'ours + habit']
    assert all(row['identical'] for row in rows.values()) and rows['habit']['tau'] >= 1.0


def test_drafts_and_heads_have_rows_of_it(pair, capsys):
    report = report_of(capsys, 'drafts', *pair, '--alternatives', '4', *SHORT)
    rows = report['paces']['calm']['rows']
    assert list(rows) == ['drafts', 'merged', 'habit', 'merged + habit', 'drafts + 4', 'merged + 4']
    assert rows['habit']['head_ms']['value'] > 0 and 'over_merged' in rows['merged + habit']
    show(report)
    assert 'merged + habit' in capsys.readouterr().out
    rows = report_of(capsys, 'heads', *pair, *SHORT)['paces']['calm']['rows']
    assert list(rows) == ['none', 'event_drafter', 'memory', 'rehearsal', 'habit', 'merged', 'merged + habit']
    assert rows['habit']['tau']['value'] >= rows['none']['tau']['value'] == 1.0


@pytest.mark.parametrize('words, text', [
    pytest.param(['decode', '--sources', 'habits'], 'did you mean habit', id='unknown'),
    pytest.param(['heads', '--sources', 'memory'], 'must be of other packages', id='built-in'),
    pytest.param(['drafts', '--sources', 'habit,habit'], 'named once each', id='twice'),
    pytest.param(['decode', '--sources', 'habit', '--drive', '5'], 'left out with', id='drive'),
])
def test_sources_that_have_no_row_are_one_error(words, text, capsys):
    assert main(['bench', *words]) == 2
    told = capsys.readouterr().err
    assert text in told and told.count('\n') == 1
