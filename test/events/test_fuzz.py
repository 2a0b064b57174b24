"""Any bytes at all as a packet: never an exception, never an event outside the sensor, bounded output, counted by
cause.
"""
from dataclasses import replace

import numpy as np
import pytest
from event_streams import RECORDINGS, packet, recording
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossspec_ros.events.buffer import EventBuffer
from crossspec_ros.events.decode import CAUSES, ENCODINGS, Decoder, make_decoder
from crossspec_ros.events.moments import WindowMoments
from crossspec_ros.events.slices import Slicing
from crossspec_ros.events.types import Events, Packet

WIDTH, HEIGHT = 64, 48
QUICK, LONG = 20_000, 200_000
_BYTES_PER_RECORD = {'evt3': 2, 'libcaer_cmp': 2, 'mono': 8, 'trigger': 8, 'libcaer': 8}
_MOST_PER_RECORD = {'evt3': 12, 'libcaer_cmp': 8, 'mono': 1, 'trigger': 0, 'libcaer': 1}


def check(decoder: Decoder, fuzzed: Packet) -> Events:
    """Decode one packet and look at everything that must hold whatever its bytes are."""
    before = sum(decoder.dropped.values())
    triggers = decoder.trigger_count
    events = decoder.decode(fuzzed)
    records = len(fuzzed.payload) // _BYTES_PER_RECORD[decoder.encoding]
    assert len(events) <= records * _MOST_PER_RECORD[decoder.encoding]
    assert len({len(events), len(events.t_ns), len(events.x), len(events.y), len(events.p)}) == 1
    if len(events):
        assert events.x.max() < decoder.width and events.y.max() < decoder.height
        assert events.p.max() <= 1 and events.t_ns.min() >= 0
    refused = fuzzed.encoding != decoder.encoding or (fuzzed.width, fuzzed.height) != (decoder.width, decoder.height)
    assert set(decoder.dropped) == set(CAUSES)
    if refused:
        assert len(events) == 0 and sum(decoder.dropped.values()) == before + 1
    if decoder.encoding in ('mono', 'libcaer') and not refused and len(events) < records:
        assert sum(decoder.dropped.values()) > before
    assert decoder.trigger_count - triggers <= records and len(decoder.triggers) <= 100_000
    return events


def mutated(rng: np.random.Generator, real: Packet) -> Packet:
    """A real packet cut, flipped, spliced, mislabelled."""
    payload = real.payload[:int(rng.integers(0, min(len(real.payload), 400) + 1))].copy()
    for _ in range(int(rng.integers(0, 6))):
        if len(payload):
            payload[rng.integers(0, len(payload))] ^= np.uint8(1 << int(rng.integers(0, 8)))
    if rng.random() < 0.2:
        payload = np.concatenate([payload, rng.integers(0, 256, int(rng.integers(0, 50)), np.uint8)])
    changed = replace(real, payload=payload, seq=int(rng.integers(0, 1 << 20)), stamp_ns=int(rng.integers(0, 1 << 40)))
    which = rng.integers(0, 40)
    if which == 0:
        return replace(changed, width=int(rng.choice([0, 1, 1 << 31])))
    if which == 1:
        return replace(changed, encoding=str(rng.choice([*ENCODINGS, '', 'evt2'])))
    if which == 2:
        return replace(changed, is_bigendian=True)
    if which == 3:
        return replace(changed, time_base_ns=int(rng.choice([0, 1 << 61, (1 << 64) - 1])))
    return changed


def some_moments(encoding: str, width: int, height: int) -> WindowMoments:
    """Of windows of 10 ms."""
    moments = WindowMoments(Slicing(10_000_000, 10_000_000, 5, (0, 1_250_000)), (6, 8), keep_ns=20_000_000,
                            max_bytes=24 * 48 * 20)
    moments.use(make_decoder(encoding, width, height))
    return moments


def check_moments(moments: WindowMoments, fuzzed: Packet, events: int) -> None:
    """The packet's events are all there, none of them twice, and memory is bounded."""
    assert moments.add_packet(fuzzed, lambda first_ns: 0) == events
    assert moments.nbytes <= 24 * 48 * 20 + 8 * 48 * 32
    newest_ns = moments.newest_ns
    if events:
        grid, used = moments.voxel_grid(-(-newest_ns // 10_000_000) * 10_000_000)
        assert used >= 1 and np.isfinite(grid).all() and np.abs(grid).sum() <= 1.001 * used


def run_random(seed: int, count: int) -> None:
    """Random bytes, every encoding; one decoder a few hundred packets, so that states of all kinds meet."""
    rng = np.random.default_rng(seed)
    for _ in range(count // 400):
        encoding = str(rng.choice(ENCODINGS))
        decoder = make_decoder(encoding, WIDTH, HEIGHT)
        moments = some_moments(encoding, WIDTH, HEIGHT)
        for seq in range(400):
            payload = rng.integers(0, 256, int(rng.integers(0, 120)), np.uint8)
            fuzzed = packet(payload, encoding, seq=seq, time_base_ns=seq * 1000)
            check_moments(moments, fuzzed, len(check(decoder, fuzzed)))


def run_mutated(seed: int, count: int, name: str) -> None:
    """Mutated packets of a recording, and what they give put through a buffer with bounds."""
    rng = np.random.default_rng(seed)
    packets = recording(name)
    decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
    buffer = EventBuffer(1 << 18, 1_000_000_000)
    moments = some_moments(decoder.encoding, decoder.width, decoder.height)
    for _ in range(count):
        fuzzed = mutated(rng, packets[int(rng.integers(0, len(packets)))])
        events = check(decoder, fuzzed)
        buffer.append(events)
        check_moments(moments, fuzzed, len(events))
        assert buffer.nbytes <= 1 << 18
    kept = buffer.cut(-1, 1 << 62)
    assert len(kept) == len(buffer) and not np.any(np.diff(kept.t_ns) < 0)


def test_decode_random_bytes():
    run_random(1, QUICK // 2)


@pytest.mark.parametrize('name', RECORDINGS)
def test_decode_mutated_recordings(name):
    run_mutated(2, QUICK // 6, name)


@pytest.mark.long
def test_decode_random_bytes_at_length():
    run_random(3, LONG // 2)


@pytest.mark.long
@pytest.mark.parametrize('name', RECORDINGS)
def test_decode_mutated_recordings_at_length(name):
    run_mutated(4, LONG // 6, name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ENCODINGS), st.lists(st.tuples(
    st.binary(max_size=80), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 62),
    st.sampled_from([WIDTH, 0, 1 << 31]), st.booleans(), st.sampled_from([None, 'evt3', 'noise'])), max_size=8))
def test_decode_any_packets(encoding, fields):
    decoder = make_decoder(encoding, WIDTH, HEIGHT)
    for data, seq, time_base_ns, stamp_ns, width, bigendian, label in fields:
        check(decoder, Packet(label or encoding, width, HEIGHT, seq, time_base_ns, stamp_ns,
                              np.frombuffer(data, np.uint8), bigendian))
