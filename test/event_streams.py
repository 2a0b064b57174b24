"""Events for tests: seeded random streams, hypothesis strategies, packets of the real recordings."""
from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
from hypothesis import strategies as st
from shared_data import shared

from crossspec_ros.events.decode import join_events, make_decoder
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Events, Packet

RECORDINGS = ('evt3_trigger', 'mono_cd', 'libcaer_rollover')


def random_events(seed: int, count: int, *, width: int = 64, height: int = 48, start_us: int = 0,
                  span_us: int = 1_000_000) -> Events:
    """Sorted events in whole microseconds, with runs of neighbours that make vector words."""
    rng = np.random.default_rng(seed)
    run = int(rng.integers(1, 9))
    starts = -(-count // run)
    t_us, rows, columns, signs = (np.repeat(values, run)[:count] for values in (
        np.sort(rng.integers(start_us, start_us + span_us, starts)), rng.integers(0, height, starts),
        rng.integers(0, width, starts), rng.integers(0, 2, starts)))
    columns = (columns + np.arange(count) % run) % width
    return Events(t_us * 1000, columns.astype(np.uint16), rows.astype(np.uint16), signs.astype(np.uint8), width, height)


def packets_and_events(encoding: str, width: int, height: int, *, host_ns: int, seconds: int = 4, rate: int = 2000
                       ) -> tuple[list[Packet], Events]:
    """Packets of 10 ms, each stamped by the host with the time of its first event, and all events on the host's clock.

    ``host_ns`` is the host's time when the sensor's was 0.
    """
    rng = np.random.default_rng(7)
    count = seconds * rate
    t_ns = np.sort(rng.integers(1, seconds * 1_000_000, count)) * 1000
    events = Events(t_ns, rng.integers(0, width, count).astype(np.uint16),
                    rng.integers(0, height, count).astype(np.uint16),
                    rng.integers(0, 2, count).astype(np.uint8), width, height)
    decoder, packets, decoded = make_decoder(encoding, width, height), [], []
    for each in Packetizer(encoding, width, height).packets(events, 10_000_000):
        decoded.append(decoder.decode(each))
        packets.append(replace(each, stamp_ns=host_ns + int(decoded[-1].t_ns[0])))
    whole = join_events(decoded)
    assert len(whole) == count
    return packets, Events(whole.t_ns + host_ns, whole.x, whole.y, whole.p, width, height)


@st.composite
def event_streams(draw: st.DrawFn, *, width: int = 40, height: int = 30, max_size: int = 60) -> Events:
    """Events sorted by time in whole microseconds: few rows and columns, so that runs, ties and vector words are
    frequent.
    """
    steps = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 5000), st.integers(0, 40_000_000))
    rows = draw(
        st.lists(
            st.tuples(
                steps, st.integers(0, width - 1), st.integers(0, height - 1), st.booleans(), st.integers(1, 15)
            ),
            max_size=max_size,
        )
    )
    t_us, x, y, p = [], [], [], []
    now = 0
    for step, first_x, row, sign, run in rows:
        now += step
        for lane in range(run):
            if first_x + lane < width:
                t_us.append(now)
                x.append(first_x + lane)
                y.append(row)
                p.append(sign)
    return Events(
        np.array(t_us, np.int64) * 1000,
        np.array(x, np.uint16),
        np.array(y, np.uint16),
        np.array(p, np.uint8),
        width,
        height,
    )


def packet(payload: np.ndarray, encoding: str = 'evt3', **changes: object) -> Packet:
    """A packet of a 64x48 sensor."""
    return replace(Packet(encoding, 64, 48, 0, 0, 0, payload), **changes)


def words(*values: int) -> np.ndarray:
    """evt3 words as a payload."""
    return np.array(values, '<u2').view(np.uint8)


@lru_cache(maxsize=None)
def recording(name: str) -> tuple[Packet, ...]:
    """Packets of a real recording, in order; skips where it is absent."""
    from crossspec_ros.recordings.bag import BagReader
    with_events = (message.data for message in BagReader(shared(f'events/{name}')))
    return tuple(data for data in with_events if isinstance(data, Packet))


def expected(name: str) -> dict:
    """What the C++ reference decoder gives for a recording."""
    return json.loads(shared('events/expected.json').read_text())[name]


def assert_same_events(got: Events, wanted: Events) -> None:
    """Equal event by event."""
    for field in ('t_ns', 'x', 'y', 'p'):
        np.testing.assert_array_equal(getattr(got, field), getattr(wanted, field), err_msg=field)
