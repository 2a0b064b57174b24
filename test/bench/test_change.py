"""`crossspec bench change`: what counts as told, and that the bench runs whole."""
import json

import pytest

from crossspec_ros.bench.change import Change, Spoken, ages_ms, changes_of, describe, summary
from crossspec_ros.cli import main
from crossspec_ros.world.script import Script

S = 1_000_000_000


def spoken(end_s: float, took_s: float, **slots) -> Spoken:
    return Spoken(round(end_s * S), round((end_s + took_s) * S), {'ego': 'slow', 'object': 'car', **slots})


def test_age_is_from_the_change_to_the_first_caption_that_tells_all_of_it():
    change = Change(10 * S, 12 * S, {'ego': 'braking', 'object': 'van'})
    half, whole, later = (spoken(10.5, 0.1, ego='braking'), spoken(11.0, 0.1, ego='braking', object='van'),
                          spoken(11.5, 0.1, ego='braking', object='van'))
    assert ages_ms([change], [half, whole, later]) == [1100.0]
    assert ages_ms([change], [half]) == [None]
    assert ages_ms([change], [spoken(12.5, 0.1, ego='braking', object='van')]) == [None]
    assert ages_ms([change], [spoken(9.5, 2.0, ego='braking', object='van')]) == [None]     # it cannot have known


def test_changes_are_those_of_the_script():
    script = Script(1_000_001, 'calm')
    changes = changes_of(script, 20, 5 * S)
    assert all(later.begin_ns == earlier.end_ns for earlier, later in zip(changes, changes[1:]))
    for change in changes:
        second = (change.begin_ns - 5 * S) // S
        for name, value in change.told_by.items():
            assert script.beat(second).slots[name] == value != script.beat(second - 1).slots[name]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_bench_runs_and_prints_json(capsys):
    assert main(['bench', 'change', '--drives', '1', '--seconds', '4', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    for pace in ('brisk', 'calm'):
        for when in ('grid', 'change', 'both'):
            row = report[pace][when]
            assert row['told'] + row['missed'] == row['changes'] and row['captions'] >= 1
        assert report[pace]['both']['captions'] >= report[pace]['grid']['captions']
    assert len(describe(report)) == 6


def test_summary_of_nothing_told_has_no_age():
    run = {'ages_ms': [None], 'opened_ms': [None], 'caption_ages_ms': [], 'captions': 0, 'calm_captions': 0,
           'confirmed': 0, 'drafts': 0, 'cpu_s': 1.0}
    row = summary([run, run])
    assert (row['missed'], row['no_window'], row['words_age_ms'], row['cpu_s']) == (2, 2, None, 2.0)
