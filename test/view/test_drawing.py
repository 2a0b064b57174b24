"""The overlay's picture."""
import numpy as np
import pytest

from crossspec_ros.view.drawing import UNVERIFIED, VERIFIED, Words, as_html, compose, fit

RED = np.full((30, 60, 3), (255, 0, 0), np.uint8)


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


def test_fit_keeps_proportions():
    picture = fit(RED, 80, 60)
    assert picture.shape == (60, 80, 3)
    assert (picture[30] == (255, 0, 0)).all() and not has_colour(picture[:5], (255, 0, 0))


@pytest.mark.parametrize('pictures, width', [
    pytest.param([RED], 640, id='image'), pytest.param([None], 640, id='no image'),
    pytest.param([RED, RED], 1280, id='image and events')])
def test_compose_is_as_wide_as_its_pictures(pictures, width):
    picture = compose(pictures, [], 'note', 640)
    assert picture.shape[1] == width and picture.dtype == np.uint8


def test_compose_shows_verified_words_solid_and_others_dim():
    both = compose([None], [Words('verified', VERIFIED), Words('not yet', UNVERIFIED)], '', 640)
    assert has_colour(both, VERIFIED) and has_colour(both, UNVERIFIED)
    assert not has_colour(compose([None], [Words('not yet', UNVERIFIED)], '', 640), VERIFIED)


def test_compose_same_size_whatever_the_text():
    assert compose([RED], [], '', 640).shape == compose([RED], [Words('word ' * 500, VERIFIED)], '', 640).shape


def test_as_html_escapes_and_closes_colours():
    assert as_html([Words('a < b & c', VERIFIED)]) == '<span style="color: rgb(255,255,255);">a &lt; b &amp; c</span>'
