"""`crossspec bench traces`: figures of recorded and hand-made traces."""
from __future__ import annotations

import json

import pytest

from crossspec_ros.bench.traces import Layout, Row, load_rows, measure, percentile, replay
from crossspec_ros.bench.traces_again import measure_again
from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from shared_data import shared
from tiny_models import build_tokenizer

STAGES = (80.0, 16.0, 207.6, 100.0)


def write(path, rows):
    path.write_text(json.dumps({'rows': rows}))
    return path


def test_measure_counts_a_repeated_caption_as_one_pass():
    caption = tuple(range(10))
    figures = measure([Row(caption, (), STAGES)] * 4, Layout(), captions=8)
    assert figures['tau']['merged'] == pytest.approx(40 / 13)  # ten passes, then one each
    assert figures['tau']['drafts'] == 1
    assert figures['latency_ms']['plain'] == pytest.approx(sum(STAGES))
    newest = (80 + 16) / 8 + 207.6 * 274 / 2076
    assert figures['latency_ms']['plain_anticipatory'] == pytest.approx(newest + 100)
    assert figures['speedup']['drafted_anticipatory'] > figures['speedup']['drafted'] > 1
    ages = {row['name']: row['age_ms'] for row in figures['decision']}
    assert ages['generate'] == pytest.approx(80 + 16 + 207.6 + 9 * 10.1)        # a step, and a token of the prefill
    assert ages['ahead'] == pytest.approx(newest + 9 * 10.1) and min(ages, key=ages.get) == 'fused'


def test_replay_does_not_look_ahead():
    """What is measured of the first clips does not change with what comes later."""
    rows = [Row(tuple((7 * clip + 3 * place) % 5 for place in range(12)), (), None) for clip in range(6)]
    other = rows[:3] + [Row((9,) * 12, (), None)] * 3
    sizes = [[nodes for clip in replay(each, ('memory', 'previous'), Layout(), captions=8).clips[:3]
              for nodes, _ in clip] for each in (rows, other)]
    assert sizes[0] == sizes[1]


def test_percentile_is_the_nearest_rank():
    assert percentile([1, 2, 3, 4], 0.5) == 2 and percentile([1, 2, 3, 4], 0.99) == 4


@pytest.mark.parametrize('text, words', [
    pytest.param('{', 'must be JSON', id='no json'), pytest.param('[]', 'must be JSON', id='no rows'),
    pytest.param('{"rows": [{"target": []}]}', r'rows\[0\].target must not be empty', id='empty target'),
    pytest.param('{"rows": [{"target": ["a"]}]}', r'rows\[0\].target must be token ids', id='words'),
    pytest.param('{"rows": [{"target": [1], "draft": [-1]}]}', r'rows\[0\].draft', id='negative draft'),
])
def test_load_rows_refuses(tmp_path, text, words):
    path = tmp_path / 'trace.json'
    path.write_text(text)
    with pytest.raises(CrossSpecError, match=words):
        load_rows(path)
    with pytest.raises(CrossSpecError, match='cannot be read'):
        load_rows(tmp_path / 'absent.json')


def test_bench_traces_prints_json_and_table(tmp_path, capsys):
    path = write(tmp_path / 'short.json', [{'target': [1, 2, 3]}] * 3)
    assert main(['bench', 'traces', str(path), '--json']) == 0
    figures = json.loads(capsys.readouterr().out)['files']['short.json']
    assert figures['clips'] == 3 and figures['tokens'] == 9 and figures['latency_ms'] == {}
    assert set(figures['tau']) == {'memory', 'previous', 'drafts', 'merged'}
    assert main(['bench', 'traces', str(path)]) == 0
    assert 'short.json: 3 clips' in capsys.readouterr().out


def words_of(folder, size):
    """A folder with a tokenizer of so many tokens, and the tokens of captions in it."""
    tokenizer = build_tokenizer(size)
    tokenizer.save_pretrained(folder)
    return tokenizer


def test_bench_traces_says_what_another_vocabulary_costs(tmp_path, capsys):
    """The words of the caption itself, in the verifier's tokens, lack their end only where the verifier tokenises."""
    tokenizer = words_of(tmp_path / 'target', 300)
    words_of(tmp_path / 'other', 268)
    captions = ['a car ahead brakes', 'we slow', 'a van crosses road', 'the night is wet']
    targets = [[*tokenizer(text, add_special_tokens=False)['input_ids'], tokenizer.eos_token_id] for text in captions]
    path = write(tmp_path / 'short.json', [{'target': target, 'draft': target[:2]} for target in targets])
    options = ['--tokenizer', str(tmp_path / 'target'), '--draft-tokenizer', str(tmp_path / 'other')]
    assert main(['bench', 'traces', str(path), *options, '--json']) == 0
    again = json.loads(capsys.readouterr().out)['files']['short.json']['again']
    own, found = again['caption itself'], again['caption itself']['by_tokenizer'][str(tmp_path / 'other')]
    tokens = sum(map(len, targets))
    assert own['same_tokenizer'] == found['drafter_tokenises'] == tokens / len(targets)         # a pass each
    assert 1 < found['verifier_tokenises'] <= tokens / len(targets) and found['drafts_unchanged'] == 1
    assert again['recorded drafter']['same_tokenizer'] > 1
    assert main(['bench', 'traces', str(path), *options]) == 0
    assert 'a drafter of another vocabulary' in capsys.readouterr().out


def test_a_drafter_with_slips_that_goes_on_from_verdicts_loses_less(tmp_path):
    tokenizer = words_of(tmp_path / 'target', 300)
    words_of(tmp_path / 'other', 268)
    text = 'a car ahead brakes at the red light left right van truck bus cyclist pedestrian crosses road is wet night'
    rows = [Row(tuple(tokenizer(text, add_special_tokens=False)['input_ids']) + (tokenizer.eos_token_id,), (), None)
            for _ in range(6)]
    found = measure_again(rows, Layout(), tmp_path / 'target', [tmp_path / 'other'], captions=8)['with slips']
    again = found['by_tokenizer'][str(tmp_path / 'other')]
    assert found['same_tokenizer'] == again['drafter_tokenises'] > again['verifier_tokenises'] > 1


def test_bench_traces_needs_both_tokenizers(tmp_path, capsys):
    path = write(tmp_path / 'short.json', [{'target': [1, 2, 3]}])
    assert main(['bench', 'traces', str(path), '--draft-tokenizer', str(tmp_path)]) != 0
    assert 'must be given together' in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize('name, floor', [('2s', 7.2), ('5s', 6.4)])
def test_recorded_captions_reach_their_tau(name, floor):
    rows = load_rows(shared(f'traces/videollava_dsec_{name}.json'))
    merged = replay(rows, ('memory', 'previous', 'drafts'), Layout(), captions=256)
    assert merged.statistics['mean_acceptance_length'] >= floor
