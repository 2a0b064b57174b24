"""What the experiments on losses and adapters say follows from the figures, whichever they are."""
from __future__ import annotations

from dataclasses import replace

import pytest

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.experiment import FAILS, HOLDS, IN_PART, OPEN, Settings
from crossspec_ros.experiments.methods import METHODS as FIELD
from crossspec_ros.experiments.pupil_methods import HARD, METHODS
from crossspec_ros.experiments.studies import alignment, losses

SETTINGS = Settings(paces=('brisk',), seeds=1)


def rows(right, cosine=None):
    """Two drives of 40 tokens, of which so many are right, from the start on."""
    return [chain_row(drive, [place < right for place in range(40)])
            | {'cosine': cosine and 40 * cosine, 'adapter_ms': cosine and 0.01} for drive in 'ab']


def found(experiment, told):
    """``told``: right tokens, or those and the cosine, by the name before the seed; 20 for all others."""
    return {part: {'brisk': rows(*told.get(part.rsplit('/', 1)[0], (20,)))} for part in experiment.parts(SETTINGS)}


@pytest.mark.parametrize('told, verdict, advice', [
    ({'cascade-aware weights': (30,)}, HOLDS, 'cascade-aware weights is right at 0.250 more'),
    ({'reverse KL': (21,)}, IN_PART, 'Learn by reverse KL (`--loss reverse_kl`'),
    ({HARD: (22,)}, FAILS, 'None of them is surely better'),
])
def test_the_best_way_of_learning_is_the_one_that_is_right_most(told, verdict, advice):
    said = losses.EXPERIMENT.conclude(SETTINGS, found(losses.EXPERIMENT, told))
    assert said.verdict == verdict and advice in said.advice
    assert [row[0] for row in said.tables[0].rows] == list(METHODS) == [point[0] for point in said.plot.series['brisk']]
    assert all(method.note in said.tables[0].note for method in METHODS.values())
    few = losses.EXPERIMENT.conclude(replace(SETTINGS, steps=40), found(losses.EXPERIMENT, told))
    assert few.verdict == OPEN


@pytest.mark.parametrize('lora, none, same, verdict, advice', [
    ((36, .9), 20, 20, HOLDS, ('nearer state is a better drafter', 'adapter lora adds')),
    ((10, .9), 30, 34, FAILS, ('never by cosine', 'needs no adapter', 'newest frame tells more')),
    ((20, .9), 30, 10, FAILS, ('never by cosine', 'events tell a drafter more')),
])
def test_cosine_is_judged_by_what_is_accepted(lora, none, same, verdict, advice):
    told = {kind: (20, .5 + .01 * place) for place, kind in enumerate(alignment.ADAPTERS)}
    told |= {'lora': lora, 'none': (none,), 'pupil, same eyes': (same,)}
    said = alignment.EXPERIMENT.conclude(SETTINGS, found(alignment.EXPERIMENT, told))
    assert said.verdict == verdict and all(each in said.advice for each in advice)
    table = {row[0]: row for row in said.tables[0].rows}
    assert tuple(table) == alignment.KINDS
    assert [kind for kind, row in table.items() if row[1] is None] == ['none', *alignment.PUPILS]


def test_methods_of_the_field_that_learn_are_measured_by_these():
    where = {method.name: method.where for method in FIELD}
    for name, experiment in (('MASSV', 'alignment'), ('reconstruction first', 'losses'), ('GRIFFIN', 'losses'),
                             ('adapters', 'alignment')):
        told, = [each for each in where if each.startswith(name)]
        assert experiment in where[told]
