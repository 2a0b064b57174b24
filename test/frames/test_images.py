"""Raw and compressed images of every encoding become the same RGB picture."""
from __future__ import annotations

import array

import cv2
import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames import images

RGB = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
GREY = RGB[:, :, :1]


def _alpha(rgb: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)])


@pytest.mark.parametrize(('encoding', 'pixels', 'expected'), [
    pytest.param('rgb8', RGB, RGB, id='rgb8'),
    pytest.param('bgr8', RGB[..., ::-1], RGB, id='bgr8'),
    pytest.param('8UC3', RGB[..., ::-1], RGB, id='8UC3'),
    pytest.param('rgba8', _alpha(RGB), RGB, id='rgba8'),
    pytest.param('bgra8', _alpha(RGB[..., ::-1]), RGB, id='bgra8'),
    pytest.param('mono8', GREY, np.repeat(GREY, 3, 2), id='mono8'),
])
@pytest.mark.parametrize('padding', [pytest.param(0, id='tight'), pytest.param(5, id='padded')])
def test_decode_image_gives_rgb_whatever_the_order_and_step(encoding, pixels, expected, padding):
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    rgb = images.decode_image(encoding, height, width, rows.shape[1], False, rows.tobytes())
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'rgb16', 'bgr16', 'rgba16'])
@pytest.mark.parametrize('big', [pytest.param(True, id='big'), pytest.param(False, id='little')])
def test_decode_image_of_16_bits_keeps_the_high_byte_in_either_order(encoding, big):
    channels = {'m': 1, '1': 1}.get(encoding[0], 4 if 'a' in encoding else 3)
    values = np.random.default_rng(1).integers(0, 65536, (4, 6, channels)).astype('>u2' if big else '<u2')
    rgb = images.decode_image(encoding, 4, 6, 12 * channels, big, values.tobytes())
    high = (values.astype(np.uint16) >> 8).astype(np.uint8)
    expected = np.repeat(high, 3, 2) if channels == 1 else high[..., 2::-1] if encoding == 'bgr16' else high[..., :3]
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_decode_image_of_a_bayer_mosaic_gives_back_a_flat_colour(pattern, bits):
    colour = {'r': 200, 'g': 120, 'b': 40}
    cell = np.array([colour[letter] for letter in pattern]).reshape(2, 2)
    mosaic = (np.tile(cell, (4, 5)) * (256 if bits == 16 else 1)).astype(f'<u{bits // 8}')
    rgb = images.decode_image(f'bayer_{pattern}{bits}', 8, 10, 10 * bits // 8, False, mosaic.tobytes())
    np.testing.assert_array_equal(rgb, np.broadcast_to(np.array([200, 120, 40]), (8, 10, 3)))


@pytest.mark.parametrize(('encoding', 'order'), [
    pytest.param('yuv422', 'UYVY', id='yuv422'), pytest.param('uyvy', 'UYVY', id='uyvy'),
    pytest.param('yuv422_yuy2', 'YUYV', id='yuv422_yuy2'), pytest.param('yuyv', 'YUYV', id='yuyv')])
def test_decode_image_of_yuv_gives_the_colour_that_went_in(encoding, order):
    y, u, v = 81, 90, 240                                                  # pure red, BT.601 limited range
    values = {'Y': y, 'U': u, 'V': v}
    pairs = np.array([values[letter] for letter in order], np.uint8)
    rgb = images.decode_image(encoding, 2, 4, 8, False, np.tile(pairs, (2, 2)).tobytes())
    assert np.abs(rgb.astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda b: array.array('B', b),
                                  lambda b: np.frombuffer(b, np.uint8)])
def test_decode_image_takes_any_buffer_and_returns_memory_of_its_own(kind):
    data = kind(RGB.tobytes())
    rgb = images.decode_image('rgb8', 6, 8, 24, False, data)
    rgb[:] = 0
    assert bytes(data) == RGB.tobytes()


@pytest.mark.parametrize(('change', 'word'), [
    pytest.param({'encoding': 'rgb9'}, 'encoding', id='unknown_encoding'),
    pytest.param({'encoding': ''}, 'encoding', id='empty_encoding'),
    pytest.param({'height': 0}, 'size', id='no_rows'),
    pytest.param({'width': 0}, 'size', id='no_columns'),
    pytest.param({'width': 2 ** 31}, 'size', id='huge'),
    pytest.param({'step': 23}, 'step', id='short_step'),
    pytest.param({'height': 7}, 'data', id='short_data'),
    pytest.param({'data': b''}, 'data', id='no_data'),
    pytest.param({'encoding': 'bayer_rggb8', 'width': 7}, 'even', id='odd_bayer'),
    pytest.param({'encoding': 'yuv422', 'width': 7}, 'even', id='odd_yuv'),
])
def test_decode_image_refuses_fields_that_do_not_fit(change, word):
    fields = {'encoding': 'rgb8', 'height': 6, 'width': 8, 'step': 24, 'is_bigendian': False, 'data': RGB.tobytes()}
    with pytest.raises(CrossSpecError, match=word):
        images.decode_image(**{**fields, **change})


@pytest.mark.parametrize(('suffix', 'format'), [
    pytest.param('.png', 'png', id='png'), pytest.param('.png', 'rgb8; png compressed bgr8', id='png_of_a_transport'),
    pytest.param('.jpg', 'jpeg', id='jpeg')])
def test_decode_compressed_gives_rgb(suffix, format):
    flat = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    data = cv2.imencode(suffix, flat[..., ::-1])[1].tobytes()
    rgb = images.decode_compressed(format, data)
    assert rgb.shape == flat.shape
    assert np.abs(rgb.astype(int) - flat).max() <= 3
    assert images.picture_size(data) == (24, 16)


@pytest.mark.parametrize(('format', 'data'), [
    pytest.param('jpeg', b'', id='empty'), pytest.param('jpeg', b'\xff\xd8', id='jpeg_begin_only'),
    pytest.param('jpeg', b'\xff\xd8\xff\xe0\x00\x10' + bytes(50), id='jpeg_without_frame'),
    pytest.param('png', cv2.imencode('.png', RGB)[1].tobytes()[:60], id='cut_png'),
    pytest.param('png', b'not a picture at all', id='text'),
    pytest.param('16UC1; compressedDepth png', cv2.imencode('.png', RGB)[1].tobytes(), id='depth')])
def test_decode_compressed_refuses_what_is_no_picture(format, data):
    with pytest.raises(CrossSpecError, match='compressed image'):
        images.decode_compressed(format, data)


def test_decode_compressed_refuses_a_picture_that_claims_to_be_huge():
    data = bytearray(cv2.imencode('.png', RGB)[1].tobytes())
    data[16:24] = (60_000).to_bytes(4, 'big') * 2
    with pytest.raises(CrossSpecError, match='pixels'):
        images.decode_compressed('png', bytes(data))


def test_decode_compressed_of_random_bytes_only_ever_raises_our_error():
    random = np.random.default_rng(5)
    whole = cv2.imencode('.jpg', np.tile(RGB, (4, 4, 1)))[1]
    for _ in range(200):
        data = whole.copy()
        data[random.integers(0, len(data), 8)] = random.integers(0, 256, 8)
        try:
            images.decode_compressed('jpeg', data[:random.integers(0, len(data) + 1)])
        except CrossSpecError:
            pass


class _WithDlpack:
    """As a message's array may be that lies in memory of its own: no buffer protocol."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __dlpack__(self, **options: object) -> object:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._values.__dlpack_device__()


class _WithArray:
    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self._values


_PAYLOAD = np.arange(250, dtype=np.uint8)


@pytest.mark.parametrize(('make', 'shared'), [
    pytest.param(lambda a: a.tobytes(), None, id='bytes'),
    pytest.param(lambda a: bytearray(a.tobytes()), None, id='bytearray'),
    pytest.param(lambda a: array.array('B', a.tobytes()), None, id='array'),
    pytest.param(lambda a: array.array('b', a.tobytes()), None, id='array of signed'),
    pytest.param(lambda a: array.array('H', a.tobytes()), None, id='array of two bytes each'),
    pytest.param(lambda a: a, True, id='ndarray'),
    pytest.param(lambda a: a.reshape(10, 25), True, id='ndarray of two dimensions'),
    pytest.param(lambda a: np.repeat(a, 2)[::2], False, id='ndarray with gaps'),
    pytest.param(lambda a: memoryview(a), True, id='memoryview'),
    pytest.param(lambda a: memoryview(np.repeat(a, 2))[::2], False, id='memoryview with gaps'),
    pytest.param(_WithDlpack, True, id='DLPack'), pytest.param(_WithArray, True, id='__array__'),
    pytest.param(lambda a: a.tolist(), False, id='list'), pytest.param(lambda a: tuple(a.tolist()), False, id='tuple'),
])
def test_as_bytes_reads_whatever_an_array_of_a_message_is(make, shared):
    payload = _PAYLOAD.copy()
    found = images.as_bytes(make(payload))
    assert found.dtype == np.uint8 and found.shape == (250,) and np.array_equal(found, _PAYLOAD)
    if shared is not None:
        assert np.shares_memory(found, payload) is shared


@pytest.mark.parametrize('empty', [b'', array.array('B'), np.zeros(0, np.uint8), []], ids=lambda each: str(type(each)))
def test_as_bytes_of_nothing_is_nothing(empty):
    assert images.as_bytes(empty).shape == (0,)
