"""The binding's decoder gives the same events: with the real event_camera_py where it can be imported, and always with
a stand-in of its interface, which can be told to misbehave.
"""
import sys
import types

import numpy as np
import pytest
from event_streams import assert_same_events, packet, recording, words

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.binding import BindingDecoder
from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Events


class StandIn:
    """Interface of event_camera_py.Decoder: int32 us that wrap, an exception at malformed words."""

    shift_us = 0

    def decode_bytes(self, encoding: str, width: int, height: int, time_base: int, data: bytes) -> None:
        if not hasattr(self, '_decoder'):
            self._decoder = make_decoder(encoding, width, height)
            self._seq = self._known = 0
        before = self._decoder.dropped['malformed_words']
        self._events = self._decoder.decode(
            packet(np.frombuffer(data, np.uint8), encoding, width=width, height=height, seq=self._seq)
        )
        self._seq += 1
        if self._decoder.dropped['malformed_words'] > before:
            raise RuntimeError('got unsupported code!')

    def _wrap(self, t_ns: np.ndarray) -> np.ndarray:
        return (np.asarray(t_ns, np.int64) // 1000 + self.shift_us).astype(np.uint32).view(np.int32)

    def get_cd_events(self) -> np.ndarray:
        out = np.empty(len(self._events), [('x', 'u2'), ('y', 'u2'), ('p', 'i2'), ('t', 'i4')])
        out['t'] = self._wrap(self._events.t_ns)
        for name in 'xyp':
            out[name] = getattr(self._events, name)
        return out

    def get_ext_trig_events(self) -> np.ndarray:
        new = self._decoder.triggers[self._known:]
        self._known += len(new)
        out = np.empty(len(new), [('p', 'i2'), ('t', 'i4'), ('id', 'i2')])
        if new:
            t_ns, out['p'], out['id'] = zip(*new)
            out['t'] = self._wrap(np.array(t_ns))
        return out


@pytest.fixture
def binding(monkeypatch):
    monkeypatch.setitem(sys.modules, 'event_camera_py', types.SimpleNamespace(Decoder=StandIn))


@pytest.fixture(params=['stand_in', 'installed'])
def either(request):
    """The stand-in, or event_camera_py itself where the host has it."""
    if request.param == 'installed':
        return pytest.importorskip('event_camera_py', reason='event_camera_py is not installed')
    return request.getfixturevalue('binding')


def test_binding_gives_the_same_events_and_triggers(either):
    packets = recording('evt3_trigger')
    ours, theirs = make_decoder('evt3', 1280, 720), make_decoder('evt3', 1280, 720, backend='event_camera_py')
    assert isinstance(theirs, BindingDecoder)
    for each in packets:
        assert_same_events(theirs.decode(each), ours.decode(each))
    assert theirs.triggers == ours.triggers and theirs.dropped == ours.dropped


def test_binding_unwraps_times_after_35_minutes(binding, monkeypatch):
    monkeypatch.setattr(StandIn, 'shift_us', (1 << 31) - 1_000_000)
    decoder = BindingDecoder('evt3', 64, 48)
    for second in range(0, 16, 2):
        t_us = second * 1_000_000
        stream = words(0x8000 | t_us >> 12, 0x6000 | t_us & 0xFFF, 0x2001)
        assert decoder.decode(packet(stream, seq=second // 2, stamp_ns=second)).t_ns.tolist() == [
            (StandIn.shift_us + t_us) * 1000
        ]


@pytest.mark.parametrize('seed', range(4))
def test_binding_gives_the_same_synthetic_events(either, seed):
    generator = np.random.default_rng(seed)
    count = 20_000
    events = Events(np.sort(generator.integers(0, 40_000_000, count)) * 1000,
                    generator.integers(0, 640, count, np.uint16),
                    generator.integers(0, 480, count, np.uint16), generator.integers(0, 2, count, np.uint8), 640, 480)
    decoder, camera = BindingDecoder('evt3', 640, 480), Packetizer('evt3', 640, 480)
    parts = [decoder.decode(camera.packet(events.part(start, start + 500), start)) for start in range(0, count, 500)]
    assert_same_events(join_events(parts), events)


def test_binding_uses_what_comes_before_a_malformed_word(binding):
    decoder = BindingDecoder('evt3', 64, 48)
    assert len(decoder.decode(packet(words(0x8001, 0x6001, 0x2001, 0x1000)))) == 1
    assert decoder.dropped['malformed_words'] == 1


def test_binding_says_what_to_do_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'event_camera_py', None)
    with pytest.raises(CrossSpecError, match='install ros-'):
        BindingDecoder('evt3', 64, 48)


def test_binding_refuses_encodings_whose_times_it_cuts(binding):
    with pytest.raises(CrossSpecError, match='evt3'):
        BindingDecoder('libcaer', 64, 48)
