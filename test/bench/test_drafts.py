"""`crossspec bench drafts`: its rows, its record, what it refuses; the regression finds what is there and no more."""
from __future__ import annotations

import json

import numpy as np
import pytest

from crossspec_ros.bench.drafts import _held_out_errors
from crossspec_ros.cli import main
from tiny_pair import write_pair


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    verifier, drafter = write_pair(tmp_path_factory.mktemp('pair'))
    return ['--model', str(verifier), '--drafter', str(drafter)]


def test_drafts_reports_every_shape_and_uses_its_record(pair, tmp_path, capsys):
    words = ['bench', 'drafts', *pair, '--alternatives', '4', '--cuts', '0.5', '--windows', '2', '--drive-windows', '1',
             '--paces', 'brisk', '--resamples', '20', '--record', str(tmp_path), '--json']
    reports = []
    for _ in range(2):
        assert main(words) == 0
        reports.append(json.loads(capsys.readouterr().out)['paces']['brisk'])
    assert len(list(tmp_path.iterdir())) == 4
    for report in reports:
        rows = report['rows']
        assert list(rows) == ['drafts', 'merged', 'drafts + 4', 'merged + 4', 'drafts + cut at 0.5',
                              'merged + cut at 0.5']
        assert set(rows['merged + 4']['over_merged']) == set(rows['drafts + 4']['over_drafts']) == set(rows['drafts'])
        assert report['drafts']['drafts + cut at 0.5']['tokens'] < report['drafts']['drafts']['tokens']
        assert set(report['length']['explained']) == {'certainty', 'events', 'certainty and events'}
    assert reports[0]['length'] == reports[1]['length']
    next(path for path in tmp_path.iterdir() if '.looks' in path.name).write_bytes(b'cut')
    assert main(words) == 2 and 'delete it' in capsys.readouterr().err


@pytest.mark.parametrize('words, text', [
    pytest.param(['--windows', '0'], '--windows must be', id='windows'),
    pytest.param(['--paces', 'wild'], '--paces must be', id='pace'),
    pytest.param(['--alternatives', '0'], '--alternatives must be', id='alternatives'),
    pytest.param(['--cuts', '1.5'], '--cuts in', id='cut'),
])
def test_drafts_bad_options(words, text, pair, capsys):
    assert main(['bench', 'drafts', *pair, *words]) == 2
    assert text in capsys.readouterr().err


def test_held_out_errors_fall_by_what_tells_and_not_by_what_does_not():
    generator = np.random.default_rng(0)
    tells, noise = generator.normal(size=400), generator.normal(size=(400, 2))
    right, drives = 5.0 + 2.0 * tells + 0.1 * generator.normal(size=400), np.arange(400) // 40
    mean, told, nothing = (_held_out_errors(features, right, drives).sum() for features in (
        np.zeros((400, 0)), tells[:, None], noise))
    assert told < 0.05 * mean and nothing > 0.97 * mean
