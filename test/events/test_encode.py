"""What is encoded decodes to the same events."""
import numpy as np
import pytest
from event_streams import assert_same_events, event_streams, packet, random_events, recording
from hypothesis import given, settings

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.events.encode import Evt3Encoder, Packetizer, encode_evt3, encode_mono
from crossspec_ros.events.types import Events


@settings(max_examples=150, deadline=None)
@given(event_streams())
def test_encode_evt3_decodes_to_the_same(events):
    decoded = make_decoder('evt3', 40, 30).decode(packet(encode_evt3(events), width=40, height=30))
    assert_same_events(decoded, events)


@settings(max_examples=100, deadline=None)
@given(event_streams(), event_streams())
def test_encode_evt3_goes_on_across_packets(first, second):
    last = first.t_ns[-1] if len(first) else 0
    second = Events(second.t_ns + last, second.x, second.y, second.p, 40, 30)
    encoder, decoder = Evt3Encoder(), make_decoder('evt3', 40, 30)
    decoded = [
        decoder.decode(packet(encoder.encode(part), seq=k, width=40, height=30))
        for k, part in enumerate((first, second))
    ]
    assert_same_events(join_events(decoded), join_events([first, second]))


@settings(max_examples=100, deadline=None)
@given(event_streams())
def test_encode_mono_decodes_to_the_same(events):
    short = Events(events.t_ns % (1 << 32), events.x, events.y, events.p, 40, 30)
    decoded = make_decoder('mono', 40, 30).decode(packet(encode_mono(short, 0), 'mono', width=40, height=30))
    assert_same_events(decoded, short)


@pytest.mark.parametrize('name, size', [('evt3_trigger', (1280, 720)), ('libcaer_rollover', (640, 480))])
def test_encode_evt3_round_trips_a_recording(name, size):
    packets = recording(name)
    decoder = make_decoder(packets[0].encoding, *size)
    events = join_events([decoder.decode(each) for each in packets])
    events = Events((events.t_ns - events.t_ns[0]) // 1000 * 1000, events.x, events.y, events.p, *size)
    again = make_decoder('evt3', *size).decode(packet(encode_evt3(events), width=size[0], height=size[1]))
    assert_same_events(again, events)


def test_encode_evt3_uses_vector_words_where_they_pay():
    count = 60
    row = Events(np.full(count, 5000, np.int64), np.arange(count, dtype=np.uint16), np.full(count, 7, np.uint16),
                 np.ones(count, np.uint8), 64, 48)
    # TIME_HIGH, TIME_LOW, ADDR_Y, one base and five vectors of twelve
    assert len(encode_evt3(row)) == 2 * (3 + 1 + 5)


@pytest.mark.parametrize('t_ns, x, word', [
    pytest.param([-1000], [0], 't_ns', id='negative'),
    pytest.param([1 << 62], [0], '12.7 days', id='far ahead'),
    pytest.param([10 ** 9, 0], [0, 0], 'go back', id='back'),
    pytest.param([0], [2048], 'mono', id='twelve bits'),
])
def test_encode_evt3_refuses_what_cannot_be_said(t_ns, x, word):
    events = Events(
        np.array(t_ns, np.int64),
        np.array(x, np.uint16),
        np.zeros(len(x), np.uint16),
        np.zeros(len(x), np.uint8),
        4096,
        48,
    )
    with pytest.raises(CrossSpecError, match=word):
        encode_evt3(events)


def test_encode_mono_refuses_long_packets():
    events = random_events(1, 10, span_us=9_000_000)
    with pytest.raises(CrossSpecError, match='shorter packets'):
        encode_mono(events, int(events.t_ns[-1]) - (1 << 33))


@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
def test_packetizer_makes_a_stream_that_decodes_to_the_same(encoding):
    events = random_events(3, 5000, start_us=49_599_300_523)
    packetizer = Packetizer(encoding, 64, 48, first_seq=7)
    packets = list(packetizer.packets(events, 4_000_000, stamp_offset_ns=11))
    assert [each.seq for each in packets] == list(range(7, 7 + len(packets)))
    assert len(packets) == len(np.unique(events.t_ns // 4_000_000))
    assert packets[0].stamp_ns == events.t_ns[0] + 11
    decoder = make_decoder(encoding, 64, 48)
    assert_same_events(join_events([decoder.decode(each) for each in packets]), events)


def test_packetizer_refuses_an_encoding_that_is_not_written():
    with pytest.raises(CrossSpecError, match='libcaer'):
        Packetizer('libcaer', 64, 48)
