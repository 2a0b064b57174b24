"""Every kind of compressed picture that a camera sends, whole, cut, and without its end mark."""
from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.frames.compressed import video_codec
from crossspec_ros.frames.images import decode_compressed, picture_size

RGB = cv2.GaussianBlur(np.random.default_rng(7).integers(0, 256, (36, 52, 3), np.uint8), (0, 0), 4)


def _coded(suffix, *parameters):
    return cv2.imencode(suffix, RGB[..., ::-1], parameters)[1].tobytes()


@pytest.mark.parametrize(('data', 'format', 'most'), [
    pytest.param(_coded('.jpg'), 'bgr8; jpeg compressed bgr8', 12, id='jpeg'),
    pytest.param(_coded('.png'), 'rgb8; png compressed bgr8', 0, id='png'),
    pytest.param(_coded('.tiff'), 'bgr8; tiff compressed bgr8', 0, id='tiff'),
    pytest.param(_coded('.tiff', cv2.IMWRITE_TIFF_COMPRESSION, 1), 'tiff', 0, id='tiff_not_packed'),
    pytest.param(_coded('.webp', cv2.IMWRITE_WEBP_QUALITY, 101), 'webp', 0, id='webp_lossless'),
    pytest.param(_coded('.webp', cv2.IMWRITE_WEBP_QUALITY, 95), 'webp', 40, id='webp'),
    pytest.param(_coded('.bmp'), 'bmp', 0, id='bmp'), pytest.param(_coded('.png'), '', 0, id='no_format')])
def test_pictures_of_every_kind_come_out_with_their_colours(data, format, most):
    rgb = decode_compressed(format, data)
    assert rgb.dtype == np.uint8 and picture_size(data) == (52, 36)
    assert np.abs(rgb.astype(int) - RGB).max() <= most


@pytest.mark.parametrize('order', ['II', 'MM'])
def test_tiff_of_either_byte_order(order, tmp_path):
    from PIL.TiffImagePlugin import ImageFileDirectory_v2
    path = tmp_path / 'picture.tiff'
    Image.fromarray(RGB).save(path, tiffinfo=ImageFileDirectory_v2(
        b'MM\0*\0\0\0\0' if order == 'MM' else b'II*\0\0\0\0\0'))
    np.testing.assert_array_equal(decode_compressed('tiff', path.read_bytes()), RGB)


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
def test_16_bits_keep_their_high_ones(suffix):
    deep = RGB.astype(np.uint16) << 8
    data = cv2.imencode(suffix, deep[..., ::-1])[1]
    np.testing.assert_array_equal(decode_compressed('png', data), RGB)


@pytest.mark.parametrize('progressive', [0, 1])
@pytest.mark.parametrize('gone', [1, 2])
def test_a_jpeg_without_its_end_mark_is_the_same_picture(gone, progressive):
    data = _coded('.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    np.testing.assert_array_equal(decode_compressed('jpeg', data[:-gone]), decode_compressed('jpeg', data))


@pytest.mark.parametrize('kept', [0.4, 0.7, 0.9])
def test_a_jpeg_that_lacks_a_part_is_refused(kept):
    data = _coded('.jpg')
    with pytest.raises(CrossSpecError, match='damaged or cut'):
        decode_compressed('jpeg', data[:int(kept * len(data))])


def test_a_jpeg_with_a_buffers_rest_after_it_is_taken():
    data = _coded('.jpg')
    np.testing.assert_array_equal(decode_compressed('jpeg', data + bytes(500)), decode_compressed('jpeg', data))


@pytest.mark.parametrize('suffix', ['.tiff', '.bmp', '.webp'])
def test_a_cut_or_wild_picture_only_ever_raises_our_error(suffix):
    random, whole = np.random.default_rng(2), np.frombuffer(_coded(suffix), np.uint8)
    for _ in range(60):
        data = whole.copy()
        data[random.integers(0, 64, 4)] = random.integers(0, 256, 4)
        try:
            decode_compressed('', data[:random.integers(1, len(data) + 1)])
        except CrossSpecError:
            pass


@pytest.mark.parametrize(('format', 'words'), [
    pytest.param('16UC1; compressedDepth', 'choose the topic of the colour camera', id='depth'),
    pytest.param('h264', 'h264 video', id='h264'), pytest.param('theora', 'JPEG, PNG, TIFF, WebP, BMP', id='other')])
def test_what_is_no_picture_is_refused_with_what_is_taken(format, words):
    with pytest.raises(CrossSpecError, match=words):
        decode_compressed(format, b'\0\0\0\1\x67' + bytes(40))


@pytest.mark.parametrize(('format', 'codec'), [
    ('h264', 'h264'), ('libx264', 'h264'), ('h264_nvenc', 'h264'), ('hevc', 'hevc'), ('h265', 'hevc'),
    ('libx265;yuv420p;bgr8', 'hevc'), ('vp9', 'vp9'), ('av1', 'av1'), ('bgr8; jpeg compressed bgr8', None)])
def test_video_is_known_by_any_of_its_names(format, codec):
    assert video_codec(format) == codec
