"""DSEC sequences become bags that hold the same events and images; what is stopped goes on; what is broken is named."""
from __future__ import annotations

import json
import shutil

import cv2
import h5py
import hdf5plugin
import numpy as np
import pytest
import yaml
from shared_data import shared

from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.recordings import dsec_convert, dsec_make
from crossspec_ros.recordings.bag import BagReader
from crossspec_ros.recordings.bag_edit import partial_path
from crossspec_ros.recordings.dsec import EventFile
from crossspec_ros.recordings.dsec_calibration import Aligner, Calibration, Camera, read_calibration
from crossspec_ros.recordings.dsec_convert import convert
from crossspec_ros.recordings.dsec_source import DsecOptions, DsecSource
from crossspec_ros.recordings.sources import open_source

OFFSET_US = 51_835_949_776
SECONDS = 1.2


def _make(root, count=30_000, seconds=SECONDS, rotation=None):
    """A sequence of random events and of pictures whose first pixels hold their number."""
    random = np.random.default_rng(8)
    for folder in ('events/left', 'images/left/rectified', 'calibration'):
        (root / folder).mkdir(parents=True)
    t = np.sort(random.integers(3_210, int(seconds * 1e6), count)).astype(np.uint32)
    packing = hdf5plugin.Blosc(cname='zstd')
    with h5py.File(root / 'events/left/events.h5', 'w') as file:
        for name, values in (('t', t), ('x', random.integers(0, 640, count).astype(np.uint16)),
                             ('y', random.integers(0, 480, count).astype(np.uint16)),
                             ('p', random.integers(0, 2, count).astype(np.uint8))):
            file.create_dataset(f'events/{name}', data=values, chunks=(4096,), **packing)
        file['t_offset'] = np.int64(OFFSET_US)
        file['ms_to_idx'] = np.searchsorted(t, np.arange(int(seconds * 1e3) + 1) * 1000).astype(np.uint64)
    with h5py.File(root / 'events/left/rectify_map.h5', 'w') as file:
        file['rectify_map'] = np.stack(np.meshgrid(np.arange(640), np.arange(480)), axis=-1).astype(np.float32)
    stamps = [OFFSET_US + 50_000 * (number + 1) for number in range(int(seconds * 20) - 1)]
    for number in range(len(stamps)):
        picture = np.full((36, 48, 3), (30, 90, 200), np.uint8)
        picture[0, 0] = number
        cv2.imwrite(str(root / f'images/left/rectified/{number:06d}.png'), picture[..., ::-1])
    (root / 'images/timestamps.txt').write_text(''.join(f'{stamp}\n' for stamp in stamps))
    (root / 'images/left/exposure_timestamps.txt').write_text(
        '# exposure_start_timestamp_us, exposure_end_timestamp_us\n' +
        ''.join(f'{stamp - 2000}, {stamp + 2000}\n' for stamp in stamps))
    event = {'camera_matrix': [553.0, 553.0, 320.0, 240.0], 'resolution': [640, 480]}
    rgb = {'camera_matrix': [41.0, 41.0, 24.0, 18.0], 'resolution': [48, 36]}
    raw = {'distortion_coeffs': [-0.1, 0.05, 0.001, 0.002]}
    pose = np.eye(4)
    pose[:3, 3] = [0.05, 0.0, 0.0]
    (root / 'calibration/cam_to_cam.yaml').write_text(yaml.safe_dump({
        'intrinsics': {'cam0': {**event, **raw}, 'camRect0': event, 'cam1': {**rgb, **raw}, 'camRect1': rgb},
        'extrinsics': {'T_10': pose.tolist(), 'R_rect0': np.eye(3).tolist(), 'R_rect1': np.eye(3).tolist()}}))
    return root


@pytest.fixture
def sequence(tmp_path):
    return _make(tmp_path / 'sequence')


def _truth(root):
    with h5py.File(root / 'events/left/events.h5') as file:
        t_ns = (file['events/t'][:].astype(np.int64) + OFFSET_US) * 1000
        return t_ns, *(file[f'events/{name}'][:] for name in ('x', 'y', 'p'))


def _decoded(path):
    with BagReader(path) as bag:
        packets = [m.data for m in bag.messages(['/event_camera/events'])]
    decoder = make_decoder(packets[0].encoding, 640, 480)
    events = join_events([decoder.decode(packet) for packet in packets])
    assert not any(decoder.dropped.values())
    return packets, events


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
def test_convert_keeps_every_event(encoding, storage, sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(dsec_convert, 'SEGMENT_MS', 500)
    done = convert(sequence, tmp_path / 'bag', DsecOptions(encoding, 7), storage=storage)
    packets, events = _decoded(tmp_path / 'bag')
    for got, wanted in zip((events.t_ns, events.x, events.y, events.p), _truth(sequence), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert [packet.seq for packet in packets] == list(range(len(packets)))
    assert done.packets == len(packets)
    assert packets[0].stamp_ns == (OFFSET_US + int(_truth(sequence)[0][0] // 1000 - OFFSET_US)) * 1000


def test_convert_puts_images_at_the_end_of_their_exposure_with_the_middle_as_their_stamp(sequence, tmp_path):
    convert(sequence, tmp_path / 'bag', DsecOptions(images='raw'))
    with BagReader(tmp_path / 'bag') as bag:
        messages = list(bag.messages(['/camera/image']))
        infos = list(bag.messages(['/camera/camera_info']))
        everything = [m.log_ns for m in bag]
    assert len(messages) == len(infos) == int(SECONDS * 20) - 1
    assert everything == sorted(everything)
    for number, message in enumerate(messages):
        stamp_ns = (OFFSET_US + 50_000 * (number + 1)) * 1000
        assert (message.stamp_ns, message.log_ns) == (stamp_ns, stamp_ns + 2_000_000)
        assert tuple(message.data.rgb()[0, 0]) == (number,) * 3
        assert tuple(message.data.rgb()[5, 5]) == (30, 90, 200)
    info = infos[0].data
    assert (info.width, info.height, info.header.frame_id) == (48, 36, 'camera')
    np.testing.assert_allclose(info.k, [41, 0, 24, 0, 41, 18, 0, 0, 1])


def test_convert_of_compressed_images_keeps_the_files_byte_for_byte(sequence, tmp_path):
    convert(sequence, tmp_path / 'bag', DsecOptions(images='compressed'))
    with BagReader(tmp_path / 'bag') as bag:
        first = next(bag.messages(['/camera/image/compressed'])).data
    assert bytes(first.data) == (sequence / 'images/left/rectified/000000.png').read_bytes()


def test_convert_writes_the_cameras_poses_once_and_latched(sequence, tmp_path):
    convert(sequence, tmp_path / 'bag')
    with BagReader(tmp_path / 'bag') as bag:
        (static,) = bag.messages(['/tf_static'])
    (transform,) = static.data.transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ('event_camera', 'camera')
    assert transform.transform.translation.x == pytest.approx(-0.05)
    assert transform.transform.rotation.w == pytest.approx(1.0)
    text = (tmp_path / 'bag/metadata.yaml').read_text()
    assert 'transient_local' in text


@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
def test_convert_that_was_stopped_goes_on_and_gives_the_same_bag(encoding, sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(dsec_convert, 'SEGMENT_MS', 250)
    options = DsecOptions(encoding)
    convert(sequence, tmp_path / 'whole', options)

    calls = []

    def stop_at_the_third(seconds):
        calls.append(seconds)
        if len(calls) == 3:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        convert(sequence, tmp_path / 'bag', options, advance=stop_at_the_third)
    assert not (tmp_path / 'bag').exists() and partial_path(tmp_path / 'bag').exists()
    done = convert(sequence, tmp_path / 'bag', options)
    assert done.resumed_segments == 3
    assert not partial_path(tmp_path / 'bag').exists()
    with BagReader(tmp_path / 'whole') as whole, BagReader(tmp_path / 'bag') as bag:
        assert [(m.topic, m.log_ns, m.cdr) for m in whole] == [(m.topic, m.log_ns, m.cdr) for m in bag]


def test_convert_that_was_killed_within_a_segment_makes_that_segment_anew(sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(dsec_convert, 'SEGMENT_MS', 250)
    with pytest.raises(KeyboardInterrupt):
        convert(sequence, tmp_path / 'bag', advance=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    (partial_path(tmp_path / 'bag') / 'segment_00001').mkdir()
    (partial_path(tmp_path / 'bag') / 'segment_00001' / 'segment_00001.mcap').write_bytes(b'half')
    convert(sequence, tmp_path / 'bag')
    np.testing.assert_array_equal(_decoded(tmp_path / 'bag')[1].t_ns, _truth(sequence)[0])


def test_convert_stopped_by_a_broken_image_goes_on_when_it_is_mended(sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(dsec_convert, 'SEGMENT_MS', 250)
    broken = sequence / 'images/left/rectified/000015.png'
    good = broken.read_bytes()
    broken.write_bytes(good[:50])
    with pytest.raises(CrossSpecError, match='000015.png'):
        convert(sequence, tmp_path / 'bag', DsecOptions(images='raw'))
    broken.write_bytes(good)
    assert convert(sequence, tmp_path / 'bag', DsecOptions(images='raw')).resumed_segments == 3


def test_convert_refuses_to_go_on_with_other_options(sequence, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        convert(sequence, tmp_path / 'bag', advance=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(CrossSpecError, match='other options'):
        convert(sequence, tmp_path / 'bag', DsecOptions('mono'))
    (partial_path(tmp_path / 'bag') / 'journal.json').write_text('{')
    with pytest.raises(CrossSpecError, match='damaged.*remove'):
        convert(sequence, tmp_path / 'bag')


def test_convert_by_command_reports_speed_and_memory(sequence, tmp_path, capsys):
    assert main(['dsec', 'convert', str(sequence), str(tmp_path / 'bag'), '--packet-ms', '20', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['images'] == int(SECONDS * 20) - 1
    assert report['recorded_s'] == pytest.approx(SECONDS, abs=0.03)
    assert report['peak_rss_mb'] > 0
    assert main(['dsec', 'convert', str(sequence), str(tmp_path / 'bag')]) == 2
    assert 'exists' in capsys.readouterr().err


@pytest.mark.parametrize(('breaking', 'words'), [
    pytest.param(lambda root: shutil.rmtree(root), 'not a folder', id='no_sequence'),
    pytest.param(lambda root: (root / 'events/left/events.h5').unlink(), 'events.h5 are missing', id='no_events'),
    pytest.param(lambda root: (root / 'events/left/events.h5').write_bytes(
        (root / 'events/left/events.h5').read_bytes()[:3000]), 'events.h5.*download', id='cut_events'),
    pytest.param(lambda root: _edit(root, lambda file: file.__delitem__('t_offset')), 't_offset', id='no_t_offset'),
    pytest.param(lambda root: _edit(root, lambda file: file.__delitem__('events/x')), 'events/t, x', id='no_x'),
    pytest.param(lambda root: _edit(root, _shorten_p), 'equally long', id='short_p'),
    pytest.param(lambda root: shutil.rmtree(root / 'images/left/rectified'), 'rectified are missing', id='no_images'),
    pytest.param(lambda root: [path.unlink() for path in (root / 'images/left/rectified').iterdir()], 'no \\*.png',
                 id='empty_images'),
    pytest.param(lambda root: (root / 'images/timestamps.txt').unlink(), 'timestamps.txt is missing', id='no_times'),
    pytest.param(lambda root: (root / 'images/timestamps.txt').write_text('one\ntwo\n'), 'whole number', id='words'),
    pytest.param(lambda root: (root / 'images/timestamps.txt').write_text('5\n' * 23), 'rise', id='standing_times'),
    pytest.param(lambda root: (root / 'calibration/cam_to_cam.yaml').write_text('a: [1'), 'not YAML', id='bad_yaml'),
    pytest.param(lambda root: (root / 'calibration/cam_to_cam.yaml').write_text('intrinsics: {}'), 'cam0',
                 id='no_intrinsics'),
])
def test_convert_names_the_file_that_is_missing_or_broken(breaking, words, sequence, tmp_path):
    breaking(sequence)
    with pytest.raises(CrossSpecError, match=words) as caught:
        convert(sequence, tmp_path / 'bag')
    assert str(sequence) in str(caught.value)
    assert not (tmp_path / 'bag').exists()


def _edit(root, change):
    with h5py.File(root / 'events/left/events.h5', 'a') as file:
        change(file)


def _shorten_p(file):
    del file['events/p']
    file['events/p'] = np.zeros(5, np.uint8)


def test_convert_without_the_hdf5_filter_says_what_to_install(sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(h5py.h5z, 'filter_avail', lambda code: False)
    with pytest.raises(CrossSpecError, match='filter 32001.*install the Python package hdf5plugin'):
        convert(sequence, tmp_path / 'bag')


def test_convert_aligned_needs_the_rectify_map(sequence, tmp_path):
    (sequence / 'events/left/rectify_map.h5').unlink()
    with pytest.raises(CrossSpecError, match='rectify_map.h5 is missing'):
        convert(sequence, tmp_path / 'bag', DsecOptions(align=True))


@pytest.mark.parametrize('images', ['raw', 'compressed'])
def test_convert_aligned_gives_images_of_the_event_cameras_size(images, sequence, tmp_path):
    convert(sequence, tmp_path / 'bag', DsecOptions(images=images, align=True))
    with BagReader(tmp_path / 'bag') as bag:
        topic = next(name for name in bag.topics if name.startswith('/camera/image'))
        rgb = next(bag.messages([topic])).data.rgb()
        info = next(bag.messages(['/camera/camera_info'])).data
    assert rgb.shape == (480, 640, 3)
    assert tuple(rgb[240, 320]) == (30, 90, 200)
    assert (info.width, info.header.frame_id) == (640, 'event_camera')


def _camera(matrix, width, height, rotation=np.eye(3)):
    return Camera(matrix, np.zeros(4), width, height, rotation, matrix, width, height)


def test_aligner_shows_a_far_point_where_the_event_camera_sees_it():
    """Direction d in cam0's frame lands at K0 d in the event view and at K1 R1 R10 d in the RGB view."""
    turn = cv2.Rodrigues(np.array([0.01, 0.05, -0.02]))[0]
    rect = cv2.Rodrigues(np.array([0.0, -0.02, 0.01]))[0]
    k_event = np.array([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]])
    k_rgb = np.array([[220.0, 0, 90], [0, 220, 66], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = turn
    calibration = Calibration(_camera(k_event, 80, 60), _camera(k_rgb, 180, 132, rect), pose)
    direction = np.array([0.05, -0.04, 1.0])
    at_event = k_event @ direction
    at_rgb = k_rgb @ rect @ turn @ direction
    column, row = (at_rgb[:2] / at_rgb[2]).round().astype(int)
    rgb = np.zeros((132, 180, 3), np.uint8)
    rgb[row - 2:row + 3, column - 2:column + 3] = 255
    grid = np.stack(np.meshgrid(np.arange(80), np.arange(60)), axis=-1).astype(np.float32)
    seen = Aligner(calibration, grid)(rgb)[..., 0]
    rows, columns = np.nonzero(seen > 128)
    assert columns.mean() == pytest.approx(at_event[0] / at_event[2], abs=1.0)
    assert rows.mean() == pytest.approx(at_event[1] / at_event[2], abs=1.0)


def test_event_file_finds_the_index_of_a_time(sequence):
    t_us = _truth(sequence)[0] // 1000
    with EventFile(sequence / 'events/left/events.h5') as file:
        times = [OFFSET_US - 5, OFFSET_US, OFFSET_US + 3_210, OFFSET_US + 500_123, OFFSET_US + 1_199_999,
                 OFFSET_US + 9_000_000]
        assert [file.index_at(time) for time in times] == np.searchsorted(t_us, times).tolist()


def test_dsec_source_plays_without_converting(sequence):
    source = open_source(str(sequence))
    messages = list(source.messages(source.start_ns))
    assert isinstance(source, DsecSource)
    assert [m.due_ns for m in messages] == sorted(m.due_ns for m in messages)
    assert {m.role for m in messages} == {'events', 'image'}
    source.close()


def test_make_sequence_of_real_windows_is_converted_to_the_same_events(tmp_path):
    window = shared('dsec/interlaken_00_d_000069.npz')
    dsec_make.make_sequence(tmp_path / 'sequence', seconds=0.12, windows=[window])
    with np.load(window) as file:
        real = {name: file[name] for name in ('t', 'x', 'y', 'p')}
    convert(tmp_path / 'sequence', tmp_path / 'bag')
    events = _decoded(tmp_path / 'bag')[1]
    first = events.part(0, len(real['t']))
    np.testing.assert_array_equal(first.t_ns // 1000 - dsec_make.T_OFFSET_US, real['t'] - real['t'][0])
    for name in ('x', 'y', 'p'):
        np.testing.assert_array_equal(getattr(first, name), real[name])
    assert read_calibration(tmp_path / 'sequence/calibration/cam_to_cam.yaml').rgb.rect_width == 1440
