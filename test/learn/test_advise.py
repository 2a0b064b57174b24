"""`crossspec advise`: what is measured of a verifier, what follows, and what bad input gets."""
from __future__ import annotations

import json

import pytest

from crossspec_ros.bench.advise import TRANSPORT_MS
from crossspec_ros.cli import main
from crossspec_ros.learn.proof import Arm
from crossspec_ros.speculation.age import Timing, expected_age_ms
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.decision import FORMS, Drafts, method_of

WORDS = ('toy:1', '--windows', '6', '--max-new-tokens', '8')


@pytest.fixture(scope='module')
def told(verifier, base, tmp_path_factory):
    """A report of a tiny verifier with a drafter and an assumed cascade, and the folder that it was written to."""
    import toy_drive
    folder = tmp_path_factory.mktemp('advice')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('crossspec_ros.learn.drives.open_source', toy_drive.open_toy)
        assert main(['advise', *WORDS, '--model', str(verifier), '--drafter', str(base), '--assume', 'cascade=4,0.5',
                     '--out', str(folder)]) == 0
    return json.loads((folder / 'advice.json').read_text(encoding='utf-8')), folder


def timing_of(report: dict) -> Timing:
    stages = report['stages_ms']
    curve = CostCurve({int(count): cost_ms for count, cost_ms in report['cost_ms'].items()})
    return Timing(curve, report['generate_ms']['first_token'], stages['encode_ms'], report['last_tokens'], None,
                  stages['encode_ms'] + stages['prefill_ms'])


def test_advice_ages_follow_from_what_was_measured(told):
    report, _ = told
    rows = {row['name']: row for row in report['methods']}
    assert set(rows) == set(FORMS) - {'heads'} and set(report['would_need']) == {'heads'}
    timing = timing_of(report)
    for name, row in rows.items():
        if name != 'generate':
            method = FORMS['ahead'] if name == 'ahead' else method_of(
                name, Drafts(row['tau'], row['nodes'], row['step_ms'], row['there_ms']))
            assert row['age_ms'] == pytest.approx(expected_age_ms(timing, method, report['tokens']), rel=0.02)
        assert row['speedup'] <= row['bound'] + 0.01 and row['tau'] >= 1
    assert rows['generate']['speedup'] == 1.0 and rows['cascade']['from'] == 'assumed'
    assert rows['drafter_late']['there_ms'] > TRANSPORT_MS and rows['drafter_early']['there_ms'] == 0
    ages = [row['age_ms'] for row in report['methods']]
    assert ages == sorted(ages) and report['advice'].startswith('use ')
    assert next(row for row in report['methods'] if row['name'] == report['use'])['age_ms'] <= 1.021 * ages[0]


def test_advice_counts_the_drafts_of_answers_that_are_those_of_generate(told):
    report, folder = told
    assert report['windows'] == 6 and report['identical'] == {'windows': 3, 'of': 3}
    assert 1 < report['tokens'] <= 8 and 0 < report['prefill_share'] < 1
    taus = {name: arm['tau'] for name, arm in report['replayed'].items()}
    assert taus['previous'] > 1 and taus['memory'] > 1          # scenes last two windows: their captions come again
    assert taus['merged'] >= 0.9 * taus['merged_without'] and (folder / 'map.png').stat().st_size > 10_000


def test_advice_in_words(verifier, toys, capsys):
    assert main(['advise', *WORDS, '--model', str(verifier)]) == 0
    text = capsys.readouterr().out
    assert 'caption memory, frames as they come' in text and 'event drafter' not in text      # none was given
    assert 'a forward of n tokens, ms: 1 ' in text and 'not measured: cascade' in text
    assert text.rstrip().splitlines()[-1].startswith('use ')


def test_drafts_are_the_means_over_passes():
    from crossspec_ros.bench.advise import drafts_of
    from crossspec_ros.train.tau import TauCount
    arm = Arm(counts=[TauCount(passes=2, tokens=7, trees=[10, 4]), TauCount(passes=1, tokens=5, trees=[1])],
              ages_ms=[1.0, 1.0], heads_ms=6.0)
    assert drafts_of(arm, 3.0) == Drafts(4.0, 5.0, 2.0, 3.0)


@pytest.mark.parametrize('words, text', [
    pytest.param(['toy:1', '--windows', '1'], 'windows must be >= 2', id='windows'),
    pytest.param(['toy:1:4:events'], 'must have images', id='no images'),
    pytest.param(['toy:1:4:image'], 'must have events', id='no events'),
    pytest.param(['toy:1:1', '--windows', '6'], 'windows with frames and events were found', id='too short'),
    pytest.param(['toy:1', '--assume', 'wish=3'], '--assume must name one of lookup', id='method'),
    pytest.param(['toy:1', '--assume', 'heads=much'], '--assume must be METHOD=TAU', id='assumed'),
    pytest.param(['toy:1', '--assume', 'heads=0.5'], 'tau must be >= 1', id='tau'),
    pytest.param(['toy:1', '--drafter', '/nowhere'], '/nowhere', id='drafter'),
    pytest.param(['toy:1', '--frame-interval-ms', '0'], 'frame_interval', id='interval')])
def test_advise_bad_input_is_one_error(words, text, verifier, toys, capsys):
    assert main(['advise', *words, '--model', str(verifier)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('crossspec: error:') and text in error


def test_advise_names_a_folder_that_cannot_be_written_before_it_measures(tmp_path, capsys):
    (tmp_path / 'taken').write_text('', encoding='utf-8')
    assert main(['advise', '--model', '/nowhere', '--out', str(tmp_path / 'taken')]) == 2
    assert '--out' in capsys.readouterr().err
