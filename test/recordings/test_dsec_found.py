"""Sequences in DSEC's layout by others: what their columns hold is found and told, and no event is lost unsaid."""
from __future__ import annotations

import json

import cv2
import h5py
import numpy as np
import pytest
from shared_data import shared

from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.recordings import dsec, dsec_convert
from crossspec_ros.recordings.bag_info import bag_info
from crossspec_ros.recordings.dsec import EventFile
from crossspec_ros.recordings.dsec_columns import UNITS_US, clock_of, polarity_of, sensor_of
from crossspec_ros.recordings.dsec_pictures import read_pictures
from crossspec_ros.recordings.dsec_source import EVENT_TOPIC, DsecOptions, DsecSource

OFFSET_US, COUNT, PICTURES = 51_835_949_776, 4000, 20


def _columns():
    random = np.random.default_rng(21)
    t = np.sort(random.integers(0, 2_000_000, COUNT))
    return {'t': t.astype(np.uint32), 'x': random.integers(0, 640, COUNT).astype(np.uint16),
            'y': random.integers(0, 480, COUNT).astype(np.uint16), 'p': random.integers(0, 2, COUNT).astype(np.uint8),
            't_offset': np.int64(OFFSET_US), 'ms_to_idx': np.searchsorted(t, np.arange(2000) * 1000).astype(np.uint64)}


def _sequence(root, names=None, stamps=None, **changes):
    """A sequence of 2 s; ``changes`` are other columns, None for none."""
    for folder in ('events/left', 'images/left/rectified'):
        (root / folder).mkdir(parents=True)
    with h5py.File(root / 'events/left/events.h5', 'w') as file:
        for name, values in {**_columns(), **changes}.items():
            if values is not None:
                file[name if name in ('t_offset', 'ms_to_idx') else f'events/{name}'] = values
    stamps = [OFFSET_US + 100_000 * number for number in range(PICTURES)] if stamps is None else stamps
    for number, name in enumerate(names or [f'{number:06d}' for number in range(PICTURES)]):
        cv2.imwrite(str(root / f'images/left/rectified/{name}.png'), np.full((4, 6, 3), number, np.uint8))
    (root / 'images/timestamps.txt').write_text(''.join(f'{stamp}\n' for stamp in stamps))
    return root


def _events(source):
    """Everything that a source plays, decoded."""
    packets = [message.data for message in source.messages(source.start_ns) if message.role == 'events']
    decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
    events = join_events([decoder.decode(packet) for packet in packets])
    assert not any(decoder.dropped.values())
    return events


def _play(root):
    source = DsecSource(root)
    events = _events(source)
    source.close()
    return events, source.found, source.lost()


@pytest.mark.parametrize(('case', 'words', 'events', 'on', 'size'), [
    pytest.param('18_polarity_as_uint32', '4294967295 is taken as OFF', 6000, None, (640, 480), id='polarity'),
    pytest.param('19_sensor_1280x720', 'sensor has 1280x720', 6000, None, (1280, 720), id='sensor'),
    pytest.param('20_ms_to_idx_half_a_second_off', '1530 instead of 0 at 0 ms', 6000, None, (640, 480), id='index'),
    pytest.param('21_macos_dot_underscore', '20 hidden files', 6000, None, (640, 480), id='hidden'),
    pytest.param('22_times_back_99_ms', '20 events were out of order', 6000, None, (640, 480), id='times_back')])
def test_sequences_of_others_are_converted_whole_and_told_in_a_line(case, words, events, on, size, tmp_path, capsys):
    sequence = shared(f'trouble/{case}') / 'seq'
    with h5py.File(sequence / 'events/left/events.h5') as file:
        on = int(np.count_nonzero(file['events/p'][:] == 1))
    assert main(['dsec', 'convert', str(sequence), str(tmp_path / 'out')]) == 0
    out, err = capsys.readouterr()
    notes = [line for line in err.splitlines() if 'crossspec: note:' in line]
    assert len(notes) == 1 and words in notes[0] and str(sequence) in notes[0]
    assert f'{events} events' in out and '20 images' in out
    topic = bag_info(tmp_path / 'out')['topics'][EVENT_TOPIC]
    assert (topic['on'], topic['off']) == (on, events - on)
    assert ((topic['width'], topic['height']), topic['dropped']) == (size, {})


def test_a_sequence_as_in_dsec_has_nothing_to_tell(tmp_path):
    events, found, lost = _play(_sequence(tmp_path / 'seq'))
    assert (len(events), found, lost) == (COUNT, [], [])


@pytest.mark.parametrize(('make', 'words'), [
    pytest.param(lambda p: np.where(p, 1, -1).astype(np.int8), '-1 is taken as OFF', id='int8'),
    pytest.param(lambda p: np.where(p, 1, -1).astype(np.int64), '-1 is taken as OFF', id='int64'),
    pytest.param(lambda p: np.where(p, 1.0, -1.0), '-1 is taken as OFF', id='float'),
    pytest.param(lambda p: np.where(p, 1, 2**32 - 1).astype(np.uint32), '4294967295 is taken as OFF', id='uint32'),
    pytest.param(lambda p: np.where(p, 1, 65535).astype(np.uint16), '65535 is taken as OFF', id='uint16'),
    pytest.param(lambda p: np.where(p, 1, 255).astype(np.uint8), '255 is taken as OFF', id='uint8_wrapped'),
    pytest.param(lambda p: (p * 255).astype(np.uint8), '255 is taken as ON', id='0_255'),
    pytest.param(lambda p: p.astype(bool), '', id='bool'), pytest.param(lambda p: p.astype('>i4'), '', id='big')])
def test_polarity_however_it_is_written(make, words, tmp_path):
    p = _columns()['p']
    events, found, _ = _play(_sequence(tmp_path / 'seq', p=make(p)))
    np.testing.assert_array_equal(events.p, p)
    assert [words in line for line in found] == ([True] if words else [])


@pytest.mark.parametrize('values', [[0, 1, 2], [1, 2], [255], [0.5, 1.0], [-1, 0]])
def test_polarity_that_cannot_be_known_is_refused(values, tmp_path):
    p = np.resize(np.array(values, np.float64 if 0.5 in values else np.int16 if -1 in values else np.uint8), COUNT)
    with pytest.raises(CrossSpecError, match='events.h5: events/p holds'):
        DsecSource(_sequence(tmp_path / 'seq', p=p))


@pytest.mark.parametrize('unit', ['ns', 'ms', 's'])
@pytest.mark.parametrize('offset', ['us', 'same'])
def test_units_of_time_are_found_beside_the_pictures(offset, unit, tmp_path):
    t = _columns()['t']
    times = t / UNITS_US[unit]
    times = times if unit == 's' else np.floor(times + 1e-9).astype(np.int64)
    given = {'t_offset': np.float64(OFFSET_US / UNITS_US[unit])} if offset == 'same' else {}
    events, found, lost = _play(_sequence(tmp_path / 'seq', t=times, ms_to_idx=None, **given))
    wanted = t // 1000 * 1000 if unit == 'ms' else t
    assert np.abs(events.t_ns // 1000 - OFFSET_US - wanted).max() <= 1
    assert any(f'is in {unit}, not us' in line for line in found) and not lost


@pytest.mark.parametrize(('step', 'unit'), [(100_000, 'us'), (100_000_000, 'ns'), (100, 'ms'), (0.1, 's')])
def test_times_of_pictures_in_any_unit(step, unit, tmp_path):
    stamps = [OFFSET_US * step / 100_000 + step * number for number in range(PICTURES)]
    stamps = stamps if unit in ('s', 'ms') else [round(stamp) for stamp in stamps]
    pictures, found = read_pictures(_sequence(tmp_path / 'seq', stamps=stamps))
    assert np.abs(np.array([picture.stamp_us for picture in pictures]) - OFFSET_US
                  - np.arange(PICTURES) * 100_000).max() <= 1
    assert [f'are in {unit}' in line for line in found] == ([] if unit == 'us' else [True])


def test_absolute_times_are_taken_with_and_without_an_offset(tmp_path):
    t = _columns()['t'].astype(np.int64) + OFFSET_US
    for name, offset, words in (('with', np.int64(OFFSET_US), 't_offset is not added'), ('none', None, 'is absent')):
        events, found, _ = _play(_sequence(tmp_path / name, t=t, t_offset=offset, ms_to_idx=None))
        np.testing.assert_array_equal(events.t_ns // 1000, t)
        assert any(words in line for line in found)


def test_an_offset_that_is_absent_and_cannot_be_known_is_refused(tmp_path):
    with pytest.raises(CrossSpecError, match='events.h5: t_offset is absent.*write t_offset'):
        DsecSource(_sequence(tmp_path / 'seq', t_offset=None))


@pytest.mark.parametrize(('index', 'words'), [
    pytest.param(None, 'ms_to_idx is absent', id='absent'), pytest.param(np.int64(3), 'is no list', id='number'),
    pytest.param(np.full(2000, 10**9, np.uint64), 'does not fit', id='wild'),
    pytest.param(_columns()['ms_to_idx'][::-1].copy(), 'does not fit', id='falling'),
    pytest.param(_columns()['ms_to_idx'] + 300, 'does not fit', id='of_another_cut')])
def test_an_index_that_is_wrong_or_absent_loses_nothing(index, words, tmp_path):
    events, found, lost = _play(_sequence(tmp_path / 'seq', ms_to_idx=index))
    np.testing.assert_array_equal(events.t_ns // 1000 - OFFSET_US, _columns()['t'])
    assert len(found) == 1 and words in found[0] and not lost


@pytest.mark.parametrize(('largest', 'size', 'told'), [
    pytest.param((1279, 719), (1280, 720), True, id='gen4'), pytest.param((345, 259), (346, 260), True, id='davis346'),
    pytest.param((600, 400), (640, 480), False, id='dsec'), pytest.param((1900, 1000), (1920, 1080), True, id='hd')])
def test_the_sensor_is_found_from_the_events(largest, size, told, tmp_path):
    random = np.random.default_rng(1)
    x, y = (random.integers(0, side + 1, COUNT).astype(np.int16) for side in largest)
    x[7], y[9] = largest
    events, found, lost = _play(_sequence(tmp_path / 'seq', x=x, y=y))
    assert ((events.width, events.height), len(found), lost) == (size, int(told), [])
    np.testing.assert_array_equal(events.x, x)


def test_the_sensor_is_found_from_the_rectify_map(tmp_path):
    root = _sequence(tmp_path / 'seq')
    with h5py.File(root / 'events/left/rectify_map.h5', 'w') as file:
        file['rectify_map'] = np.zeros((720, 1280, 2), np.float32)
    events, found, _ = _play(root)
    assert (events.width, events.height) == (1280, 720) and '(rectify_map.h5)' in found[0]
    assert sensor_of(1000, 500, (640, 480), 'rectify_map.h5')[1].endswith('rectify_map.h5 says 640x480')


def test_pixels_that_are_none_are_dropped_and_counted(tmp_path):
    x = _columns()['x'].astype(np.int32)
    x[5:8] = -1
    events, _, lost = _play(_sequence(tmp_path / 'seq', x=x))
    assert len(events) == COUNT - 3 and '3 events are dropped: their pixels' in lost[0]


def test_times_that_go_back_are_put_in_order_across_pieces_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(dsec, 'CHUNK_EVENTS', 256)
    monkeypatch.setattr(dsec, '_MOST_WAITING', 768)
    t = _columns()['t'].copy()
    t[1250:1290] -= 50_000                                      # over the border of two pieces
    events, _, lost = _play(_sequence(tmp_path / 'seq', t=t))
    np.testing.assert_array_equal(events.t_ns // 1000 - OFFSET_US, np.sort(t))
    assert len(lost) == 1 and 'are put in order' in lost[0]


def test_strays_do_not_make_the_recording_longer_and_are_counted(tmp_path):
    t = _columns()['t'].copy()
    t[100], t[2000] = 2**32 - 1, 2**31
    root = _sequence(tmp_path / 'seq', t=t)
    done = dsec_convert.convert(root, tmp_path / 'bag')
    assert done.seconds < 3 and done.events == COUNT - 2 and done.dropped == {'outside_time': 2}
    assert '2 events are dropped: their times are far' in done.found[-1]


def test_a_stopped_conversion_of_disordered_events_goes_on_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(dsec_convert, 'SEGMENT_MS', 500)
    t = _columns()['t'].copy()
    t[1250:1290] -= 50_000
    root = _sequence(tmp_path / 'seq', t=t)
    whole = dsec_convert.convert(root, tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        dsec_convert.convert(root, tmp_path / 'bag', advance=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    done = dsec_convert.convert(root, tmp_path / 'bag')
    assert done.resumed_segments == 1
    assert (done.events, done.found) == (whole.events, whole.found) == (COUNT, done.found)
    assert bag_info(tmp_path / 'bag') == bag_info(tmp_path / 'whole')


@pytest.mark.parametrize('names', [
    pytest.param([str(number) for number in range(PICTURES)], id='from_0'),
    pytest.param([str(number + 1) for number in range(PICTURES)], id='from_1'),
    pytest.param([f'frame_{number}' for number in range(PICTURES)], id='with_a_word')])
def test_names_without_zeros_are_in_the_order_of_their_numbers(names, tmp_path):
    pictures, found = read_pictures(_sequence(tmp_path / 'seq', names))
    assert [picture.path.stem for picture in pictures] == names
    assert len(found) == 1 and 'order of their numbers' in found[0]


def test_hidden_files_are_no_pictures_and_no_times(tmp_path):
    root = _sequence(tmp_path / 'seq')
    for name in ('images/left/rectified/._000000.png', 'images/left/rectified/.DS_Store', 'images/._timestamps.txt',
                 'images/left/._exposure_timestamps.txt', 'events/left/._events.h5'):
        (root / name).write_bytes(b'\0\5\26\7')
    events, found, _ = _play(root)
    assert len(events) == COUNT and len(found) == 1 and '1 hidden files' in found[0]


@pytest.mark.parametrize(('missing', 'words'), [
    pytest.param('000003', '19 pictures are taken by their numbers, 0 have no time, 1 times have no picture', id='mid'),
    pytest.param('000000', '1 times have no picture', id='first')])
def test_a_lost_picture_leaves_its_time_alone(missing, words, tmp_path):
    root = _sequence(tmp_path / 'seq')
    (root / f'images/left/rectified/{missing}.png').unlink()
    pictures, found = read_pictures(root)
    assert words in found[0]
    assert all(picture.stamp_us == OFFSET_US + 100_000 * int(picture.path.stem) for picture in pictures)


def test_more_pictures_than_times_are_left_out(tmp_path):
    pictures, found = read_pictures(_sequence(tmp_path / 'seq', stamps=[OFFSET_US + 100_000 * at for at in range(15)]))
    assert len(pictures) == 15 and '5 have no time' in found[0]


def test_counts_that_names_cannot_settle_are_refused(tmp_path):
    names = [f'{chr(97 + number)}' for number in range(PICTURES)]
    with pytest.raises(CrossSpecError, match='20 pictures but 12 times.*names do not say'):
        read_pictures(_sequence(tmp_path / 'seq', names, stamps=range(0, 1_200_000, 100_000)))


def test_times_of_pictures_that_go_back_are_put_in_order(tmp_path):
    stamps = [OFFSET_US + 100_000 * number for number in range(PICTURES)]
    stamps[5], stamps[6], stamps[12] = stamps[6], stamps[5], stamps[11]
    pictures, found = read_pictures(_sequence(tmp_path / 'seq', stamps=stamps))
    times = [picture.stamp_us for picture in pictures]
    assert times == sorted(set(stamps)) and len(found) == 1 and '1 with the time of another' in found[0]


def test_exposures_of_another_count_are_not_used(tmp_path):
    root = _sequence(tmp_path / 'seq')
    (root / 'images/left/exposure_timestamps.txt').write_text('1,2\n3,4\n')
    pictures, found = read_pictures(root)
    assert pictures[0].ready_us == pictures[0].stamp_us and '2 exposures but 20 times' in found[0]


@pytest.mark.parametrize('kept', [0.2, 0.6, 0.95])
def test_a_cut_file_is_refused_in_one_line_by_the_command(kept, tmp_path, capsys):
    root = _sequence(tmp_path / 'seq')
    path = root / 'events/left/events.h5'
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * kept)])
    assert main(['dsec', 'convert', str(root), str(tmp_path / 'bag')]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and 'events.h5' in err[0] and 'download it again' in err[0]


def test_the_command_gives_counts_as_json(tmp_path, capsys):
    x = _columns()['x'].astype(np.int32)
    x[5:8] = -1
    assert main(['dsec', 'convert', str(_sequence(tmp_path / 'seq', x=x)), str(tmp_path / 'bag'), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report['events'], report['dropped']) == (COUNT - 3, {'outside_sensor': 3}) and len(report['found']) == 1


def test_what_columns_mean_is_the_same_for_few_events():
    assert polarity_of([], np.dtype(np.uint8))[1] == '' and polarity_of([2**32 - 1], np.dtype(np.uint32))[0].off > 1
    assert clock_of(0, 0, 5, (0, 10), None)[0].offset_us == 5
    assert clock_of(0, 200_000, 0, (0, 60_000_000), 200)[0].unit == 'us'    # a cut: ms_to_idx says how long it is


def test_no_events_at_all_is_an_empty_file_and_no_error(tmp_path):
    empty = {name: np.empty(0, values.dtype) for name, values in _columns().items() if name != 't_offset'}
    with EventFile(_sequence(tmp_path / 'seq', **empty) / 'events/left/events.h5') as file:
        assert list(file.events(0, 10**15)) == [] and file.first_us == OFFSET_US
    assert DsecOptions().encoding == 'evt3'
