import json

import cv2
import numpy as np
import pytest

from crossspec_ros.bench.contact_sheet import choose_windows
from crossspec_ros.cli import main
from crossspec_ros.recordings.bag import BagReader
from crossspec_ros.world import EVALUATION_SEED, World, parse_slots


def test_world_record_writes_a_bag_and_its_truth(tmp_path, capsys):
    out = tmp_path / 'drive'
    assert main(['world', 'record', str(out), '--seconds', '2', '--width', '64', '--height', '48', '--seed', '5']) == 0
    assert '40 images' in capsys.readouterr().out
    with BagReader(out) as bag:
        messages = list(bag)
    images = [m for m in messages if m.topic == '/camera/image_raw']
    assert len(images) == 40
    world = World(5, 64, 48, pace='calm')
    assert np.array_equal(images[-1].data.rgb(), world.frame(2.0))
    truth = [json.loads(line) for line in (tmp_path / 'drive.truth.jsonl').read_text().splitlines()]
    assert [line['window_end_ns'] for line in truth] == [1_000_000_000, 2_000_000_000]
    assert all(parse_slots(line['caption']) == line['slots'] for line in truth)


def test_world_sheet_is_a_picture(tmp_path):
    out = tmp_path / 'sheet.png'
    assert main(['world', 'sheet', str(out), '--scenes', '2', '--columns', '2']) == 0
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 900 and picture.std() > 20


@pytest.mark.parametrize('arguments', [
    pytest.param(['sheet', 'sheet.gif', '--scenes', '1'], id='format'),
    pytest.param(['sheet', 'missing/folder/sheet.png', '--scenes', '1'], id='folder'),
    pytest.param(['record', 'drive', '--seconds', '0'], id='no-seconds'),
    pytest.param(['record', 'drive', '--seconds', '1', '--encoding', 'morse'], id='encoding')])
def test_world_bad_input_ends_with_an_error_and_no_file(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['world', *arguments]) == 2
    assert 'must' in (error := capsys.readouterr().err) or 'cannot' in error
    assert not list(tmp_path.iterdir())


def test_choose_windows_shows_many_kinds_of_scene():
    windows = choose_windows(12)
    assert len(set(windows)) == 12 and all(seed >= EVALUATION_SEED for seed, _ in windows)
    assert {World(seed, 64, 48).slots(float(end))['object'] for seed, end in windows} >= {
        'car', 'van', 'truck', 'bus', 'motorcycle', 'cyclist', 'pedestrian', 'none'}
