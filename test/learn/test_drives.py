"""Windows of a drive: frames and looks as the graph's own pipelines have them, split by time alone."""
from collections import Counter

import numpy as np
import pytest
import toy_drive

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.learn.drives import DriveReader, open_drive
from crossspec_ros.speculation.drafter import VoxelGrid

VIEW = VoxelGrid(5, 24, 32)
SECOND = 10**9


@pytest.fixture
def read(tmp_path, toys):
    def read(uri='toy:1:40', after=None, **values):
        config = toy_drive.toy_config(tmp_path, 'builtin', bags=(uri,), **values)
        source, split = open_drive(config, 0)
        reader = DriveReader(config, split, VIEW, after)
        return config, split, list(reader.windows(source)), reader.counts
    return read


def test_last_fifth_is_held_out_and_no_window_lies_across_the_cut(read):
    config, split, windows, counts = read()
    assert split.cut_ns == 32 * SECOND and not counts
    grid = config.grid()
    assert all((grid.start_ns(w.window_id) >= split.cut_ns) if w.held else (w.end_ns <= split.cut_ns) for w in windows)
    assert Counter(w.held for w in windows) == {False: 63, True: 8}
    assert [w.end_ns // SECOND for w in windows if w.held] == list(range(33, 41))


def test_looks_are_the_drafters_view_at_the_lead_and_at_the_end(read):
    config, _, windows, _ = read()
    source = toy_drive.ToySource(1, 40)
    from crossspec_ros.events.decode import join_events, make_decoder
    decoder = make_decoder('evt3', toy_drive.WIDTH, toy_drive.HEIGHT)
    events = join_events([decoder.decode(m.data) for m in source.messages(0) if m.role == 'events'])
    for window in windows[4:40:7]:
        for look, end_ns in zip(window.looks, (window.end_ns - 125_000_000, window.end_ns), strict=True):
            inside = (events.t_ns > end_ns - SECOND) & (events.t_ns <= end_ns)
            first, last = np.flatnonzero(inside)[[0, -1]]
            expected = voxel_grid(events.part(first, last + 1), end_ns - SECOND, end_ns, bins=5, shape=(24, 32))
            assert np.abs(look - expected).sum() < 0.01 * np.abs(expected).sum()     # an event on the border, if any


def test_frames_are_those_of_the_slots(read):
    _, _, windows, _ = read()
    window = windows[10]
    assert window.stamps_ns == tuple(window.end_ns - 125_000_000 * back for back in range(7, -1, -1))
    assert len(window.frames) == 8 and window.frames[0].shape == (toy_drive.HEIGHT, toy_drive.WIDTH, 3)


def test_going_on_gives_the_windows_that_are_left(read):
    _, _, windows, _ = read()
    _, _, left, _ = read(after=windows[20].window_id)
    assert [w.window_id for w in left] == [w.window_id for w in windows[21:]]
    assert all(np.allclose(one.looks, other.looks) for one, other in zip(left[2:], windows[23:], strict=True))


@pytest.mark.parametrize(('uri', 'word'), [
    pytest.param('toy:1:40:image', 'must have events', id='no events'),
    pytest.param('toy:1:40:events', 'must have images', id='no images'),
    pytest.param('toy:1:12', 'too short: 12.0 s have 1 windows to hold out', id='short')])
def test_drives_that_cannot_be_learned_from_are_refused(read, uri, word):
    with pytest.raises(CrossSpecError, match=word):
        read(uri)


def test_endless_recordings_need_a_length(tmp_path, monkeypatch):
    monkeypatch.setattr('crossspec_ros.learn.drives.open_source', lambda uri, **options: toy_drive.ToySource(1, 40,
                                                                                                           end=False))
    config = toy_drive.toy_config(tmp_path, 'builtin', bags=('toy:1',))
    with pytest.raises(CrossSpecError, match='say how much of it with --seconds'):
        open_drive(config, 0)


def test_frames_without_events_are_not_held_for_long(tmp_path, monkeypatch, toys):
    class Silent(toy_drive.ToySource):
        def messages(self, start_ns):
            gap = range(8 * SECOND, 24 * SECOND)
            return (m for m in super().messages(start_ns) if m.role == 'image' or m.due_ns not in gap)

    monkeypatch.setattr('crossspec_ros.learn.drives.open_source', lambda uri, **options: Silent(1, 40))
    config = toy_drive.toy_config(tmp_path, 'builtin', bags=('toy:1',))
    source, split = open_drive(config, 0)
    reader, held, windows = DriveReader(config, split, VIEW), 0, []
    for window in reader.windows(source):
        windows.append(window.end_ns // (SECOND // 2))
        held = max(held, len(reader._framed))
    assert reader.counts['no_events'] + len(windows) == 71 and 20 < reader.counts['no_events'] < 36
    assert held < 12 and windows == sorted(set(windows))
