"""Local copies of the field's data in their layouts: what items they give, and what another layout is told."""
from __future__ import annotations

import json

import cv2
import h5py
import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.event_files.hdf5 import Hdf5Writer
from crossspec_ros.recordings.event_files.piece import NONE, Piece
from crossspec_ros.recordings.film import Film as FilmWriter
from crossspec_ros.recordings.quality import media
from crossspec_ros.recordings.quality.drives import DSEC_SPLITS
from crossspec_ros.recordings.quality.media import Film
from crossspec_ros.recordings.quality.opening import open_quality_data

OFFSET_US = 51_835_949_776


def picture(number, height=24, width=32):
    return np.full((height, width, 3), (number, 0, 200), np.uint8)


def write_picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(number)[..., ::-1])
    return path


def write_film(path, count=8, fps=8.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with FilmWriter(path, fps) as film:
        for number in range(count):
            film.add(np.full((64, 64, 3), 30 * number, np.uint8))


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def write_json(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries), encoding='utf-8')


def events_of(seconds, step_us=1000):
    t_ns = np.arange(0, round(seconds * 1e6), step_us, dtype=np.int64) * 1000
    return Events(t_ns, (np.arange(len(t_ns)) % 30).astype(np.uint16), np.zeros(len(t_ns), np.uint16),
                  np.ones(len(t_ns), np.uint8), 346, 260)


def make_dsec(root, seconds=2.0):
    """Events every ms from the first picture on, and pictures of 20 Hz."""
    (root / 'events' / 'left').mkdir(parents=True)
    t = np.arange(0, round(seconds * 1e6), 1000, dtype=np.uint32)
    with h5py.File(root / 'events' / 'left' / 'events.h5', 'w') as file:
        for name, values in (('t', t), ('x', t % 640), ('y', t % 480), ('p', t % 2)):
            file[f'events/{name}'] = values
        file['t_offset'] = np.int64(OFFSET_US)
    count = round(seconds * 20)
    for number in range(count):
        write_picture(root / 'images' / 'left' / 'rectified' / f'{number:06d}.png', number)
    (root / 'images' / 'timestamps.txt').write_text(''.join(f'{OFFSET_US + 50_000 * n}\n' for n in range(count)))


def make_hdf5(path, layout, seconds=2.0, rate=10, pictures=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = Hdf5Writer(path, layout, 346, 260)
    writer.write(Piece(events_of(seconds), NONE))
    writer.close()
    if not pictures:
        return
    with h5py.File(path, 'a') as file:
        times = np.arange(round(seconds * rate)) / rate
        if layout == 'mvsec':
            file['davis/left/image_raw'] = np.stack([np.full((26, 34), n, np.uint8) for n in range(len(times))])
            file['davis/left/image_raw_ts'] = times
        else:
            file['ovc/rgb/data'] = np.stack([picture(n)[..., ::-1] for n in range(len(times))])
            file['ovc/ts'] = (times * 1e6).astype(np.int64)


def test_dsec_gives_clips_by_split_and_drive(tmp_path):
    make_dsec(tmp_path / 'train' / 'interlaken_00_c')
    make_dsec(tmp_path / 'train' / 'zurich_city_12_a')                  # unpacked into the wrong folder
    make_dsec(tmp_path / 'val' / 'our_street')
    data = open_quality_data(tmp_path)
    items = list(data)
    assert data.layout == 'dsec' and [(item.drive, item.split) for item in items[::2]] == [
        ('interlaken_00_c', 'train'), ('zurich_city_12_a', 'test'), ('our_street', 'val')]
    assert [item.item_id for item in items[:2]] == ['interlaken_00_c/0', 'interlaken_00_c/1']
    second = items[1]
    assert (second.question, second.choices, second.answers, second.letter) == ('', None, (), None)
    assert [int(frame[0, 0, 0]) for frame in second.frames.frames(4)] == [20, 26, 33, 39]
    events = second.events.events()
    assert len(events) == 1000 and events.t_ns[0] == (OFFSET_US + 1_000_000) * 1000 and events.width == 640
    assert [item.item_id for item in data] == [item.item_id for item in items]
    assert len(list(open_quality_data(tmp_path / 'train' / 'interlaken_00_c', clip_s=0.5))) == 4


def test_dsec_splits_are_those_published():
    assert sorted(DSEC_SPLITS.values()).count('train') == 41 and len(DSEC_SPLITS) == 53
    assert DSEC_SPLITS['thun_00_a'] == 'train' and DSEC_SPLITS['zurich_city_15_a'] == 'test'


@pytest.mark.parametrize('layout, name', [
    pytest.param('mvsec', 'outdoor_day/outdoor_day1_data.hdf5', id='mvsec'),
    pytest.param('m3ed', 'car_urban_day_city_hall/car_urban_day_city_hall_data.h5', id='m3ed'),
])
def test_hdf5_drives_give_clips_with_frames_and_events(layout, name, tmp_path):
    make_hdf5(tmp_path / name, layout)
    make_hdf5(tmp_path / 'blind_data.h5', layout, pictures=False)
    data = open_quality_data(tmp_path)
    items = list(data)
    assert data.layout == layout and len(items) == 2 and data.left_out == {'drives_without_pictures': 1}
    assert items[1].drive == (tmp_path / name).stem.removesuffix('_data') and items[1].split == ''
    frames, events = items[1].frames.frames(3), items[1].events.events()
    assert [int(frame[0, 0, 0]) for frame in frames] == [10, 14, 19] and frames[0].shape[2] == 3
    assert len(events) == 1000 and (events.t_ns[0], events.t_ns[-1]) == (10**9, 1_999_000_000)


def test_m3ed_takes_its_split_from_the_list_beside_it(tmp_path):
    for name in ('one', 'two', 'three'):
        make_hdf5(tmp_path / name / f'{name}_data.h5', 'm3ed')
    (tmp_path / 'dataset_list.yaml').write_text(
        '- {file: one, is_test_file: true}\n- {file: two, is_test_file: false}\n')
    splits = {item.drive: item.split for item in open_quality_data(tmp_path)}
    assert splits == {'one': 'test', 'two': 'train', 'three': ''}
    (tmp_path / 'dataset_list.yaml').write_text('{')
    with pytest.raises(CrossSpecError, match='dataset_list.yaml cannot be read'):
        open_quality_data(tmp_path)


def test_mvbench_finds_its_videos_by_task_and_takes_their_parts(tmp_path):
    entry = {'video': 'a.mp4', 'question': 'What?', 'candidates': ['left', 'right'], 'answer': 'right'}
    write_json(tmp_path / 'json' / 'action_sequence.json', [{**entry, 'start': 0.5, 'end': 0.8}])
    write_json(tmp_path / 'json' / 'moving_direction.json', [entry])
    write_json(tmp_path / 'json' / 'episodic_reasoning.json', [{**entry, 'video': 'show', 'start': 1.0, 'end': 2.0}])
    write_film(tmp_path / 'video' / 'star' / 'Charades_v1_480' / 'a.mp4')
    write_film(tmp_path / 'video' / 'clevrer' / 'video_validation' / 'a.mp4', count=3)
    for number in range(12):
        write_picture(tmp_path / 'video' / 'tvqa' / 'frames_fps3_hq' / 'show' / f'{number + 1}.jpg', number)
    data = open_quality_data(tmp_path)
    part, show, whole = list(data)
    assert data.layout == 'mvbench' and part.choices == ('left', 'right') and part.letter == 'B'
    assert [round(float(frame.mean()) / 30) for frame in part.frames.frames(3)] == [4, 5, 6]
    assert [round(float(frame.mean()) / 30) for frame in whole.frames.frames(2)] == [0, 2]
    assert len(show.frames.files) == 4 and show.frames.files[0].name == '4.jpg'


def test_a_long_video_gives_the_same_pictures_without_decoding_all_of_it(tmp_path, monkeypatch):
    write_film(tmp_path / 'a.mp4', count=9)
    film = Film(tmp_path / 'a.mp4', 0.25, 1.0)
    few = [round(float(frame.mean()) / 30) for frame in film.frames(3)]
    monkeypatch.setattr(media, '_LONG_S', 0.1)
    assert [round(float(frame.mean()) / 30) for frame in film.frames(3)] == few == [2, 5, 8]
    with pytest.raises(CrossSpecError, match='has no picture from 5 s'):
        Film(tmp_path / 'a.mp4', 5.0).frames(2)
    (tmp_path / 'b.mp4').write_bytes(b'no film')
    with pytest.raises(CrossSpecError, match='cannot be read'):
        Film(tmp_path / 'b.mp4').frames(2)


def test_video_mme_in_both_forms(tmp_path):
    question = {'question_id': '001-1', 'question': 'Who?', 'options': ['A. A man.', 'B. A dog.'], 'answer': 'B'}
    write_json(tmp_path / 'flat.json', [{'video_id': '001', 'videoID': 'fFjv93ACGo8', **question}])
    write_json(tmp_path / 'nested.json', [{'video_id': '001', 'videoID': 'fFjv93ACGo8', 'questions': [question] * 2},
                                          {'video_id': '002', 'videoID': 'gone', 'questions': [question]}])
    write_film(tmp_path / 'data' / 'fFjv93ACGo8.mp4')
    data = open_quality_data(tmp_path)
    items = list(data)
    assert data.layout == 'video-mme' and len(items) == 3 and data.left_out == {'not_in_the_folder': 1}
    assert {(item.choices, item.answers, item.letter, item.drive) for item in items} == {
        (('A man.', 'A dog.'), ('A dog.',), 'B', 'fFjv93ACGo8')}


def test_msvd_qa_finds_videos_by_its_mapping_and_answers_in_another_file(tmp_path):
    write_json(tmp_path / 'test_qa.json', [{'id': 7, 'video_id': 1301, 'question': 'what runs?', 'answer': 'dog'}])
    write_json(tmp_path / 'val_q.json', [{'video_name': 'clip_1_2', 'question_id': 'v_1', 'question': 'who?'}])
    write_json(tmp_path / 'val_a.json', [{'question_id': 'v_1', 'answer': 'man', 'type': 1}])
    (tmp_path / 'youtube_mapping.txt').write_text('clip_1_2 vid1301\n')
    write_film(tmp_path / 'YouTubeClips' / 'clip_1_2.avi')
    data = open_quality_data(tmp_path)
    first, second = data
    assert data.layout == 'msvd-qa'
    assert (first.question, first.answers, first.split, first.item_id) == ('what runs?', ('dog',), 'test', 'test_qa/7')
    assert (second.answers, second.split, second.frames.path.name) == (('man',), 'val', 'clip_1_2.avi')


def test_instructions_ask_about_events_pictures_and_sequences(tmp_path):
    talk = [{'from': 'human', 'value': '<event>\nWhat is ahead?'}, {'from': 'gpt', 'value': 'A car.'},
            {'from': 'human', 'value': 'Its colour?'}, {'from': 'gpt', 'value': 'Red.'}]
    write_json(tmp_path / 'dsec_qa_test.json', [
        {'id': 'a', 'event_data': 'thun_01_a/000.npz', 'conversations': talk},
        {'id': 'b', 'sequence': 'thun_00_a', 'start': 0.5, 'end': 1.0, 'question': 'Braking?', 'answer': 'no'},
        {'id': 'c', 'event_data': '/elsewhere/pickled.npy', 'question': 'Night?', 'answer': ['no', 'day']}])
    (tmp_path / 'events' / 'thun_01_a').mkdir(parents=True)
    np.savez(tmp_path / 'events' / 'thun_01_a' / '000.npz', t=[20, 10], x=[1, 2], y=[3, 4], p=[0, 1])
    np.save(tmp_path / 'events' / 'pickled.npy', np.array(Trap(tmp_path / 'sprung'), object), allow_pickle=True)
    make_dsec(tmp_path / 'thun_00_a')
    data = open_quality_data(tmp_path)
    first, second, part, pickled = data
    assert data.layout == 'instructions' and (first.question, second.question) == ('What is ahead?', 'Its colour?')
    assert (second.answers, second.item_id, second.split, second.drive) == (('Red.',), 'dsec_qa_test/a/1', 'test',
                                                                            'thun_01_a')
    events = first.events.events()
    assert first.frames is None and events.t_ns.tolist() == [10_000, 20_000] and events.p.tolist() == [1, 0]
    assert (part.split, part.drive) == ('train', 'thun_00_a')
    assert len(part.frames.files) == 10 and len(part.events.events()) == 500
    assert pickled.answers == ('no', 'day')
    with pytest.raises(CrossSpecError, match='without pickled objects'):
        pickled.events.events()
    assert not (tmp_path / 'sprung').exists()


def test_eventdrive_reads_each_dimension(tmp_path):
    folder = 'perception/dsec/test/zurich_city_12_a'
    write_json(tmp_path / 'json' / 'perception' / 'dsec' / 'test.json', [
        {'image': f'{folder}/image/000001.png', 'event': f'{folder}/event/000001.npz', 'question': '<image>\nRain?',
         'choices': ['(A) yes', '(B) no'], 'answer': '(B) no'}])
    write_json(tmp_path / 'json' / 'planning' / 'train.json', [
        {'images': ['planning/s/image/1.png', 'planning/s/image/2.png'],
         'conversations': [{'from': 'human', 'value': 'Next?'}, {'from': 'gpt', 'value': 'stop'}]}])
    with pytest.raises(CrossSpecError, match='no folder data/'):
        open_quality_data(tmp_path)
    for name in (f'{folder}/image/000001', 'planning/s/image/1', 'planning/s/image/2'):
        write_picture(tmp_path / 'data' / f'{name}.png', 9)
    (tmp_path / 'data' / folder / 'event').mkdir()
    np.savez(tmp_path / 'data' / folder / 'event' / '000001.npz', t=[1], x=[1], y=[1], p=[1])
    data = open_quality_data(tmp_path)
    seen, planned = data
    assert data.layout == 'eventdrive' and (seen.letter, seen.split, seen.drive) == ('B', 'test', 'zurich_city_12_a')
    assert len(seen.events.events()) == 1 and seen.frames.frames(2)[1].shape == (24, 32, 3)
    assert (planned.split, planned.drive, planned.answers) == ('train', 's', ('stop',))
    assert len(planned.frames.files) == 2


def coco(path):
    write_json(path / 'labels.json', {'images': [{'file_name': 'a.png'}], 'annotations': []})


def damaged(path):
    (path / 'test_qa.json').write_text('[{')


def without_videos(path):
    write_json(path / 'test_qa.json', [{'video_id': 3, 'question': 'what?', 'answer': 'dog'}])


def other_hdf5(path):
    with h5py.File(path / 'lab_data.h5', 'w') as file:
        file['signal'] = np.zeros(3)


def two_kinds(path):
    make_hdf5(path / 'a_data.h5', 'm3ed')
    make_hdf5(path / 'b_data.h5', 'mvsec')


def without_pictures(path):
    (path / 'interlaken_00_c' / 'events' / 'left').mkdir(parents=True)


def two_of_a_name(path):
    for folder in ('one', 'two'):
        write_film(path / folder / 'clip.mp4')
    write_json(path / 'qa.json', [{'video': 'clip.mp4', 'question': 'what?', 'answer': 'dog'}])


def outside(path):
    write_film(path / 'out.mp4')
    write_json(path / 'inside' / 'qa.json', [{'video': '../out.mp4', 'question': 'what?', 'answer': 'dog'}])


@pytest.mark.parametrize('make, text, under', [
    pytest.param(lambda path: None, 'must be DSEC .*MSVD-QA.*no JSON file', '', id='empty'),
    pytest.param(coco, 'must be DSEC .*here is labels.json with file_name', '', id='other json'),
    pytest.param(damaged, 'cannot be read as JSON', '', id='damaged json'),
    pytest.param(without_videos, 'of the layout msvd-qa, and has no item .*not_in_the_folder: 1', '', id='no videos'),
    pytest.param(other_hdf5, 'holds signal, which is no layout', '', id='other hdf5'),
    pytest.param(two_kinds, 'MVSEC or M3ED files alone', '', id='two kinds'),
    pytest.param(without_pictures, 'images .* are missing', '', id='no pictures'),
    pytest.param(outside, 'not_in_the_folder: 1', 'inside', id='leads out'),
    pytest.param(two_of_a_name, 'not_in_the_folder: 1', '', id='two of a name'),
    pytest.param(lambda path: None, 'there is none of that name', 'nowhere', id='no folder'),
])
def test_another_layout_is_refused_in_one_sentence(make, text, under, tmp_path):
    make(tmp_path)
    with pytest.raises(CrossSpecError, match=text) as refused:
        open_quality_data(tmp_path / under)
    assert '\n' not in str(refused.value)
