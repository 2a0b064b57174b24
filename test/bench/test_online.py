"""`crossspec bench online`: what it reports and draws, and what it refuses."""
from __future__ import annotations

import json

import pytest
from tiny_pair import write_pair

from crossspec_ros.bench import online
from crossspec_ros.cli import main


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp('pair'))


def test_online_reports_each_part_of_the_drive_and_draws_it(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(online, 'World', small_world)
    verifier, drafter = map(str, pair)
    plot = tmp_path / 'online.png'
    assert main(['bench', 'online', '--model', verifier, '--drafter', drafter, '--windows', '8', '--drafts', '0',
                 '--cpu-share', '0.1', '--plot', str(plot), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row['phase'] for row in report['rows']] == [0] * 8 + [1] * 8 + [2] * 8
    assert report['phases'][1] == 'Describe the road. (day, dusk)' and len(report['tau']) == 3
    for row in report['rows']:
        assert 1 <= row['fixed'] <= row['tokens'] and 1 <= row['online'] <= row['tokens']
    first = report['tau'][0]['fixed']['first_half']
    rows = report['rows'][:4]
    assert first == pytest.approx(sum(row['tokens'] for row in rows) / sum(row['fixed'] for row in rows), abs=1e-3)
    assert report['learner']['judged'] == 24 and report['learner']['steps'] > 0 and 'draft_ms' not in report
    assert plot.read_bytes().startswith(b'\x89PNG')
    assert any('tokens a pass' in line for line in online.lines(report))


def small_world(seed: int, pace: str):
    from crossspec_ros.world import World
    return World(seed, width=64, height=48, pace=pace, event_hz=20)


@pytest.mark.parametrize('words, text', [
    pytest.param(['--windows', '7'], '--windows must be >= 8', id='windows'),
    pytest.param(['--cpu-share', '0'], '--cpu-share must be > 0', id='share'),
    pytest.param(['--judge-windows', '2'], '--judge-windows >= 8', id='judge'),
    pytest.param(['--prompts', 'one', ' '], '--prompts must be two texts', id='prompt')])
def test_online_refuses_what_cannot_be(words, text, capsys):
    assert main(['bench', 'online', *words]) == 2
    assert text in capsys.readouterr().err
