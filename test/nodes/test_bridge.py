"""Live pictures: cv_bridge and our converter agree on what both know; what only cv_bridge knows comes from it."""
from __future__ import annotations

from array import array

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not here')
from sensor_msgs.msg import Image  # noqa: E402

from crossspec_ros.errors import CrossSpecError  # noqa: E402
from crossspec_ros.frames.images import PictureReader  # noqa: E402
from crossspec_ros.nodes import bridge  # noqa: E402
from crossspec_ros.nodes.conversions import frame_from  # noqa: E402

RANDOM = np.random.default_rng(5)


def _message(encoding, pixels):
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                    step=pixels.nbytes // pixels.shape[0])
    message.data = array('B', pixels.tobytes())
    return message


@pytest.mark.parametrize(('encoding', 'channels'), [
    ('rgb8', 3), ('bgr8', 3), ('rgba8', 4), ('bgra8', 4), ('mono8', 1), ('bayer_rggb8', 1), ('bayer_bggr8', 1),
    ('bayer_gbrg8', 1), ('bayer_grbg8', 1), ('yuv422', 2), ('yuv422_yuy2', 2)])
def test_our_converter_and_cv_bridge_agree(encoding, channels):
    if bridge._bridge() is None:
        pytest.skip('cv_bridge is not here: it comes with the ROS 2 of a host')
    message = _message(encoding, RANDOM.integers(0, 256, (24, 32, channels), np.uint8))
    theirs = bridge.bridged(message)
    if theirs is None:
        pytest.skip(f'the cv_bridge here does not make rgb8 of {encoding}')
    most = 3 if encoding.startswith('bayer') else 1             # OpenCV's versions round the edges of mosaics otherwise
    assert np.abs(frame_from(message).unpack().astype(int) - theirs).max() <= most


class _Bridge:
    """Knows one encoding more."""

    def imgmsg_to_cv2(self, message, encoding):
        if message.encoding != 'rgb10':
            raise RuntimeError('unrecognised encoding')
        return np.full((message.height, message.width, 3), 77, np.uint8)


def test_what_only_cv_bridge_knows_comes_from_it_and_the_rest_is_refused_by_us(monkeypatch):
    monkeypatch.setattr(bridge, '_bridge', _Bridge)
    pixels = RANDOM.integers(0, 256, (4, 6, 3), np.uint8)
    assert (frame_from(_message('rgb10', pixels)).unpack() == 77).all()
    np.testing.assert_array_equal(frame_from(_message('rgb8', pixels)).unpack(), pixels)
    with pytest.raises(CrossSpecError, match='image encoding must be one of'):
        frame_from(_message('jxl9', pixels)).unpack()
    monkeypatch.setattr(bridge, '_bridge', lambda: None)
    with pytest.raises(CrossSpecError, match='image encoding must be one of'):
        frame_from(_message('rgb10', pixels)).unpack()


def test_frames_of_a_topic_share_the_range_they_use():
    lines = []
    reader = PictureReader('/camera', lines.append)
    for high in (4000, 400):
        rgb = frame_from(_message('mono16', np.full((4, 6), high, '<u2')), reader).unpack()
    assert (rgb == 400 >> 4).all() and len(lines) == 1
