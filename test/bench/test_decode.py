"""`crossspec bench decode` runs on any checkpoint, and its JSON has what it promises."""
from __future__ import annotations

import json

import pytest

import tiny_models
from crossspec_ros.bench.decode import _median, summary
from crossspec_ros.bench.decode_predicted import Times, predicted
from crossspec_ros.bench.decode_schemes import Outcome
from crossspec_ros.cli import main
from shared_data import shared

KEYS = {'age_ms', 'compute_ms', 'tau', 'identical', 'identical_windows', 'passes', 'own_share', 'beside_model_share'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp('model'), context=1024)


def report_of(capsys, *words: str) -> dict:
    assert main(['bench', 'decode', *words, '--json']) == 0
    return json.loads(capsys.readouterr().out)


def test_decode_reports_every_scheme(folder, capsys):
    report = report_of(capsys, '--model', str(folder), '--drafter', 'none', '--windows', '2', '--warm', '1',
                       '--max-tokens', '12')
    assert report['windows'] == 2 and 'cores' in report['hardware']
    named = set(report['schemes']) | set(report['not_run'])
    assert {'generate', 'prompt_lookup', 'ours', 'memory', 'anticipatory'} <= named
    assert all(set(scheme) == KEYS for scheme in report['schemes'].values())
    assert report['schemes']['ours']['identical'] and report['schemes']['tree']['identical']
    assert report['speedup']['generate'] == 1.0


def test_decode_several_runs_from_a_memory_that_begins_anew(folder, capsys):
    words = ('--model', str(folder), '--drafter', 'none', '--windows', '2', '--warm', '1', '--max-tokens', '12',
             '--schemes', 'memory')
    once, twice = report_of(capsys, *words), report_of(capsys, *words, '--runs', '2')
    assert (once['runs'], twice['runs'], twice['windows']) == (1, 2, 2)
    assert once['schemes']['memory']['passes'] == twice['schemes']['memory']['passes']
    assert twice['schemes']['memory']['identical']
    assert main(['bench', 'decode', *words, '--runs', '2', '--predict']) == 2


def test_age_of_a_window_is_the_median_of_its_runs_and_other_tokens_are_not_hidden():
    runs = [Outcome((1, 2), age, 0.0, passes=1, emitted=2) for age in (90.0, 40.0, 50.0)]
    assert _median(runs) is runs[2] and _median(runs[:2]) is runs[1] and _median(runs[:1]) is runs[0]
    odd = Outcome((1, 3), 95.0, 0.0, passes=1, emitted=2)
    assert summary([runs[2]], [runs[2]], [runs])['identical']
    assert not summary([runs[2]], [runs[2]], [[*runs, odd]])['identical']


def test_decode_predicts_ages_from_what_it_measured(folder, capsys):
    report = report_of(capsys, '--model', str(folder), '--drafter', 'none', '--windows', '2', '--warm', '1',
                       '--max-tokens', '12', '--schemes', 'plain,memory,ours', '--predict')
    assert set(report['predicted']) == {'generate', 'plain', 'memory', 'ours'}
    for name, row in report['predicted'].items():
        assert row['ratio'] == pytest.approx(row['predicted_ms'] / row['measured_ms'], abs=0.01)
    assert report['predicted']['ours']['predicted_ms'] < report['predicted']['plain']['predicted_ms']


def test_predicted_ages_of_schemes_by_hand():
    times = Times({1: 10.0, 11: 11.0, 101: 20.0}, encode_all_ms=40.0, prefill_all_ms=100.0, encode_ms=5.0)
    outcome = Outcome((), 200.0, 0.0, passes=5, emitted=20)
    plain = Outcome((), 330.0, 0.0, passes=20, emitted=20)
    found = predicted([times], 91, {'plain': [plain], 'memory': [outcome], 'ours': [outcome], 'prompt_lookup': []},
                      {'plain': 0.0, 'memory': 8.0, 'ours': 10.0})
    assert found['plain'] == {'predicted_ms': 330.0, 'measured_ms': 330.0, 'ratio': 1.0}
    assert found['memory']['predicted_ms'] == 100 + 5 + 4 * 11            # 8 nodes of 5 passes, the first has none
    assert found['ours']['predicted_ms'] == 5 + 20 + 4 * 11 and 'prompt_lookup' not in found


def test_decode_assisted_generation_where_an_assistant_is_named(folder, capsys):
    report = report_of(capsys, '--model', str(folder), '--assistant', str(folder), '--drafter', 'none', '--windows',
                       '2',
                       '--warm', '1', '--max-tokens', '12', '--schemes', 'assisted,plain')
    assert report['schemes']['assisted']['identical'] and report['schemes']['assisted']['tau'] > 1
    assert report['not_run'] == {}


def test_decode_drive_reports_memory(folder, capsys):
    report = report_of(capsys, '--model', str(folder), '--drafter', 'none', '--drive', '12', '--max-tokens', '8')
    assert report['windows'] == report['stock'] == 12 and report['rss_mb']['12'] > 0
    assert report['rise_mb']['from_window'] == 6 and set(report['sizes']) == set(report['rss_mb'])
    assert report['sizes']['12']['memory_captions'] == 12 and report['sizes']['12']['windows'] == 0


@pytest.mark.parametrize('shapes', [False, pytest.param(True, marks=pytest.mark.long)], ids=['model', 'shapes'])
def test_decode_counts_what_a_pass_asks_of_the_host(folder, capsys, tmp_path, shapes):
    words = ['--model', str(folder), '--max-tokens', '12']
    if shapes:
        rows = [{'target': [300 + (7 * place + row) % 40 for place in range(9)]} for row in range(2)]
        (tmp_path / 'traces.json').write_text(json.dumps({'rows': rows}), encoding='utf-8')
        words = ['--shapes', 'videollava', '--traces', str(tmp_path / 'traces.json')]
    report = report_of(capsys, '--counts', '--windows', '2', *words)
    free, padded = report['counts'].values()
    assert report['identical'] and report['layers'] == (32 if shapes else 2)
    assert padded['later']['reads'] == padded['later']['most_reads'] == 1 and padded['first']['most_reads'] == 1
    assert free['later']['reads'] > 3 and free['later']['launches'] == free['later']['operations']
    assert 1 < padded['later']['launches'] < 60 < padded['later']['operations']
    assert min(free['later']['passes'], padded['later']['passes']) >= 1       # trees are sized by times, so passes vary


@pytest.mark.long
def test_decode_shapes_replay_recorded_captions(capsys):
    traces = shared('traces') / 'videollava_dsec_2s.json'
    report = report_of(capsys, '--shapes', 'videollava', '--traces', str(traces), '--windows', '1',
                       '--layers', '1', '--width', '128')
    assert report['schemes']['ours']['identical'] and report['schemes']['ours']['tau'] >= 1


@pytest.mark.parametrize('words, text', [
    pytest.param(['--windows', '0'], '--windows must be', id='windows'),
    pytest.param(['--model', '/nowhere'], 'not there', id='model'),
    pytest.param(['--counts', '--shapes', 'videollava', '--traces', '/nowhere'], '--traces must be', id='counts'),
    pytest.param(['--assistant', '/nowhere'], 'not there', id='assistant'),
    pytest.param(['--shapes', 'videollava', '--traces', '/nowhere'], '--traces must be', id='traces'),
    pytest.param(['--shapes', 'videollava', '--width', '-1'], '--width must be >= 0', id='width'),
    pytest.param(['--layers', '2'], 'need --shapes', id='layers of no shape')])
def test_decode_bad_option_is_one_error(words, text, capsys):
    assert main(['bench', 'decode', *words]) != 0
    assert text in capsys.readouterr().err
