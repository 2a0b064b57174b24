"""Every encoding of sensor_msgs/image_encodings.hpp, against OpenCV's own conversions and against what went in."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.encodings import ENCODINGS, is_colour, known_encoding, unpack
from crossspec_ros.frames.images import decode_image

RANDOM = np.random.default_rng(11)
RGB = cv2.GaussianBlur(RANDOM.integers(0, 256, (24, 32, 3), np.uint8), (0, 0), 3)
HEIGHT, WIDTH = RGB.shape[:2]
OF_ROS = ('rgb8 rgba8 rgb16 rgba16 bgr8 bgra8 bgr16 bgra16 mono8 mono16 '
          'bayer_rggb8 bayer_bggr8 bayer_gbrg8 bayer_grbg8 bayer_rggb16 bayer_bggr16 bayer_gbrg16 bayer_grbg16 '
          'yuv422 uyvy yuv422_yuy2 yuyv nv21 nv24').split()
NUMBERS = {'8U': 'u1', '8S': 'i1', '16U': 'u2', '16S': 'i2', '32S': 'i4', '32F': 'f4', '64F': 'f8'}


def _picture(encoding, pixels, *, big=False, padding=0):
    """decode_image of pixels (H, ..., C) or of planes below each other, with a row's padding."""
    order = '>' if big else '<'
    rows = pixels.astype(pixels.dtype.newbyteorder(order)).reshape(pixels.shape[0], -1)
    data = np.pad(rows.view(np.uint8), ((0, 0), (0, padding)), constant_values=99)
    return decode_image(encoding, HEIGHT, WIDTH, data.shape[1], big, data.tobytes())


def test_all_encodings_of_ros_are_taken():
    names = [*OF_ROS, *(f'{kind}C{count}' for kind in NUMBERS for count in (1, 3, 4))]
    assert not [name for name in names if known_encoding(name) is None]
    assert set(names) <= set(ENCODINGS)


@pytest.mark.parametrize('padding', [0, 8])
@pytest.mark.parametrize('big', [pytest.param(False, id='little'), pytest.param(True, id='big')])
@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('kind', NUMBERS)
def test_opencv_types_make_the_picture_whatever_their_numbers(kind, channels, big, padding):
    dtype = np.dtype(NUMBERS[kind])
    high = {'u1': 255, 'i1': 127, 'u2': 65535, 'i2': 32767, 'i4': 2**31 - 1}.get(NUMBERS[kind], 1.0)
    bgr = RGB[..., ::-1].astype(np.float64) / 255
    pixels = {1: bgr[..., :1], 3: bgr, 4: np.dstack([bgr, np.ones(bgr.shape[:2])])}[channels]
    pixels[0, 0] = 1.0                                          # so that the range in use is the whole one
    rgb = _picture(f'{kind}C{channels}', (pixels * high).astype(dtype), big=big, padding=padding)
    wanted = np.repeat(pixels[..., :1], 3, 2) if channels == 1 else pixels[..., 2::-1]
    assert np.abs(rgb.astype(float) - 255 * wanted).max() <= (2.1 if kind == '8S' else 1.1)


@pytest.mark.parametrize('encoding', ['8UC2', '16UC2', '32FC2'])
def test_two_channels_are_refused_by_name(encoding):
    with pytest.raises(CrossSpecError, match='two channels'):
        decode_image(encoding, 2, 2, 99, False, bytes(999))


def test_an_unknown_encoding_is_told_which_ones_are_taken():
    with pytest.raises(CrossSpecError, match='bayer_rggb8.*nv21.*rgb8.*yuyv.*, got .jxl9.') as caught:
        decode_image('jxl9', 2, 2, 2, False, bytes(99))
    assert '\n' not in str(caught.value)


def _uyvy_planes():
    """Luma, and chroma of the whole size, as OpenCV's own encoder has them."""
    uyvy = cv2.cvtColor(np.repeat(RGB, 2, axis=1), cv2.COLOR_RGB2YUV_UYVY).reshape(HEIGHT, WIDTH, 4)
    return uyvy[..., 1], uyvy[..., 0], uyvy[..., 2]


@pytest.mark.parametrize('padding', [pytest.param(0, id='tight'), pytest.param(16, id='padded')])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'NV21'])
def test_semiplanar_is_what_opencv_makes_of_it(encoding, padding):
    planes = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)
    luma, chroma = planes[:HEIGHT], planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    pair = chroma if encoding == 'nv12' else chroma[::-1]
    both = np.vstack([luma, np.stack(pair, axis=-1).reshape(HEIGHT // 2, WIDTH)])
    code = getattr(cv2, f'COLOR_YUV2RGB_{encoding.upper()}')
    rgb = _picture(encoding, both, padding=padding)
    np.testing.assert_array_equal(rgb, cv2.cvtColor(both, code))
    assert np.abs(rgb.astype(int) - RGB).mean() < 4             # and it is the picture, not its colours swapped


@pytest.mark.parametrize('padding', [pytest.param(0, id='tight'), pytest.param(16, id='padded')])
def test_nv24_has_chroma_for_every_pixel(padding):
    luma, u, v = _uyvy_planes()
    chroma = np.stack([u, v], axis=-1).reshape(2 * HEIGHT, WIDTH) if not padding else (
        np.stack([u, v], axis=-1).reshape(HEIGHT, 2 * WIDTH))
    if padding:
        data = np.concatenate([np.pad(luma, ((0, 0), (0, padding))).ravel(),
                               np.pad(chroma, ((0, 0), (0, 2 * padding))).ravel()])
        rgb = decode_image('nv24', HEIGHT, WIDTH, WIDTH + padding, False, data)
    else:
        rgb = _picture('nv24', np.vstack([luma, chroma]))
    assert np.abs(rgb.astype(int) - RGB).max() <= 4


def test_semiplanar_with_a_step_that_counts_its_chroma_in():
    planes = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)
    assert np.array_equal(decode_image('nv12', HEIGHT, WIDTH, 2 * WIDTH, False, planes),
                          decode_image('nv12', HEIGHT, WIDTH, WIDTH, False, planes))


@pytest.mark.parametrize(('encoding', 'code'), [
    pytest.param('uyvy', cv2.COLOR_YUV2RGB_UYVY, id='uyvy'), pytest.param('yuv422', cv2.COLOR_YUV2RGB_UYVY, id='422'),
    pytest.param('yuyv', cv2.COLOR_YUV2RGB_YUYV, id='yuyv'), pytest.param('yuy2', cv2.COLOR_YUV2RGB_YUYV, id='yuy2'),
    pytest.param('yuv422_yuy2', cv2.COLOR_YUV2RGB_YUYV, id='yuv422_yuy2')])
def test_packed_yuv_is_what_opencv_makes_of_it(encoding, code):
    pixels = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 2), np.uint8)
    np.testing.assert_array_equal(_picture(encoding, pixels, padding=6), cv2.cvtColor(pixels, code))


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_mosaics_of_any_depth_are_what_opencv_makes_of_them(pattern, bits):
    mosaic = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH)).astype(np.uint8 if bits == 8 else np.uint16)
    wanted = cv2.cvtColor(mosaic, getattr(cv2, f'COLOR_Bayer{pattern.upper()}2RGB')) >> (bits - 8)
    np.testing.assert_array_equal(_picture(f'bayer_{pattern}{bits}', mosaic, big=bits > 8), wanted.astype(np.uint8))


@pytest.mark.parametrize(('spelling', 'encoding'), [('Y8', 'mono8'), (' RGB8 ', 'rgb8'), ('bgr', 'bgr8'),
                                                    ('gray16', 'mono16'), ('8UC', '8uc1'), ('BGR8', 'bgr8')])
def test_other_spellings_are_taken(spelling, encoding):
    assert known_encoding(spelling) == encoding


def test_a_last_row_without_its_padding_and_a_step_of_zero_are_taken():
    rows = np.pad(RGB.reshape(HEIGHT, -1), ((0, 0), (0, 7)))
    data = rows.tobytes()[:-7]
    np.testing.assert_array_equal(decode_image('rgb8', HEIGHT, WIDTH, rows.shape[1], False, data), RGB)
    np.testing.assert_array_equal(decode_image('rgb8', HEIGHT, WIDTH, 0, False, RGB.tobytes()), RGB)
    with pytest.raises(CrossSpecError, match='data must hold'):
        decode_image('rgb8', HEIGHT, WIDTH, rows.shape[1], False, data[:-1])


def test_no_number_and_below_zero_are_black_and_infinity_is_white():
    values = np.array([[np.nan, -3.0, np.inf, 0.5]], np.float32)
    assert decode_image('32FC1', 1, 4, 16, False, values)[0, :, 0].tolist() == [0, 0, 255, 128]


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_no_encoding_gives_a_view_of_the_message_or_of_another_shape(encoding):
    data = np.zeros(8 * 8 * 8 * 4, np.uint8)
    pixels = unpack(encoding, 8, 8, 0, False, data)
    assert pixels.shape == (8, 8, 3) and not np.shares_memory(pixels, data)


def test_what_has_colours():
    assert all(map(is_colour, ('rgb8', 'bayer_rggb16', 'NV21', '8UC3', 'yuyv')))
    assert not any(map(is_colour, ('mono8', '16UC1', '32FC1', 'mono12', 'jxl9')))
