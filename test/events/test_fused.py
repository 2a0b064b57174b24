"""The fused pass equals decode-then-build, to the last bit."""
import numpy as np
import pytest
from event_streams import event_streams, packet, random_events, recording, words
from hypothesis import given, settings
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.events.encode import Packetizer, encode_evt3
from crossspec_ros.events.fused import FusedWindows
from crossspec_ros.events.representations import histogram, voxel_grid
from crossspec_ros.events.types import Events, Packet

KINDS = ('voxel_grid', 'histogram')


def fuse(
    packets: list[Packet], window_ns: int, kind: str, shape: tuple[int, int], offset_ns: int = 0, bins: int = 5
) -> list:
    fused = FusedWindows(
        packets[0].width,
        packets[0].height,
        window_ns=window_ns,
        shape=shape,
        representation=kind,
        bins=bins,
        offset_ns=offset_ns,
    )
    frames = [frame for each in packets for frame in fused.feed(each)]
    return frames + ([fused.current()] if fused.current() is not None else [])


def two_steps(
    packets: list[Packet], window_ns: int, kind: str, shape: tuple[int, int], offset_ns: int = 0, bins: int = 5
) -> list:
    decoder = make_decoder('evt3', packets[0].width, packets[0].height)
    events = join_events([decoder.decode(each) for each in packets])
    events = Events(events.t_ns + offset_ns, events.x, events.y, events.p, events.width, events.height)
    ends = np.unique(-(-events.t_ns // window_ns) * window_ns).tolist()
    build = {'voxel_grid': lambda *span: voxel_grid(events, *span, bins=bins, shape=shape),
             'histogram': lambda *span: histogram(events, *span, shape=shape)}[kind]
    return [(end, build(end - window_ns, end)) for end in ends]


def assert_equal(frames: list, wanted: list) -> None:
    assert [frame.end_ns for frame in frames] == [end for end, _ in wanted]
    for frame, (_, grid) in zip(frames, wanted):
        np.testing.assert_array_equal(frame.grid, grid)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape, window_ms', [((96, 128), 125), ((720, 1280), 50), ((1, 1), 1000)])
def test_fused_equals_two_steps_on_a_recording(kind, shape, window_ms):
    packets = list(recording('evt3_trigger'))
    window_ns = window_ms * 1_000_000
    assert_equal(fuse(packets, window_ns, kind, shape), two_steps(packets, window_ns, kind, shape))


@pytest.mark.parametrize('kind', KINDS)
@settings(max_examples=40, deadline=None)
@given(
    events=event_streams(),
    cuts=st.lists(st.integers(0, 2000), max_size=4),
    offset_ns=st.integers(-(10**12), 10**12),
    bins=st.integers(1, 6),
)
def test_fused_equals_two_steps_on_any_cut(kind, events, cuts, offset_ns, bins):
    payload = encode_evt3(events)
    edges = sorted({0, len(payload), *(min(cut, len(payload)) // 2 * 2 for cut in cuts)})
    packets = [
        packet(payload[begin:stop], seq=k, width=40, height=30)
        for k, (begin, stop) in enumerate(zip(edges, edges[1:]))
    ]
    if len(events):
        assert_equal(
            fuse(packets, 7_000_000, kind, (9, 11), offset_ns, bins),
            two_steps(packets, 7_000_000, kind, (9, 11), offset_ns, bins),
        )


def test_fused_counts_events_of_a_window():
    events = random_events(1, 4000)
    frames = fuse(list(Packetizer('evt3', 64, 48).packets(events, 3_000_000)), 100_000_000, 'histogram', (12, 16))
    assert sum(frame.on for frame in frames) == np.count_nonzero(events.p)
    assert sum(frame.off for frame in frames) == np.count_nonzero(events.p == 0)
    for frame in frames:
        assert (frame.grid[1].sum(), frame.grid[0].sum()) == (frame.on, frame.off)


def test_fused_frame_of_a_running_window_is_a_copy():
    fused = FusedWindows(64, 48, window_ns=100_000_000, shape=(12, 16))
    assert fused.current() is None
    fused.feed(packet(words(0x8001, 0x6000, 0x2001)))
    first = fused.current()
    fused.feed(packet(words(0x2001), seq=1))
    assert (first.on + first.off, fused.current().off) == (1, 2)
    assert first.grid.sum() == -1.0


def test_fused_starts_over_when_time_jumps_back():
    fused = FusedWindows(64, 48, window_ns=10_000_000, shape=(12, 16), representation='histogram')
    fused.feed(packet(words(0x8000 | 1000, 0x6000, 0x2001), seq=5))
    assert fused.feed(packet(words(0x8001, 0x6000, 0x2001, 0x2001), seq=0)) == []
    assert (fused.current().end_ns, fused.current().off) == (10_000_000, 2)
    assert fused.dropped['seq_back'] == 1


def test_fused_leaves_out_what_is_a_little_late():
    fused = FusedWindows(64, 48, window_ns=10_000_000, shape=(12, 16), representation='histogram')
    frames = fused.feed(packet(words(0x8002, 0x6000, 0x2001, 0x8003, 0x6000, 0x2001, 0x8002, 0x2001, 0x8003, 0x2001)))
    assert [frame.off for frame in frames] == [1]
    assert (fused.current().off, fused.late) == (2, 1)


@pytest.mark.parametrize('changes, word', [
    pytest.param({'representation': 'time_surface'}, 'time_surface', id='representation'),
    pytest.param({'window_ns': 0}, 'window_ns', id='window'),
    pytest.param({'shape': (0, 3)}, 'shape', id='shape'),
])
def test_fused_refuses(changes, word):
    with pytest.raises(CrossSpecError, match=word):
        FusedWindows(64, 48, **({'window_ns': 1, 'shape': (4, 4)} | changes))
