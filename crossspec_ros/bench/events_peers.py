"""What `crossspec bench events` compares with: plain numpy, and the decoders of other packages where they are
installed.
"""
from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from crossspec_ros.events.types import Events

logger = logging.getLogger(__name__)

_ROLLOVER_US = 1 << 24


def decode_evt3_numpy(words: np.ndarray, width: int, height: int) -> Events:
    """evt3 words, uint16 (N,), that begin with their time: whole-array numpy, no state carried, no noise of
    TIME_HIGH.
    """
    code, low12 = words >> 12, words & 0xFFF
    index = np.arange(len(words))

    def held(mask: np.ndarray) -> np.ndarray:
        """Index of the newest word of a kind at each word."""
        return np.maximum.accumulate(np.where(mask, index, 0))

    high = low12[held(code == 8)].astype(np.int64)
    turns = np.cumsum(np.diff(high, prepend=high[0]) < -10)
    t_us = (high << 12) + low12[held(code == 6)] + turns * _ROLLOVER_US
    y = words[held(code == 0)] & 0x7FF
    lanes = np.where(code == 4, 12, np.where(code == 5, 8, 0))
    at_base = held(code == 3)
    before = np.cumsum(lanes) - lanes
    base = (words[at_base] & 0x7FF).astype(np.int64) + before - before[at_base]
    bits = np.where(code == 2, 1, np.where(lanes == 12, low12, np.where(lanes == 8, words & 0xFF, 0)))
    useful = np.flatnonzero(bits)
    word, lane = np.nonzero((bits[useful, None] >> np.arange(12)) & 1)
    word = useful[word]
    one = code[word] == 2
    x = np.where(one, words[word] & 0x7FF, base[word] + lane)
    p = np.where(one, words[word] >> 11, words[at_base[word]] >> 11) & 1
    inside = (x < width) & (y[word] < height)
    return Events(t_us[word][inside] * 1000, x[inside].astype(np.uint16), y[word][inside], p[inside].astype(np.uint8),
                  width, height)


def histogram_numpy(events: Events, shape: tuple[int, int]) -> np.ndarray:
    """float32 (2, H, W) with bincount."""
    height, width = shape
    cell = _cells(events, shape) + events.p.astype(np.int64) * (height * width)
    return np.bincount(cell, minlength=2 * height * width).astype(np.float32).reshape(2, height, width)


def voxel_grid_numpy(events: Events, start_ns: int, end_ns: int, bins: int, shape: tuple[int, int]) -> np.ndarray:
    """float32 (B, H, W) with bincount."""
    height, width = shape
    plane = height * width
    position = (events.t_ns - start_ns) * ((bins - 1) / (end_ns - start_ns))
    lower = np.minimum(position.astype(np.int64), bins - 1)
    share = position - lower
    sign = np.where(events.p, 1.0, -1.0)
    cell = lower * plane + _cells(events, shape)
    # One plane more takes the share of 0 that the last bin would give to the next.
    grid = np.bincount(cell, sign * (1.0 - share), (bins + 1) * plane) + np.bincount(
        cell + plane, sign * share, (bins + 1) * plane
    )
    return grid[:bins * plane].astype(np.float32).reshape(bins, height, width)


def _cells(events: Events, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    rows = events.y.astype(np.int64) * height // events.height
    return rows * width + events.x.astype(np.int64) * width // events.width


def raw_file(words: np.ndarray, width: int, height: int) -> bytes:
    """The words as the camera maker's RAW file."""
    header = f'% evt 3.0\n% format EVT3;height={height};width={width}\n% geometry {width}x{height}\n% end\n'
    return header.encode() + words.tobytes()


def installed_peers(payloads: Sequence[np.ndarray], width: int, height: int) -> dict[str, Callable[[], int]]:
    """Decoders of other packages, by name and version: each decodes all words once and returns the number of events.

    ``payloads`` are those of a stream's packets, uint8 (B,) each; a name that ends in 'packets' gets them one by one.
    """
    raw = raw_file(np.concatenate(payloads).view(np.uint16), width, height)
    peers: dict[str, Callable[[], int]] = {}
    makers: dict[str, Callable[[], dict[str, Callable[[], int]]]] = {
        'evutils': lambda: {'': _evutils(raw)},
        'faery': lambda: {'': _faery(raw, width, height)},
        'evt3': lambda: _evt3(payloads, width, height),
    }
    for package, make in makers.items():
        try:
            peers |= {f'{package} {metadata.version(package)}{way}': run for way, run in make().items()}
        except ImportError:
            logger.info('%s is not installed here: not compared', package)
        except (AttributeError, TypeError, ValueError, OSError) as error:
            logger.warning('%s cannot be compared, its interface has changed: %s', package, error)
    return peers


def _evt3(payloads: Sequence[np.ndarray], width: int, height: int) -> dict[str, Callable[[], int]]:
    import evt3
    packets = [payload.tobytes() for payload in payloads]
    whole = b''.join(packets)

    def one_by_one() -> int:
        decoder = evt3.Decoder(width, height)
        count = sum(len(decoder.feed(packet)) for packet in packets)
        decoder.finish()
        return count

    return {'': lambda: len(evt3.decode_bytes(whole, width, height)), ' packets': one_by_one}


def _evutils(raw: bytes) -> Callable[[], int]:
    from evutils.io._evt import EventDecoder_EVT
    from evutils.io._source import BufferSource
    decoder = EventDecoder_EVT(BufferSource(raw))
    decoder.init()

    def run() -> int:
        decoder.reset()
        return len(decoder.read_all())

    return run


def _faery(raw: bytes, width: int, height: int) -> Callable[[], int]:
    from faery.extension import evt
    folder = tempfile.TemporaryDirectory(prefix='crossspec-bench-')
    path = Path(folder.name) / 'events.raw'
    path.write_bytes(raw)

    def run() -> int:
        count = 0
        # The folder lives as long as this function: its file is in the page cache, so reading it is a copy.
        with evt.Decoder(path, (width, height), 'evt3') as decoder:
            for packet in decoder:
                count += len(packet['events']) if 'events' in packet else 0
        assert folder.name, 'the file is still there'
        return count

    return run
