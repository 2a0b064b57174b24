"""Cut, damaged and misnamed files: counted and told in one line, never a traceback."""
from __future__ import annotations

import h5py
import numpy as np
import pytest
from streams import SUFFIXES, columns_of, everything, stream, write

from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.event_files.opening import open_event_file


def one_line(capsys) -> str:
    told = capsys.readouterr().err.strip()
    assert told.startswith('crossspec: error: ') and '\n' not in told, told
    return told


@pytest.mark.parametrize('name, lost, counted', [('evt3', 1, {'truncated_bytes': 1}), ('evt2', 1,
                                                                                       {'truncated_bytes': 1}),
                                                 ('evt21', 1, {'truncated_bytes': 5}), ('dat', 1,
                                                                                        {'truncated_bytes': 5})])
def test_a_cut_file_gives_what_is_whole_and_counts_the_rest(name, lost, counted, tmp_path):
    events = stream(count=2001)
    path = write(tmp_path / f'a{SUFFIXES[name]}', name, events)
    whole = everything(open_event_file(path))[0][0]
    path.write_bytes(path.read_bytes()[:-3])
    file = open_event_file(path)
    assert len(whole) - lost - 1 <= len(everything(file)[0][0]) <= len(whole) - lost
    assert dict(file.dropped) == counted


def test_a_cut_aedat4_gives_what_it_holds(tmp_path, capsys):
    pytest.importorskip('aedat')
    pytest.importorskip('dv_processing')
    events = stream()
    path = write(tmp_path / 'a.aedat4', 'aedat4', events)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    file = open_event_file(path)
    columns = everything(file)[0]
    assert 0 < len(columns[0]) < len(events) and columns == [column[:len(columns[0])] for column in columns_of(events)]
    assert file.dropped['cut_files'] == 1
    path.write_bytes(path.read_bytes()[:40])
    assert main(['events', 'info', str(path)]) == 2
    one_line(capsys)


def test_a_name_that_lies_is_no_matter(tmp_path):
    events = stream(count=2000)
    for name in ('evt2', 'dat', 'prophesee'):
        path = write(tmp_path / f'{name}{SUFFIXES[name]}', name, events)
        other = path.rename(tmp_path / f'{name}.png')
        file = open_event_file(other)
        assert (file.format, everything(file)[0]) == (name, columns_of(events))


@pytest.mark.parametrize('data, told', [
    pytest.param(b'', 'is empty', id='empty'), pytest.param(b'\x7fELF1234', 'no bag and no RAW', id='program'),
    pytest.param(b'% evt 4.0\n% geometry 640x480\n% end\nabcd', '4.0', id='evt4'),
    pytest.param(b'% evt 3.0\n% end\nabcd', '--size', id='no_size'),
    pytest.param(b'% camera x\nabcd', 'names no format', id='no_format'),
    pytest.param(b'#ROSBAG V2.0\n', 'bag', id='ros1'),
    pytest.param(b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull', id='lfs'),
    pytest.param(b'#!AER-DAT3.1\r\n', 'before 4', id='aedat3'),
    pytest.param(b'\x89HDF\r\n\x1a\n' + bytes(100), 'cut or damaged', id='hdf5'),
    pytest.param(b'#!AER-DAT4.0\r\n' + bytes(10), 'AEDAT4', id='aedat4')])
def test_what_cannot_be_read_is_told_in_one_line(data, told, tmp_path, capsys):
    path = tmp_path / 'a.raw'
    path.write_bytes(data)
    for command in (['events', 'info', path], ['events', 'convert', path, tmp_path / 'bag']):
        assert main(list(map(str, command))) == 2
        assert told in one_line(capsys)
    assert not (tmp_path / 'bag').exists() and not (tmp_path / 'bag.partial').exists()


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('header', [pytest.param(b'% evt 3.0\n% geometry 640x480\n% end\n', id='evt3'),
                                    pytest.param(b'% evt 2.0\n% geometry 640x480\n% end\n', id='evt2'),
                                    pytest.param(b'% evt 2.1\n% geometry 640x480\n% end\n', id='evt21'),
                                    pytest.param(b'% Data file\n% Version 2\n% Width 640\n% Height 480\n\x0c\x08',
                                                 id='dat')])
def test_noise_is_counted_and_ends_in_a_bag_or_one_line(header, seed, tmp_path, capsys):
    path = tmp_path / 'a.raw'
    path.write_bytes(header + np.random.default_rng(seed).bytes(40_001))
    assert main(['events', 'info', str(path)]) == 0
    out = capsys.readouterr().out
    assert 'truncated_bytes' in out
    if main(['events', 'convert', str(path), str(tmp_path / 'bag')]):
        one_line(capsys)
    else:
        assert main(['bag', 'info', str(tmp_path / 'bag')]) == 0


def test_times_that_go_back_are_put_in_order_or_counted(tmp_path, capsys):
    events = stream(count=4000)
    path = write(tmp_path / 'a.hdf5', 'prophesee', events)
    with h5py.File(path, 'a') as file:
        table = file['CD/events'][:]
        table['t'][1000] -= 99_000
        file['CD/events'][...] = table
    assert main(['events', 'convert', str(path), str(tmp_path / 'bag'), '--json']) == 0
    assert '"times_back": 1' in capsys.readouterr().out
    assert main(['events', 'convert', str(tmp_path / 'bag'), str(tmp_path / 'b.raw')]) == 0
    found = everything(open_event_file(tmp_path / 'b.raw'))[0][0]
    assert found == sorted((table['t'] * 1000).tolist())


def test_a_missing_filter_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.hdf5', 'prophesee', stream(count=100))
    with h5py.File(path, 'a') as file:
        table = file['CD/events'][:]
        del file['CD/events']
        file.create_dataset('CD/events', data=table, chunks=True, compression='gzip')
    from crossspec_ros.recordings.event_files import hdf5
    monkeypatch.setattr(hdf5.h5py.h5z, 'filter_avail', lambda code: False)
    with pytest.raises(CrossSpecError, match='hdf5plugin'):
        open_event_file(path)
    monkeypatch.setattr(hdf5, 'ECF_FILTER', 1)
    with pytest.raises(CrossSpecError, match='ECF filter of Prophesee; set HDF5_PLUGIN_PATH'):
        open_event_file(path)


def test_what_needs_an_absent_package_says_which(tmp_path, monkeypatch, capsys):
    import sys
    monkeypatch.setitem(sys.modules, 'aedat', None)
    (tmp_path / 'a.aedat4').write_bytes(b'#!AER-DAT4.0\r\n' + bytes(100))
    assert main(['events', 'info', str(tmp_path / 'a.aedat4')]) == 2
    assert 'crossspec_ros[formats]' in one_line(capsys)
