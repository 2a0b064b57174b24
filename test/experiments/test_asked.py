"""Questions of a local copy answered by a tiny verifier: counted, the same with drafts and without, or refused."""
from __future__ import annotations

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest
from tiny_settings import tiny

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments import asked
from crossspec_ros.experiments.asked import ask_all, question_of, table_of
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.registry import experiments
from crossspec_ros.recordings.quality.items import QualityItem


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / 'data'
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((24, 32, 3), 60 * number, np.uint8))
    (folder / 'questions.json').write_text(json.dumps([
        {'id': str(number), 'image': [f'{number}.png'], 'question': 'What colour?', 'options': ['red', 'grey'],
         'answer': 'B'} for number in range(3)]))
    return folder


@pytest.fixture
def lab(pair, tmp_path):
    return Lab(tiny(experiments()['quality'], pair), tmp_path / 'out')


def test_choices_stand_under_the_question_with_their_letters():
    item = QualityItem('1', None, None, 'What colour?', ('red', 'grey'), ('grey',), '', 'a')
    assert question_of(item, 'x') == ('What colour?\nA. red\nB. grey\nAnswer with the letter of the right choice.')
    assert question_of(QualityItem('1', None, None, '', None, (), '', 'a'), 'Describe.') == 'Describe.'


def test_each_item_is_answered_with_drafts_and_without_and_judged(lab, data, monkeypatch):
    monkeypatch.setattr(asked, 'right', lambda text, item: item.item_id.endswith('1') if text is not None else None)
    told = ask_all(lab, str(data), 2)
    assert len(told.rows) == 2 and [row['right'] for row in told.rows] == [0, 1]
    table = table_of(**json.loads(json.dumps(asdict(told))))
    assert table.rows[0][:2] == ('all', '2') and table.rows[0][2].value == 0.5


def test_an_answer_that_drafts_change_ends_the_experiment(lab, data, monkeypatch):
    monkeypatch.setattr(lab.target, 'generate', lambda *_, **__: (3, 3, 3))
    with pytest.raises(CrossSpecError, match='drafts changed what the verifier answers'):
        ask_all(lab, str(data), 1)


def test_another_layout_is_refused(lab, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(CrossSpecError, match='must be DSEC'):
        ask_all(lab, str(tmp_path / 'empty'), 1)
