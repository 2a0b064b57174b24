"""Voxel grids that grow while packets come are those of the events, however they come."""
from dataclasses import replace

import numpy as np
import pytest
from event_streams import event_streams, packet, random_events, recording, words
from hypothesis import given, settings
from hypothesis import strategies as st

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.activity import activity_map
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.events.encode import Packetizer, encode_evt3, encode_mono
from crossspec_ros.events.moments import WindowMoments
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.events.slices import Slicing
from crossspec_ros.events.types import Events, Packet

MS, S = 1_000_000, 1_000_000_000
SHAPE = (9, 11)


def moments_of(packets: list[Packet], slicing: Slicing, shape=SHAPE, offset_ns=0, keep_ns=1 << 60) -> WindowMoments:
    """What the packets give, with everything kept."""
    moments = WindowMoments(slicing, shape, keep_ns=keep_ns, max_bytes=1 << 28)
    moments.use(make_decoder(packets[0].encoding, packets[0].width, packets[0].height))
    for each in packets:
        moments.add_packet(each, lambda first_ns: offset_ns)
    return moments


def decoded(packets: list[Packet], offset_ns=0) -> Events:
    decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
    events = join_events([decoder.decode(each) for each in packets])
    return Events(events.t_ns + offset_ns, events.x, events.y, events.p, events.width, events.height)


def exact_voxel_grid(events: Events, end_ns: int, slicing: Slicing, shape: tuple[int, int]) -> np.ndarray:
    """The definition, event by event, in float64."""
    grid = np.zeros((slicing.bins, *shape))
    start_ns = end_ns - slicing.span_ns
    for t, x, y, p in zip(events.t_ns.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()):
        if start_ns < t <= end_ns:
            position = (t - start_ns) * (slicing.bins - 1) / slicing.span_ns
            lower = min(int(position), slicing.bins - 1)
            cell = y * shape[0] // events.height, x * shape[1] // events.width
            grid[(lower, *cell)] += (2 * p - 1) * (1 - (position - lower))
            if lower + 1 < slicing.bins:
                grid[(lower + 1, *cell)] += (2 * p - 1) * (position - lower)
    return grid


def assert_windows_equal(moments: WindowMoments, events: Events, slicing: Slicing, shape=SHAPE) -> None:
    """Every window with an event, in each of its versions."""
    ends = {(-(-t // slicing.stride_ns) + later) * slicing.stride_ns for t in np.unique(events.t_ns).tolist()
            for later in range(-(-slicing.span_ns // slicing.stride_ns) + 1)}
    for end_ns in sorted({end - lead for end in ends for lead in slicing.leads_ns})[:200]:
        grid, count = moments.voxel_grid(end_ns)
        assert grid.dtype == np.float32 and grid.shape == (slicing.bins, *shape)
        assert count == np.count_nonzero((events.t_ns > end_ns - slicing.span_ns) & (events.t_ns <= end_ns))
        np.testing.assert_allclose(grid, exact_voxel_grid(events, end_ns, slicing, shape), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('name', ['evt3_trigger', 'mono_cd', 'libcaer_rollover'])
@pytest.mark.parametrize('stride_ms, bins, lead_ms', [
    pytest.param(1000, 5, 125, id='drafter'), pytest.param(125, 5, 0, id='sliding'),
    pytest.param(1000, 4, 100, id='unaligned bins'), pytest.param(500, 1, 0, id='one bin')])
def test_moments_of_a_recording_are_its_voxel_grids(name, stride_ms, bins, lead_ms):
    packets = [each for each in recording(name) if each.encoding == recording(name)[0].encoding]
    slicing = Slicing(stride_ms * MS, S, bins, (0, lead_ms * MS))
    moments = moments_of(packets, slicing, (96, 96))
    events = decoded(packets)
    assert len(events)
    for end_ns in sorted({-(-t // slicing.stride_ns) * slicing.stride_ns for t in (events.t_ns[0], events.t_ns[-1])}):
        for lead_ns in slicing.leads_ns:
            grid, count = moments.voxel_grid(int(end_ns) - lead_ns)
            wanted = voxel_grid(events, int(end_ns) - lead_ns - S, int(end_ns) - lead_ns, bins=bins, shape=(96, 96))
            assert count == np.count_nonzero((events.t_ns > end_ns - lead_ns - S) & (events.t_ns <= end_ns - lead_ns))
            np.testing.assert_allclose(grid, wanted, rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize('name', ['evt3_trigger', 'mono_cd', 'libcaer_rollover'])
def test_moments_count_what_the_decoder_counts(name):
    packets = [each for each in recording(name) if each.encoding == recording(name)[0].encoding]
    reference, decoder = (make_decoder(packets[0].encoding, packets[0].width, packets[0].height) for _ in range(2))
    moments = WindowMoments(Slicing(S, S, 5), SHAPE, keep_ns=S, max_bytes=1 << 24)
    moments.use(decoder)
    for each in packets:
        assert moments.add_packet(each, lambda first_ns: 0) == len(reference.decode(each))
    assert decoder.dropped == reference.dropped
    assert decoder.trigger_count + moments.triggers == reference.trigger_count


@settings(max_examples=80, deadline=None)
@given(events=event_streams(max_size=20), cuts=st.lists(st.integers(0, 2000), max_size=4), bins=st.integers(1, 6),
       offset_ns=st.integers(-(10**12), 10**12), stride_ns=st.sampled_from([7 * MS, 3 * MS, 999_983]),
       lead_ns=st.sampled_from([0, 2 * MS, 123_457]), encoding=st.sampled_from(['evt3', 'mono']))
def test_moments_of_any_cut_are_the_voxel_grids(events, cuts, bins, offset_ns, stride_ns, lead_ns, encoding):
    if not len(events) or (encoding == 'mono' and events.t_ns[-1] >= 1 << 32):
        return
    slicing = Slicing(stride_ns, 7 * MS, bins, (0, lead_ns))
    payload, size = (encode_evt3(events), 2) if encoding == 'evt3' else (encode_mono(events, 0), 8)
    edges = sorted({0, len(payload), *(min(cut, len(payload)) // size * size for cut in cuts)})
    packets = [packet(payload[start:stop], encoding, seq=k, width=40, height=30)
               for k, (start, stop) in enumerate(zip(edges, edges[1:]))]
    moments = moments_of(packets, slicing, offset_ns=offset_ns)
    assert_windows_equal(moments, decoded(packets, offset_ns), slicing)


def test_moments_do_not_depend_on_the_cut_to_the_last_bit():
    events = random_events(1, 20_000)
    slicing = Slicing(S, S, 5, (0, 125 * MS))
    cuts = [list(Packetizer('evt3', 64, 48).packets(events, packet_ms * MS)) for packet_ms in (1, 7, 1000)]
    assert len({moments_of(packets, slicing).voxel_grid(S)[0].tobytes() for packets in cuts}) == 1


def test_moments_take_a_border_to_the_ns():
    slicing = Slicing(1000, 1000, 2)
    pixels = np.zeros(5, np.uint16)
    events = Events(np.array([999, 1000, 1001, 2000, 2001]), pixels, pixels, np.ones(5, np.uint8), 4, 4)
    moments = moments_of([packet(encode_mono(events, 0), 'mono', width=4, height=4)], slicing, (1, 1))
    assert [moments.voxel_grid(end_ns)[1] for end_ns in (1000, 2000, 3000)] == [2, 2, 1]
    np.testing.assert_allclose(moments.voxel_grid(2000)[0].ravel(), [0.999, 1.001], atol=1e-6)


@pytest.mark.parametrize('offset_ns, counts', [(0, [1, 1, 1]), (1, [0, 1, 1]), (-1, [1, 1, 1]), (1000, [0, 1, 1])])
def test_moments_of_evt3_take_a_border_to_the_ns(offset_ns, counts):
    """Events at 1000, 2000 and 3000 ns of the sensor, in windows of 1000 ns."""
    stream = [packet(words(0x8000, 0x6001, 0x2001, 0x6002, 0x2001, 0x6003, 0x2001))]
    moments = moments_of(stream, Slicing(1000, 1000, 2), (1, 1), offset_ns=offset_ns)
    assert [moments.voxel_grid(end_ns)[1] for end_ns in (1000, 2000, 3000)] == counts


def test_moments_take_a_late_event_on_a_border():
    stream = [packet(words(0x8000, 0x6003, 0x2001, 0x6002, 0x2001))]
    moments = moments_of(stream, Slicing(1000, 1000, 2), (1, 1))
    assert [moments.voxel_grid(end_ns)[1] for end_ns in (1000, 2000, 3000)] == [0, 1, 1]


def test_moments_leave_out_vectors_beyond_the_last_pixel():
    far = [0x37FF] + [0x4FFF] * 6000                            # from the last column that evt3 can name
    decoder = make_decoder('evt3', 64, 48)
    moments = WindowMoments(Slicing(S, S, 5), SHAPE, keep_ns=S, max_bytes=1 << 24)
    moments.use(decoder)
    assert moments.add_packet(packet(words(0x8000, 0x6003, *far)), lambda first_ns: 0) == 0
    assert decoder.dropped['outside_sensor'] == 72_000


def test_moments_of_words_between_which_many_say_nothing():
    """The TIME_HIGH of before, and codes that are skipped, strewn between the others: a pass of its own."""
    rng = np.random.default_rng(6)
    kept = encode_evt3(random_events(6, 30_000)).view('<u2')
    before = np.maximum.accumulate(np.where(kept >> 12 == 8, np.arange(len(kept)), 0))
    strewn = []
    for word, high, count in zip(kept.tolist(), kept[before].tolist(), rng.geometric(0.6, len(kept)).tolist()):
        strewn += [word, *rng.choice([high, 0x7123, 0xE001, 0xF002], count - 1).tolist()]
    packets = [packet(words(*strewn[at:at + 9000]), seq=at // 9000) for at in range(0, len(strewn), 9000)]
    slicing = Slicing(100 * MS, 100 * MS, 5, (0, 30 * MS))
    moments = moments_of(packets, slicing)
    events = decoded(packets)
    assert len(events) == 30_000 and moments.dropped['late'] == 0
    for end_ms in range(70, 1000, 30):
        if slicing.fits(end_ms * MS):
            grid, count = moments.voxel_grid(end_ms * MS)
            assert count == np.count_nonzero((events.t_ns > (end_ms - 100) * MS) & (events.t_ns <= end_ms * MS))
            wanted = voxel_grid(events, (end_ms - 100) * MS, end_ms * MS, bins=5, shape=SHAPE)
            np.testing.assert_allclose(grid, wanted, rtol=1e-4, atol=1e-2)


def test_moments_hold_more_events_than_a_packed_number():
    """A cell that gets far more than the capacity, in one slice, of one sign."""
    slicing = Slicing(1 << 40, 1 << 40, 2)
    count = 200_000
    pixels = np.zeros(count, np.uint16)
    events = Events(np.arange(1, count + 1) * 1000, pixels, pixels, np.zeros(count, np.uint8), 4, 4)
    for encoding, payload in (('evt3', encode_evt3(events)), ('mono', encode_mono(events, 0))):
        moments = moments_of([packet(payload, encoding, width=4, height=4)], slicing, (1, 1))
        grid, used = moments.voxel_grid(1 << 40)
        far = events.t_ns.sum() / (1 << 40)
        assert used == count
        np.testing.assert_allclose(grid.ravel(), [far - count, -far], rtol=1e-6)


def test_moments_of_few_and_of_many_events_are_the_same():
    """Vector words, both signs, over several times the capacity, beside the two-step result."""
    events = random_events(5, 400_000)
    packets = list(Packetizer('evt3', 64, 48).packets(events, 20 * MS))
    slicing = Slicing(S, S, 5)
    moments = moments_of(packets, slicing)
    grid, count = moments.voxel_grid(S)
    np.testing.assert_allclose(grid, voxel_grid(events, 0, S, bins=5, shape=SHAPE), rtol=1e-4, atol=0.05)
    assert count == len(events)


def test_moments_of_a_running_window_stay_as_they_are():
    moments = WindowMoments(Slicing(S, S, 5), (12, 16), keep_ns=S, max_bytes=1 << 24)
    moments.use(make_decoder('evt3', 64, 48))
    moments.add_packet(packet(words(0x8001, 0x6000, 0x2001)), lambda first_ns: 0)
    first, count = moments.voxel_grid(S)
    moments.add_packet(packet(words(0x2001), seq=1), lambda first_ns: 0)
    assert (count, moments.voxel_grid(S)[1]) == (1, 2)
    assert first.sum() == pytest.approx(-1.0)


def test_moments_of_nothing_are_zeros():
    moments = WindowMoments(Slicing(S, S, 5), SHAPE, keep_ns=S, max_bytes=1 << 24)
    assert moments.voxel_grid(3 * S)[1] == 0 and not moments.voxel_grid(3 * S)[0].any()
    assert moments.newest_ns is None
    moments.use(make_decoder('evt3', 64, 48))
    assert moments.add_packet(packet(words(0x2001, 0x6001, 0x2001)), lambda first_ns: 1 / 0) == 0       # no time yet


def test_moments_use_what_is_a_little_late():
    """Time falls by a TIME_HIGH step, over the border of two slices, and comes back."""
    late = [packet(words(0x8003, 0x6000, 0x2001, 0x8002, 0x2001, 0x2001, 0x8003, 0x2001, 0x8001, 0x2801))]
    slicing = Slicing(10 * MS, 10 * MS, 3)
    moments = moments_of(late, slicing, (12, 16))
    assert moments.dropped == {'bytes': 0, 'late': 3, 'time_back': 0, 'size_change': 0, 'expired': 0}
    assert [moments.voxel_grid(end_ms * MS)[1] for end_ms in (10, 20)] == [3, 2]
    wanted = exact_voxel_grid(decoded(late), 10 * MS, slicing, (12, 16))
    np.testing.assert_allclose(moments.voxel_grid(10 * MS)[0], wanted, atol=1e-6)


@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
def test_moments_start_over_when_time_jumps_back(encoding):
    moments = WindowMoments(Slicing(S, S, 5), SHAPE, keep_ns=1 << 60, max_bytes=1 << 24)
    moments.use(make_decoder(encoding, 64, 48))
    for seq, events in enumerate((random_events(1, 500, start_us=9_000_000), random_events(2, 300))):
        for each in Packetizer(encoding, 64, 48).packets(events, S):
            moments.add_packet(replace(each, seq=1000 - 100 * seq), lambda first_ns: 0)
    assert moments.dropped['time_back'] == 500
    assert moments.voxel_grid(S)[1] == 300 and moments.voxel_grid(10 * S)[1] == 0


def test_moments_follow_a_rollover():
    events = random_events(3, 3000, start_us=(1 << 24) - 500_000)
    packets = list(Packetizer('evt3', 64, 48).packets(events, 10 * MS))
    slicing = Slicing(S, S, 5)
    assert_windows_equal(moments_of(packets, slicing), decoded(packets), slicing)


def test_moments_follow_an_offset_that_moves():
    """Each packet by the offset it comes with; nothing is lost or used twice where the offset moves."""
    events = random_events(4, 4000)
    packets = list(Packetizer('evt3', 64, 48).packets(events, 10 * MS))
    decoder = make_decoder('evt3', 64, 48)
    moments = WindowMoments(Slicing(S, S, 5, (0, 125 * MS)), SHAPE, keep_ns=1 << 60, max_bytes=1 << 24)
    moments.use(make_decoder('evt3', 64, 48))
    parts = []
    for number, each in enumerate(packets):
        offset_ns = 5 * S - number % 7 * 3 * MS
        part = decoder.decode(each)
        parts.append(Events(part.t_ns + offset_ns, part.x, part.y, part.p, 64, 48))
        moments.add_packet(each, lambda first_ns: offset_ns)
    mapped = join_events(parts)
    for end_ns in (5 * S, 6 * S, 6 * S - 125 * MS, 7 * S):
        grid, count = moments.voxel_grid(end_ns)
        assert count == np.count_nonzero((mapped.t_ns > end_ns - S) & (mapped.t_ns <= end_ns))
        wanted = voxel_grid(mapped, end_ns - S, end_ns, bins=5, shape=SHAPE)
        np.testing.assert_allclose(grid, wanted, rtol=1e-4, atol=1e-3)
    assert moments.dropped['late'] == 0                         # late is a matter of the sensor's clock


def test_moments_keep_to_their_bytes_and_forget_the_oldest():
    events = random_events(2, 5000)
    slicing = Slicing(100 * MS, 100 * MS, 1)
    moments = WindowMoments(slicing, SHAPE, keep_ns=1 << 60, max_bytes=3 * 24 * 9 * 11)
    moments.use(make_decoder('evt3', 64, 48))
    for each in Packetizer('evt3', 64, 48).packets(events, 10 * MS):
        moments.add_packet(each, lambda first_ns: 0)
        assert moments.nbytes <= 4 * 24 * 9 * 11                # and one array to spare
    counts = [moments.voxel_grid(end_ns)[1] for end_ns in range(100 * MS, S + 1, 100 * MS)]
    assert counts[:7] == [0] * 7 and all(counts[7:])
    assert moments.dropped['bytes'] + sum(counts) == len(events)


def test_moments_let_what_is_old_go():
    moments = moments_of(list(Packetizer('evt3', 64, 48).packets(random_events(2, 5000), 10 * MS)),
                         Slicing(100 * MS, 100 * MS, 1), keep_ns=200 * MS)
    kept = sum(moments.voxel_grid(end_ns)[1] for end_ns in range(100 * MS, S + 1, 100 * MS))
    assert moments.dropped['expired'] + kept == 5000 and moments.voxel_grid(700 * MS)[1] == 0
    assert moments.voxel_grid(900 * MS)[1] > 0


def test_moments_of_another_sensor_begin_anew():
    moments = moments_of([packet(words(0x8001, 0x6000, 0x2001))], Slicing(S, S, 5))
    moments.use(make_decoder('mono', 4, 4))
    assert moments.dropped['size_change'] == 1 and moments.voxel_grid(S)[1] == 0


@pytest.mark.parametrize('do, word', [
    pytest.param(lambda: WindowMoments(Slicing(S, S, 5), (0, 3), keep_ns=S, max_bytes=1), 'shape', id='shape'),
    pytest.param(lambda: moments_of([packet(words(0x2001))], Slicing(S, S, 5)).voxel_grid(S + 1), 'end_ns', id='end'),
    pytest.param(lambda: WindowMoments(Slicing(S, S, 5), SHAPE, keep_ns=S, max_bytes=1).add_packet(
        packet(words(0x2001)), int), 'use', id='no decoder')])
def test_moments_refuse(do, word):
    with pytest.raises(CrossSpecError, match=word):
        do()


@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
@pytest.mark.parametrize('bins, leads_ms', [(5, (0,)), (5, (0, 125)), (4, (0, 50))])
def test_activity_of_a_slot_is_that_of_its_events(encoding, bins, leads_ms):
    slicing = Slicing(125 * MS, S, bins, tuple(lead * MS for lead in leads_ms))
    events = random_events(7, 4000, span_us=500_000)
    packer = Packetizer(encoding, events.width, events.height)
    moments = moments_of([packer.packet(events, int(events.t_ns[0]))], slicing)
    for slot in range(1, 5):
        start_ns, end_ns = (slot - 1) * 125 * MS, slot * 125 * MS
        expected = activity_map(voxel_grid(events, start_ns, end_ns, bins=2, shape=SHAPE))
        assert expected.sum() > 100
        np.testing.assert_allclose(moments.activity(start_ns, end_ns), expected, rtol=1e-4, atol=1e-2)
