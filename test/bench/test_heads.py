"""`crossspec bench heads`: what it reports, records, and refuses; a replay takes the passes that the engine takes."""
from __future__ import annotations

import json

import pytest

import tiny_models
from crossspec_ros.bench.decode import make_windows
from crossspec_ros.bench.heads import mixtures
from crossspec_ros.bench.heads_replay import Replay, record_drive
from crossspec_ros.cli import main
from crossspec_ros.models.heads import new_head, save_head
from crossspec_ros.models.targets import load_target
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources.heads import FINAL, HeadSource

QUESTION = 'What is happening?'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp('model'), context=1024)


@pytest.fixture(scope='module')
def target(folder):
    return load_target(folder)


@pytest.fixture(scope='module')
def head(target, tmp_path_factory):
    made = tmp_path_factory.mktemp('head')
    save_head(new_head('medusa', target, range(6, 200), attention_heads=4), made)
    return made


def test_heads_reports_every_row_and_uses_its_record(folder, head, tmp_path, capsys):
    words = ['bench', 'heads', '--model', str(folder), '--drafter', 'none', '--heads', str(head), '--windows', '3',
             '--drive-windows', '2', '--paces', 'brisk', '--resamples', '20', '--record', str(tmp_path), '--json']
    reports = []
    for _ in range(2):
        assert main(words) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['brisk_1002000_2.npz', 'brisk_1002001_1.npz']
    for report in reports:
        rows = report['paces']['brisk']['rows']
        assert list(rows) == ['none', 'memory', 'rehearsal', 'medusa', 'merged', 'merged + medusa']
        assert rows['none']['tau']['value'] == 1.0 and set(rows['merged + medusa']['over_merged']) == set(rows['none'])
        assert report['heads']['medusa']['parameters'] > 0
        low, high = rows['merged']['tau']['interval']
        assert low <= rows['merged']['tau']['value'] <= high
    assert main([*words, '--prompt', 'What is ahead?']) == 2
    assert 'name another folder' in capsys.readouterr().err


def test_replay_takes_the_passes_of_the_engine(target):
    head = new_head('medusa', target, range(6, 200), attention_heads=4)
    costs = {1: 5.0, 64: 9.0, 512: 30.0}
    replay = Replay(target, (FINAL,), costs, 1.0, QUESTION, 240, 320)
    windows = record_drive(target, None, (FINAL,), seed=3, pace='brisk', windows=2, first_id=1, prompt=QUESTION)
    for names in ((), ('memory', 'previous')):
        engine = CaptionEngine(target, EngineConfig(sources=names), more=[HeadSource(head, target.vocab_size)])
        for count, cost_ms in costs.items():
            engine.proposer.cost.measured(count, cost_ms)
        engine.proposer.cost.observe = lambda tokens, cost_ms: None
        told = replay.run(names, [head], windows)
        for window, one in zip(make_windows(2, 3, 1, QUESTION, None), told):
            session = engine.open(window.window_id, 0, QUESTION)
            for slot, frame in enumerate(window.frames):
                session.add_frame(slot, window.window_id * 8 + slot, frame)
            *_, final = session.answer()
            session.close()
            few = max(2, final.target_passes // 2)                  # times decide how large trees are
            assert abs(final.target_passes - one.passes) <= few
            assert one.tokens >= len(final.token_ids)


def test_mixtures_have_each_head_alone_and_merged(head, target):
    heads = [new_head(kind, target, range(6, 200), attention_heads=4) for kind in ('medusa', 'block')]
    rows = mixtures(heads, with_drafter=True)
    assert {'event_drafter', 'medusa', 'merged + block', 'merged + all heads'} <= set(rows)


@pytest.mark.parametrize('words, text', [
    pytest.param(['--windows', '0'], '--windows must be', id='windows'),
    pytest.param(['--paces', 'wild'], '--paces must be', id='pace'),
    pytest.param(['--heads', '/nowhere'], 'has no config.json', id='head'),
    pytest.param(['--model', '/nowhere'], 'not there', id='model'),
])
def test_heads_bad_options(words, text, folder, capsys):
    assert main(['bench', 'heads', '--model', str(folder), '--drafter', 'none', *words]) == 2
    assert text in capsys.readouterr().err
