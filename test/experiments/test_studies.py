"""Every experiment, from its parts to what it says, on a tiny pair and a few windows."""
from __future__ import annotations

import json
from dataclasses import asdict

from tiny_settings import tiny

from crossspec_ros.experiments.experiment import Table, Value, outcome_from
from crossspec_ros.experiments.folder import RESULT, ResultFolder, read_json
from crossspec_ros.experiments.process import measure


def test_experiment_measures_all_its_parts_and_says_what_follows(experiment, pair, out):
    settings, said = tiny(experiment, pair), []
    folder = ResultFolder(out, experiment, settings, 'abc')
    folder.claim()
    measure({'name': experiment.name, 'settings': json.loads(json.dumps(asdict(settings))), 'out': str(out),
             'quick': True, 'command': ['crossspec'], 'commit': 'abc'}, said.append)
    parts = list(experiment.parts(settings))
    assert [each['done'] for each in said if 'done' in each] == parts and not folder.missing()
    result = read_json(folder.path / RESULT)
    outcome = outcome_from(result['outcome'])
    assert outcome.measured and outcome.advice.endswith('.') and outcome.tables
    for table in outcome.tables:
        assert isinstance(table, Table) and all(len(row) == len(table.columns) for row in table.rows)
        values = [cell for row in table.rows for cell in row if isinstance(cell, Value) and cell.low is not None]
        assert all(value.low <= value.high for value in values)
    assert (folder.path / 'plot.png').stat().st_size < 60_000
    assert result['provenance']['libraries']['torch'] and result['cpu_s'] >= 0 <= result['seconds']
