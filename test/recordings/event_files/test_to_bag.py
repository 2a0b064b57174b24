"""Any source to a bag: what was stopped goes on, what is half is never taken for whole, pictures beside, other
packages.
"""
from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pytest
from streams import columns_of, everything, stream, write

from crossspec_ros.cli import main
from crossspec_ros.demo.options import DemoOptions, _check_source
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader
from crossspec_ros.recordings.bag_edit import partial_path
from crossspec_ros.recordings.event_files.bag_events import BagEvents
from crossspec_ros.recordings.event_files.source import EventFileSource, FileOptions
from crossspec_ros.recordings.event_files.to_bag import write_bag
from crossspec_ros.recordings.sources import WorldSource, open_source
from lab_package import install_lab

SEGMENT_NS = 300_000_000


def messages_of(path: Path) -> list[tuple]:
    with BagReader(path) as bag:
        return [(message.topic, message.log_ns, bytes(message.cdr)) for message in bag]


class Stopping:
    """A source that fails after so many messages, as a process that is stopped would."""

    def __init__(self, inner, after: int) -> None:
        self.name, self.topics, self.start_ns, self.end_ns = inner.name, inner.topics, inner.start_ns, inner.end_ns
        self._inner, self._after = inner, after

    def messages(self, start_ns: int):
        for number, message in enumerate(self._inner.messages(start_ns)):
            if number == self._after:
                raise KeyboardInterrupt
            yield message

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize('name', ['evt3', 'evt2', 'prophesee'])
def test_what_was_stopped_goes_on_and_is_the_same_bag(name, tmp_path):
    path = write(tmp_path / ('a.hdf5' if name == 'prophesee' else 'a.raw'), name, stream(start_us=15_000_000,
                                                                                         length_us=3_000_000))
    whole = write_bag(EventFileSource(path), tmp_path / 'whole', segment_ns=SEGMENT_NS, segment_bytes=0)
    with pytest.raises(KeyboardInterrupt):
        write_bag(Stopping(EventFileSource(path), 200), tmp_path / 'bag', segment_ns=SEGMENT_NS, segment_bytes=0)
    assert not (tmp_path / 'bag').exists()
    with pytest.raises(CrossSpecError, match='--resume'):
        write_bag(EventFileSource(path), tmp_path / 'bag', segment_ns=SEGMENT_NS, segment_bytes=0)
    with pytest.raises(CrossSpecError, match='another recording'):
        write_bag(EventFileSource(path), tmp_path / 'bag', segment_ns=SEGMENT_NS, segment_bytes=0, resume=True,
                  storage='sqlite3')
    done = write_bag(EventFileSource(path), tmp_path / 'bag', segment_ns=SEGMENT_NS, segment_bytes=0, resume=True)
    assert 0 < done.resumed_segments < 10 and done.messages == whole.messages
    assert messages_of(tmp_path / 'bag') == messages_of(tmp_path / 'whole')
    assert not partial_path(tmp_path / 'bag').exists()


SLOWLY = '''
import sys, time
from crossspec_ros.recordings.event_files.source import EventFileSource
from crossspec_ros.recordings.event_files.to_bag import write_bag
source = EventFileSource(sys.argv[1])
messages = source.messages
def slowly(start_ns):
    for number, message in enumerate(messages(start_ns)):
        if number > 150:
            time.sleep(3600)
        yield message
source.messages = slowly
write_bag(source, sys.argv[2], segment_ns=int(sys.argv[3]), segment_bytes=0)
'''


def test_a_killed_conversion_goes_on(tmp_path):
    path = write(tmp_path / 'a.raw', 'evt3', stream(length_us=3_000_000))
    out = tmp_path / 'bag'
    child = subprocess.Popen([sys.executable, '-c', SLOWLY, str(path), str(out), str(SEGMENT_NS)])
    try:
        journal = partial_path(out) / 'journal.json'
        for _ in range(1200):
            if journal.exists() and len(json.loads(journal.read_text())['segments']) >= 2:
                break
            assert child.poll() is None
            time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    assert not out.exists()
    with pytest.raises(CrossSpecError):
        BagReader(partial_path(out))
    done = write_bag(EventFileSource(path), out, segment_ns=SEGMENT_NS, segment_bytes=0, resume=True)
    assert done.resumed_segments >= 2
    write_bag(EventFileSource(path), tmp_path / 'whole', segment_ns=SEGMENT_NS, segment_bytes=0)
    assert messages_of(out) == messages_of(tmp_path / 'whole')


def test_a_source_without_end_needs_a_duration(tmp_path):
    source = WorldSource(3, 64, 48)
    with pytest.raises(CrossSpecError, match='--duration'):
        write_bag(source, tmp_path / 'bag')
    done = write_bag(source, tmp_path / 'bag', duration_s=0.5)
    assert done.messages['events'] > 10 and done.messages['image'] >= 5
    assert main(['events', 'convert', str(tmp_path / 'bag'), str(tmp_path / 'a.raw'), '--rgb',
                 str(tmp_path / 'rgb')]) == 0
    assert len(list((tmp_path / 'rgb').glob('*.png'))) == done.messages['image']
    # and what came out goes in again
    assert main(['events', 'convert', str(tmp_path / 'a.raw'), str(tmp_path / 'again'), '--rgb', str(tmp_path / 'rgb'),
                 '--rgb-times', str(tmp_path / 'rgb' / 'times.txt'), '--images', 'raw']) == 0
    with BagReader(tmp_path / 'bag') as bag, BagReader(tmp_path / 'again') as again:
        first, second = ([message.data.rgb() for message in reader if message.type == 'sensor_msgs/msg/Image']
                         for reader in (bag, again))
    assert len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def events_path(tmp_path) -> Path:
    return write(tmp_path / 'a.raw', 'evt3', stream(count=4000))


def pictures(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((12, 16, 3), 10 * number, np.uint8))
    return folder


def images_of(path: Path) -> list[tuple[int, int]]:
    """(stamp in us, grey) of the pictures of a bag."""
    with BagReader(path) as bag:
        return [(message.stamp_ns // 1000, int(message.data.rgb()[0, 0, 0])) for message in bag
                if 'mage' in message.type]


@pytest.mark.parametrize('text', [pytest.param('# time\n1000\n500000\n1500000\n', id='us'),
                                  pytest.param('0.001\n0.5\n1.5\n', id='s'),
                                  pytest.param('1000 p2.png\n500000, p10.png\n1500000 p11.png\n', id='names'),
                                  pytest.param('p2.png 0.001\np10.png 0.5\nrgb/p11.png 1.5\n', id='names_first')])
@pytest.mark.parametrize('images', ['raw', 'compressed'])
def test_pictures_of_a_folder_come_with_their_times(text, images, events_path, tmp_path):
    folder = pictures(tmp_path / 'rgb', ['p2.png', 'p10.png', 'p11.png'])
    (tmp_path / 'times.txt').write_text(text)
    assert main(['events', 'convert', str(events_path), str(tmp_path / 'bag'), '--rgb', str(folder), '--rgb-times',
                 str(tmp_path / 'times.txt'), '--images', images]) == 0
    assert images_of(tmp_path / 'bag') == [(1000, 0), (500_000, 10), (1_500_000, 20)]
    log = [entry[1] for entry in messages_of(tmp_path / 'bag')]
    assert log == sorted(log)


@pytest.mark.parametrize('text, told', [('1\n2\n', '2 times and'), ('3\n2\n9\n', 'rise'), ('1\n2\nx y z\n', 'line 3'),
                                        ('1 a.png\n2 no.png\n3 c.png\n', 'no.png'), (None, '--rgb-times')])
def test_pictures_and_times_that_do_not_fit_are_told(text, told, events_path, tmp_path, capsys):
    folder = pictures(tmp_path / 'rgb', ['a.png', 'b.png', 'c.png'])
    command = ['events', 'convert', str(events_path), str(tmp_path / 'bag'), '--rgb', str(folder)]
    if text is not None:
        (tmp_path / 'times.txt').write_text(text)
        command += ['--rgb-times', str(tmp_path / 'times.txt')]
    assert main(command) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_a_damaged_picture_is_counted_and_a_name_may_be_the_time(events_path, tmp_path, capsys):
    folder = pictures(tmp_path / 'rgb', ['1000.png', '20000.png', '300000.png'])
    (folder / '20000.png').write_bytes(b'\x89PNG no')
    assert main(['events', 'convert', str(events_path), str(tmp_path / 'bag'), '--rgb', str(folder), '--images', 'raw',
                 '--json']) == 0
    assert json.loads(capsys.readouterr().out)['dropped'] == {'damaged_pictures': 1}
    assert images_of(tmp_path / 'bag') == [(1000, 0), (300_000, 20)]


def test_a_film_begins_with_the_events_or_has_times(events_path, tmp_path):
    film = tmp_path / 'a.mp4'
    with av.open(str(film), 'w') as out:
        video = out.add_stream('mpeg4', rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        for number in range(5):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8))))
        out.mux(video.encode())
    assert main(['events', 'convert', str(events_path), str(tmp_path / 'bag'), '--rgb', str(film)]) == 0
    first_us = int(stream(count=4000).t_ns[0]) // 1000
    assert [stamp for stamp, _ in images_of(tmp_path / 'bag')] == [first_us + 100_000 * number for number in range(5)]
    (tmp_path / 'times.txt').write_text('10\n20\n30\n')
    assert main(['events', 'convert', str(events_path), str(tmp_path / 'timed'), '--rgb', str(film), '--rgb-times',
                 str(tmp_path / 'times.txt')]) == 0
    assert [stamp for stamp, _ in images_of(tmp_path / 'timed')] == [10, 20, 30]


def test_pictures_inside_m3ed_and_mvsec_come_along(tmp_path):
    path = write(tmp_path / 'm.h5', 'm3ed', stream(count=2000))
    with h5py.File(path, 'a') as file:
        picture = np.zeros((2, 4, 6, 3), np.uint8)
        picture[..., 0] = 200                                   # blue: M3ED keeps BGR
        file['ovc/rgb/data'], file['ovc/ts'] = picture, np.array([5_000, 50_000])
    assert main(['events', 'convert', str(path), str(tmp_path / 'm3ed')]) == 0
    assert [stamp for stamp, _ in images_of(tmp_path / 'm3ed')] == [5_000, 50_000]
    with BagReader(tmp_path / 'm3ed') as bag:
        rgb = next(message.data.rgb() for message in bag if 'mage' in message.type)
    assert rgb[0, 0].tolist() == [0, 0, 200]
    path = write(tmp_path / 'v.h5', 'mvsec', stream(count=2000))
    with h5py.File(path, 'a') as file:
        file['davis/left/image_raw'], file['davis/left/image_raw_ts'] = np.full((2, 4, 6), 9, np.uint8), [0.005, 0.05]
    assert main(['events', 'convert', str(path), str(tmp_path / 'mvsec')]) == 0
    assert images_of(tmp_path / 'mvsec') == [(5_000, 9), (50_000, 9)]


def test_frames_of_aedat4_come_along_and_go_back(tmp_path):
    pytest.importorskip('aedat')
    pytest.importorskip('dv_processing')
    folder = pictures(tmp_path / 'rgb', ['1000.png', '500000.png'])
    events = write(tmp_path / 'a.hdf5', 'prophesee', stream(count=2000))
    assert main(['events', 'convert', str(events), str(tmp_path / 'bag'), '--rgb', str(folder)]) == 0
    assert main(['events', 'convert', str(tmp_path / 'bag'), str(tmp_path / 'a.aedat4')]) == 0
    assert main(['events', 'convert', str(tmp_path / 'a.aedat4'), str(tmp_path / 'again')]) == 0
    assert images_of(tmp_path / 'again') == [(1000, 0), (500_000, 10)]


def test_files_are_taken_where_recordings_are(tmp_path, capsys):
    events = stream(count=4000)
    for name, path in (('evt3', 'a.raw'), ('prophesee', 'a.hdf5')):
        source = open_source(str(write(tmp_path / path, name, events)))
        assert isinstance(source, EventFileSource) and list(source.messages(source.start_ns))
        source.close()
    assert main(['bag', 'info', str(tmp_path / 'a.raw'), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['events'] == 4000
    assert _check_source(DemoOptions(out=tmp_path, bag=tmp_path / 'a.raw')).events


def test_stamps_are_of_the_first_event_and_never_0(tmp_path):
    events = stream(count=2000, start_us=0)
    path = write(tmp_path / 'a.hdf5', 'prophesee', events)
    for options in (FileOptions(), FileOptions(encoding='mono')):
        stamps = [message.stamp_ns for message in EventFileSource(path, options).messages(0)]
        assert stamps == sorted(stamps) and stamps[0] >= 1
    write_bag(EventFileSource(path), tmp_path / 'bag')
    assert everything(BagEvents(tmp_path / 'bag'))[0] == columns_of(events)


def test_another_package_brings_a_source(tmp_path, monkeypatch, capsys):
    install_lab(tmp_path, monkeypatch, '''
from crossspec_ros.recordings.sources import WorldSource

def open_lab(argument):
    if argument == 'broken':
        raise ZeroDivisionError('no such\\ndrive')
    return object() if argument == 'empty' else WorldSource(int(argument), 64, 48)
''', '[crossspec.sources]\nlab = lab_recordings:open_lab\n', 'lab_recordings')
    assert main(['events', 'convert', 'lab:5', str(tmp_path / 'bag'), '--duration', '0.2']) == 0
    assert [m[2] for m in messages_of(tmp_path / 'bag')]
    for argument, told in (('broken', 'ZeroDivisionError: no such drive'), ('empty', 'has no name, topics')):
        capsys.readouterr()
        assert main(['events', 'convert', f'lab:{argument}', str(tmp_path / 'other'), '--duration', '0.2']) == 2
        told_there = capsys.readouterr().err
        assert told in told_there and told_there.count('\n') == 1
