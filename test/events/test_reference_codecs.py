"""Random streams of every encoding become the same events as in event_camera_codecs, where a host has its binding."""
import numpy as np
import pytest
from event_streams import packet

from crossspec_ros.events.decode import make_decoder

reference = pytest.importorskip('event_camera_py', reason='event_camera_py is not installed')

WIDTH, HEIGHT = 1280, 720
BASE_NS = 1_702_669_729_854_452_000


def evt3(rng: np.random.Generator, count: int, turn: int) -> np.ndarray:
    """Words in any order, events outside the sensor and rollovers of the time among them; malformed ones end a packet
    for the reference and are left out.
    """
    codes = {0: .15, 2: .25, 3: .08, 4: .1, 5: .1, 6: .15, 7: .03, 8: .07, 10: .02, 14: .03, 15: .02}
    code = rng.choice(list(codes), count, p=list(codes.values()))
    value = rng.integers(0, 4096, count)
    value[code == 0] %= 760
    for addressed in (2, 3):
        value[code == addressed] = rng.integers(0, 1300, np.count_nonzero(code == addressed)) | (
            rng.integers(0, 2, np.count_nonzero(code == addressed)) << 11)
    value[code == 8] = (4000 + 40 * turn + np.cumsum(code == 8)[code == 8] // 3) % 4096
    return (code << 12 | value).astype(np.uint16)


def mono(rng: np.random.Generator, count: int, turn: int) -> np.ndarray:
    t, x, y, p = (values.astype(np.uint64) for values in (
        np.sort(rng.integers(0, 10_000_000, count)), rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count),
        rng.integers(0, 2, count)))
    return t | x << np.uint64(32) | y << np.uint64(48) | p << np.uint64(63)


def libcaer(rng: np.random.Generator, count: int, turn: int) -> np.ndarray:
    """The reference also gives events that are not valid or outside the sensor: there are none. The time wraps."""
    tick = (np.sort(rng.integers(0, 10_000, count)) + 2 ** 31 - 5_000) % 2 ** 31
    x, y, p = rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count), rng.integers(0, 2, count)
    return np.stack([1 | p << 1 | y << 2 | x << 17, tick], 1).astype(np.uint32).reshape(-1)


def libcaer_cmp(rng: np.random.Generator, count: int, turn: int) -> np.ndarray:
    code = rng.choice(7, count, p=[.05, .2, .2, .2, .2, .1, .05])
    value = rng.integers(0, 4096, count)
    value[code == 0] %= 4
    value[code == 2] %= 1300
    value[code == 4] = value[code == 4] % 730 | value[code == 4] & 0x800
    return (code << 12 | value).astype(np.uint16)


@pytest.mark.parametrize('make, unit_ns', [(evt3, 1000), (mono, 1), (libcaer, 1), (libcaer_cmp, 1000)])
def test_random_streams_are_decoded_as_by_the_reference(make, unit_ns):
    rng = np.random.default_rng(7)
    encoding = make.__name__
    ours, theirs = make_decoder(encoding, WIDTH, HEIGHT), reference.Decoder()
    base_ns = 0 if encoding == 'evt3' else BASE_NS
    offset = seen = 0
    for turn in range(300):
        payload = make(rng, int(rng.integers(1, 2000)), turn).view(np.uint8)
        base_ns += 20_000_000 if base_ns else 0
        events = ours.decode(packet(payload, encoding, width=WIDTH, height=HEIGHT, seq=turn, time_base_ns=base_ns))
        theirs.decode_bytes(encoding, WIDTH, HEIGHT, base_ns, payload.tobytes())
        expected = theirs.get_cd_events()
        assert len(events) == (0 if expected is None else len(expected))
        if not len(events):
            continue
        for name in 'xyp':
            assert np.array_equal(getattr(events, name), expected[name])
        t = events.t_ns // unit_ns - expected['t']              # its column has 32 bits, or begins with the stream
        offset = offset if seen else int(t[0])
        assert not np.any((t - offset) % 2 ** 32)
        seen += len(events)
    assert seen > 10_000
    assert encoding != 'evt3' or ours.trigger_count > 1000
