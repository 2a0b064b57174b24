"""A topic's pictures become 8 bits by the range they use, and a range that is not the type's is told once."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

from crossspec_ros.frames.images import PictureReader

GREY = np.linspace(0, 255, 64 * 48).reshape(48, 64)


def _read(reader, values, encoding='mono16', big=False):
    values = values.astype('>u2' if big else '<u2')
    return reader.image(encoding, 48, 64, 128, big, values)


@pytest.mark.parametrize('big', [pytest.param(False, id='little'), pytest.param(True, id='big')])
@pytest.mark.parametrize('bits', [10, 12, 14, 16])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
def test_bits_that_are_right_aligned_are_not_black(encoding, bits, big):
    lines = []
    rgb = _read(PictureReader('/camera', lines.append), GREY / 255 * (2**bits - 1), encoding, big)
    assert np.abs(rgb[..., 0] - GREY).max() <= 1
    assert len(lines) == (bits < 16)
    if lines:
        assert f'taken as {bits} bits' in lines[0] and '/camera' in lines[0] and encoding in lines[0]
        assert {10: ' 2% ', 12: ' 6% ', 14: ' 25% '}[bits] in lines[0]


def test_the_range_only_grows_and_each_growth_is_told():
    lines = []
    reader = PictureReader('/camera', lines.append)
    assert _read(reader, GREY * 4)[-1, -1, 0] == 255            # 10 bits so far
    assert _read(reader, GREY * 16)[-1, -1, 0] == 255
    assert _read(reader, GREY * 4)[-1, -1, 0] == 63             # as dark as it is beside the one before
    assert len(lines) == 2


def test_colours_and_mosaics_of_12_bits_are_scaled_too():
    reader = PictureReader()
    deep = np.repeat(GREY[..., None], 3, 2) * 16
    deep[..., 2] = 0
    rgb = reader.image('rgb16', 48, 64, 384, False, deep.astype('<u2'))
    assert rgb[-1, -1].tolist() == [255, 255, 0]
    assert PictureReader().image('bayer_rggb16', 48, 64, 128, False, np.full((48, 64), 2048, '<u2')).mean() == 128


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
def test_12_bits_in_a_compressed_picture_are_scaled_too(suffix):
    lines = []
    data = cv2.imencode(suffix, (GREY * 16).astype(np.uint16))[1]
    rgb = PictureReader('/camera', lines.append).compressed('mono16; png compressed ', data)
    assert np.abs(rgb[..., 0] - GREY).max() <= 1 and 'taken as 12 bits' in lines[0]


def test_a_name_that_says_its_bits_is_believed():
    lines = []
    rgb = _read(PictureReader('/camera', lines.append), np.full((48, 64), 100), 'mono12')
    assert (rgb == 100 >> 4).all() and not lines


@pytest.mark.parametrize(('values', 'told'), [
    pytest.param(GREY / 255 * 12, 'uses 4% of its range (0 to 11 of 255)', id='dark'),
    pytest.param(200 + GREY / 255 * 3, 'uses less than 1% of its range', id='fog'),
    pytest.param(GREY, None, id='whole')])
def test_pictures_that_use_a_sliver_of_their_range_are_told_once(values, told):
    lines = []
    reader = PictureReader('/camera', lines.append)
    for _ in range(20):
        reader.image('mono8', 48, 64, 64, False, values.astype(np.uint8))
    assert len(lines) == (told is not None)
    assert told is None or told in lines[0]


def test_fractions_are_told_with_the_range_that_they_are_taken_as():
    lines = []
    reader = PictureReader('/depth', lines.append)
    rgb = reader.image('32FC1', 48, 64, 256, False, (GREY * 10).astype('<f4'))
    assert rgb.max() == round(2550 / 4096 * 255) and '0 to 4096' in lines[0]
