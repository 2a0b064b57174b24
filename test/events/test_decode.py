"""Decoders against the figures of the C++ reference decoder, and against hand-made words."""
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from event_streams import RECORDINGS, assert_same_events, expected, packet, recording, words

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import FOREVER_NS, Decoder, Trigger, join_events, make_decoder
from crossspec_ros.events.types import Events

HIGH, LOW = 0x8000, 0x6000
TIME = (HIGH | 1, LOW | 2)                       # 4098 us
T_NS = 4098_000


def decode_all(name: str) -> tuple[Events, Decoder]:
    packets = recording(name)
    decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
    return join_events([decoder.decode(each) for each in packets]), decoder


def sums(events: Events) -> dict[str, int]:
    return {'sum_t': int(events.t_ns.astype(np.uint64).sum()), 'sum_x': int(events.x.sum(dtype=np.int64)),
            'sum_y': int(events.y.sum(dtype=np.int64)), 'sum_p': int(events.p.sum(dtype=np.int64))}


@pytest.mark.parametrize('name', RECORDINGS)
def test_decode_equals_reference_on_recording(name):
    events, decoder = decode_all(name)
    wanted = expected(name)
    assert len(events) == wanted['n']
    assert sums(events) == {key: wanted[key] for key in ('sum_t', 'sum_x', 'sum_y', 'sum_p')}
    assert (int(events.t_ns[0]), int(events.t_ns[-1])) == (wanted['t_first_ns'], wanted['t_last_ns'])
    assert (int(events.x.min()), int(events.x.max())) == (wanted['xmin'], wanted['xmax'])
    assert (int(events.y.min()), int(events.y.max())) == (wanted['ymin'], wanted['ymax'])
    record = np.empty(len(events), [('t', '<i8'), ('x', '<u2'), ('y', '<u2'), ('p', 'u1')])
    record['t'] = events.t_ns // (1000 if wanted['sha_t_unit'] == 'us' else 1)
    record['x'], record['y'], record['p'] = events.x, events.y, events.p
    assert hashlib.sha256(record.tobytes()).hexdigest() == wanted['sha256_events']
    triggers = wanted.get('triggers', {'list_t_us_edge_id': []})['list_t_us_edge_id']
    assert decoder.triggers == [Trigger(t_us * 1000, edge, trigger_id) for t_us, edge, trigger_id in triggers]
    assert not any(decoder.dropped.values())


@pytest.mark.parametrize('name', RECORDINGS)
def test_decode_until_equals_reference_and_goes_on(name):
    packets, wanted = recording(name), expected(name)
    for case in wanted['decode_until']:
        decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
        for each in packets:
            decoder.feed(each)
        events = decoder.decode_until(case['until_ns'])
        assert sums(events) == {key: case.get(key, 0) for key in ('sum_t', 'sum_x', 'sum_y', 'sum_p')}
        assert len(events) == case.get('n', len(events))
        if 'last_t_ns' in case:
            assert int(events.t_ns[-1]) == case['last_t_ns']
        rest = decoder.decode_until(FOREVER_NS)
        assert len(events) + len(rest) == wanted['n']
        assert int(rest.t_ns.min()) >= case['until_ns']


def test_decode_leaves_earlier_events_alone():
    packets = recording('libcaer_rollover')
    decoder = make_decoder('libcaer', 640, 480)
    first = decoder.decode(packets[0])
    copy = Events(first.t_ns.copy(), first.x.copy(), first.y.copy(), first.p.copy(), 640, 480)
    for each in packets[1:]:
        decoder.decode(each)
    assert_same_events(first, copy)


@pytest.mark.parametrize(
    'stream, wanted',
    [
        pytest.param((0x2005, *TIME, 0x0003, 0x2807), [(T_NS, 7, 3, 1)], id='cold start drops what has no time'),
        pytest.param(
            (LOW | 9, 0x2005, HIGH | 1, 0x2006, LOW | 2, 0x2007), [(T_NS, 7, 0, 0)], id='TIME_LOW alone is no time'
        ),
        pytest.param(
            (*TIME, 3, 0x3805, 0x4801, 0x5003),
            [(T_NS, 5, 3, 1), (T_NS, 16, 3, 1), (T_NS, 17, 3, 1), (T_NS, 18, 3, 1)],
            id='vector words move the base',
        ),
        pytest.param(
            (HIGH | 4095, LOW, 0x2001, HIGH | 0, LOW, 0x2002),
            [(4095 * 4096_000, 1, 0, 0), (4096 * 4096_000, 2, 0, 0)],
            id='rollover',
        ),
        pytest.param(
            (HIGH | 100, LOW, 0x2001, HIGH | 90, LOW, 0x2002),
            [(409_600_000, 1, 0, 0), (368_640_000, 2, 0, 0)],
            id='a fall of ten is noise',
        ),
        pytest.param(
            (HIGH | 100, LOW, HIGH | 89, LOW, 0x2002),
            [((89 << 12 | 1 << 24) * 1000, 2, 0, 0)],
            id='a fall of eleven rolls over',
        ),
        pytest.param(
            (*TIME, 0x7FFF, 0xEFFF, 0xF123, 0x2001), [(T_NS, 1, 0, 0)], id='continuations and others are skipped'
        ),
        pytest.param((*TIME, 0x0803, 0x2001), [(T_NS, 1, 3, 0)], id='system type is not part of y'),
    ],
)
def test_decode_evt3_words(stream, wanted):
    events = make_decoder('evt3', 64, 48).decode(packet(words(*stream)))
    assert list(zip(events.t_ns.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist())) == wanted


def test_decode_evt3_keeps_state_across_any_cut():
    stream = words(*TIME, 3, 0x3805, 0x4801, 0x4003, HIGH | 2, LOW | 1, 0x2001, 0x0004, 0x2802)
    whole = make_decoder('evt3', 64, 48).decode(packet(stream))
    for cut in range(0, len(stream) + 1, 2):
        decoder = make_decoder('evt3', 64, 48)
        parts = [decoder.decode(packet(stream[:cut])), decoder.decode(packet(stream[cut:], seq=1))]
        assert_same_events(join_events(parts), whole)


@pytest.mark.parametrize('stream, cause, count', [
    pytest.param((*TIME, 0x1000, 0x9000, 0xB000, 0xC000, 0xD000), 'malformed_words', 5, id='malformed'),
    pytest.param((*TIME, 0x2000 | 64, 48, 0x2001, 0x303F, 0x4003), 'outside_sensor', 4, id='outside'),
    pytest.param((0x2001, 0x4FFF, 0xA000), 'before_first_time', 3, id='no time yet'),
    pytest.param((HIGH | 5, LOW | 5, 0x2001, LOW | 4, 0x2001), 'time_back', 1, id='time goes back'),
])
def test_decode_evt3_counts_by_cause(stream, cause, count):
    decoder = make_decoder('evt3', 64, 48)
    decoder.decode(packet(words(*stream)))
    assert {key: value for key, value in decoder.dropped.items() if value} == {cause: count}


@pytest.mark.parametrize('changes, cause, events', [
    pytest.param({'seq': 4}, 'lost_packets', 2, id='gap'),
    pytest.param({'seq': 0, 'stamp_ns': 5}, 'seq_repeated', 2, id='publisher without seq'),
    pytest.param({'seq': 0}, 'duplicate_packet', 1, id='duplicate'),
    pytest.param({'seq': 1, 'encoding': 'mono'}, 'wrong_encoding', 1, id='encoding'),
    pytest.param({'seq': 1, 'width': 0}, 'wrong_size', 1, id='zero width'),
    pytest.param({'seq': 1, 'height': 1 << 31}, 'wrong_size', 1, id='huge height'),
    pytest.param({'seq': 1, 'payload': words(0x2001, 0x2002)[:3]}, 'truncated', 2, id='cut inside a word'),
])
def test_decode_counts_wrong_packets(changes, cause, events):
    decoder = make_decoder('evt3', 64, 48)
    first = packet(words(*TIME, 0x2001))
    second = replace(packet(words(0x2001), seq=1), **changes)
    assert len(decoder.decode(first)) + len(decoder.decode(second)) == events
    assert decoder.dropped[cause] == (3 if cause == 'lost_packets' else 1)


def test_decode_starts_over_when_seq_goes_back():
    decoder = make_decoder('evt3', 64, 48)
    decoder.decode(packet(words(HIGH | 4000, LOW, 0x2001), seq=9))
    assert len(decoder.decode(packet(words(0x2001), seq=3))) == 0
    assert decoder.decode(packet(words(*TIME, 0x2001), seq=4)).t_ns.tolist() == [T_NS]
    assert decoder.dropped['seq_back'] == 1


def test_decode_refuses_time_base_beyond_int64():
    decoder = make_decoder('mono', 64, 48)
    assert len(decoder.decode(packet(np.zeros(8, np.uint8), 'mono', time_base_ns=(1 << 64) - 1))) == 0
    assert decoder.dropped['time_base'] == 1


@pytest.mark.parametrize('name', RECORDINGS)
def test_decode_swaps_bigendian_packets(name):
    first = recording(name)[0]
    width = {'evt3': '>u2', 'mono': '>u8', 'libcaer': '>u4'}[first.encoding]
    swapped = replace(
        first, payload=first.payload.view(width.replace('>', '<')).astype(width).view(np.uint8), is_bigendian=True
    )
    wanted = make_decoder(first.encoding, first.width, first.height).decode(first)
    assert_same_events(make_decoder(first.encoding, first.width, first.height).decode(swapped), wanted)


def test_decode_trigger_encoding():
    stream = np.array([7 | 3 << 48 | 1 << 63, 9 | 2 << 48], '<u8').view(np.uint8)
    decoder = make_decoder('trigger', 64, 48)
    assert len(decoder.decode(packet(stream, 'trigger', time_base_ns=100))) == 0
    assert decoder.triggers == [Trigger(107, 1, 3), Trigger(109, 0, 2)]
    assert decoder.trigger_count == 2


def test_decode_libcaer_cmp_words():
    stream = words(0x2005, 0x3803, 0x0001, 0x1002, 0x3004, 0x4802, 0x5005, 0x5001, 0x6000, 0x7000, 0x302F, 0x3030)
    decoder = make_decoder('libcaer_cmp', 64, 48)
    events = decoder.decode(packet(stream, 'libcaer_cmp', time_base_ns=10))
    assert events.t_ns.tolist() == [10] + [10 + T_NS] * 5
    assert events.y.tolist() == [3, 4, 2, 4, 10, 47]
    assert events.p.tolist() == [1, 0, 1, 1, 1, 0]
    assert set(events.x.tolist()) == {5}
    assert {key: value for key, value in decoder.dropped.items() if value} == {
        'malformed_words': 1,
        'outside_sensor': 1,
    }
    later = decoder.decode(packet(words(0x3801), 'libcaer_cmp', seq=1, time_base_ns=10 + 2 * T_NS))
    assert (later.t_ns.tolist(), later.x.tolist()) == ([10 + 2 * T_NS], [5])


def test_decode_libcaer_wraps_and_skips_invalid():
    data = 1 | 1 << 1 | 2 << 2 | 3 << 17
    stream = np.array([data, 0x7FFFFFFF, data, 1, data & ~1, 2, data, 0x80000000], '<u4').view(np.uint8)
    decoder = make_decoder('libcaer', 64, 48)
    events = decoder.decode(packet(stream, 'libcaer', time_base_ns=5))
    assert events.t_ns.tolist() == [5 + 0x7FFFFFFF * 1000, 5 + (1 + (1 << 31)) * 1000]
    assert (events.x.tolist(), events.y.tolist(), events.p.tolist()) == ([3, 3], [2, 2], [1, 1])
    assert (decoder.dropped['invalid_events'], decoder.dropped['malformed_words']) == (1, 1)


def test_decode_grows_where_vectors_fill_the_arrays():
    stream = words(*TIME, *([0x3000, 0x4FFF] * 40_000))
    decoder = make_decoder('evt3', 64, 48)
    before = decoder.decode(packet(words(*TIME, 0x2001)))
    events = decoder.decode(packet(stream, seq=1))
    assert len(events) == 480_000
    assert events.x.reshape(-1, 12).tolist() == [list(range(12))] * 40_000
    assert before.x.tolist() == [1]


@pytest.mark.parametrize('offset', [1, 2, 3])
def test_decode_takes_unaligned_and_read_only_payloads(offset):
    payload = recording('mono_cd')[0].payload
    buffer = np.zeros(len(payload) + offset, np.uint8)
    buffer[offset:] = payload
    unaligned = buffer[offset:]
    unaligned.flags.writeable = False
    wanted = make_decoder('mono', 640, 480).decode(recording('mono_cd')[0])
    assert_same_events(
        make_decoder('mono', 640, 480).decode(replace(recording('mono_cd')[0], payload=unaligned)), wanted
    )


@pytest.mark.parametrize('encoding, width, height, word', [
    pytest.param('evt9', 64, 48, 'encoding', id='encoding'),
    pytest.param('evt3', 0, 48, 'width', id='zero width'),
    pytest.param('mono', 64, 1 << 31, 'height', id='huge height'),
])
def test_make_decoder_refuses(encoding, width, height, word):
    with pytest.raises(CrossSpecError, match=word):
        make_decoder(encoding, width, height)
