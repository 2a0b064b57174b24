"""Figures of the evaluation on windows whose truth, target and draft are known."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crossspec_ros.cli import main
from crossspec_ros.models.builtin import builtin_path
from crossspec_ros.train.evaluation import Window, acceptance_by_slot, blind_colour, change_table, slot_table
from crossspec_ros.world import EVALUATION_SEED, SLOTS, caption

RED = {'object': 'car', 'colour': 'red', 'place': 'ahead', 'motion': 'braking', 'ego': 'slow', 'weather': 'day',
       'signal': 'none', 'second': 'none'}
BLUE = RED | {'colour': 'blue'}


def _window(truth: dict[str, str], target: dict[str, str], draft: dict[str, str],
            before: dict[str, str] | None) -> Window:
    ids = tuple(caption(target).encode())
    return Window(EVALUATION_SEED, 1, truth, ids, caption(target), caption(draft), np.zeros((5, 96, 96), np.float32),
                  np.zeros((240, 320, 3), np.uint8), before, tuple(caption(before).encode()) if before else ())


@pytest.fixture
def windows() -> list[Window]:
    return [_window(RED, RED, BLUE, None), _window(BLUE, BLUE, BLUE, RED), _window(BLUE, BLUE, RED, BLUE),
            _window(RED, BLUE, BLUE, BLUE)]


def test_slot_table_counts_each_of_the_four(windows: list[Window]) -> None:
    row = slot_table(windows)['colour']
    assert row == {'verifier': 0.75, 'drafter': 0.25, 'commonest': 0.5, 'previous': round(1 / 3, 4)}
    assert slot_table(windows)['object'] == {'verifier': 1.0, 'drafter': 1.0, 'commonest': 1.0, 'previous': 1.0}


def test_blind_colour_leaves_out_empty_roads(windows: list[Window]) -> None:
    clear = RED | {'object': 'none', 'colour': 'none', 'place': 'none', 'motion': 'none'}
    found = blind_colour([*windows, _window(clear, clear, clear, None)])
    assert found == {'windows': 4, 'drafter': 0.25, 'chance': 0.5}
    assert blind_colour([])['windows'] == 0


def test_change_table_knows_change_from_rest(windows: list[Window]) -> None:
    assert change_table(windows) == {'scene_changes': 2, 'caption_changed_with_scene': 0.5,
                                     'caption_stayed_with_scene': 1.0}


def test_acceptance_by_slot_is_against_the_verifier(windows: list[Window]) -> None:
    assert acceptance_by_slot(windows)['colour'] == 0.5
    assert acceptance_by_slot(windows)['ego'] == 1.0


@pytest.mark.long
def test_eval_pair_json_has_every_figure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    builtin_path('verifier')
    assert main(['eval', 'pair', '--json', '--windows', '60', '--pictures', str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report['slots']) == set(SLOTS) and min(report['seeds']) >= EVALUATION_SEED
    assert report['slot_accuracy']['verifier'] >= 0.9
    assert report['tau']['event_drafter'] >= 3 and report['tau']['merged'] >= report['tau']['event_drafter']
    assert {'pair_samples.png', 'pair_acceptance.png'} <= {path.name for path in tmp_path.iterdir()}


def test_eval_pair_of_a_missing_folder_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(['eval', 'pair', '--dir', str(tmp_path / 'nowhere')]) == 2
    assert 'nowhere' in capsys.readouterr().err
