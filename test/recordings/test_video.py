"""Packets of video in a bag become its pictures, each with its packet's stamp; what gives none is counted."""
from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings import bag_types
from crossspec_ros.recordings.bag import BagWriter, ImageFrame
from crossspec_ros.recordings.render import render
from crossspec_ros.recordings.sources import BagSource
from crossspec_ros.recordings.video import FFMPEG_PACKET, FOXGLOVE_VIDEO, is_keyframe

COUNT, GROUP = 24, 8
_DEFINITIONS = {
    FOXGLOVE_VIDEO: 'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n',
    FFMPEG_PACKET: ('std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n'
                    'bool is_bigendian\nuint8[] data\n')}
_ENCODERS = {'h264': 'libx264', 'hevc': 'libx265', 'vp9': 'libvpx-vp9', 'av1': 'libsvtav1'}
_OPTIONS = {'libx264': {'tune': 'zerolatency', 'preset': 'ultrafast'},
            'libx265': {'tune': 'zerolatency', 'preset': 'ultrafast', 'x265-params': 'log-level=none:pools=1'},
            'libvpx-vp9': {'lag-in-frames': '0', 'cpu-used': '8', 'auto-alt-ref': '0'},
            'libsvtav1': {'preset': '12', 'svtav1-params': 'pred-struct=1:lp=1:tile-columns=0'}}


def _picture(number):
    """A grey that tells its number, with a red corner."""
    picture = np.full((64, 96, 3), 20 + 8 * number, np.uint8)
    picture[:32, :32] = (220, 20, 20)
    return picture


def _packets(codec):
    try:
        encoder = av.CodecContext.create(_ENCODERS[codec], 'w')
    except (av.FFmpegError, ValueError):
        pytest.skip(f'the av package here cannot encode {codec}')
    encoder.width, encoder.height, encoder.pix_fmt = 96, 64, 'yuv420p'
    encoder.time_base, encoder.framerate = Fraction(1, 20), Fraction(20)
    encoder.gop_size, encoder.max_b_frames, encoder.thread_count = GROUP, 0, 1
    encoder.options = _OPTIONS[_ENCODERS[codec]]
    packets = []
    for number in range(COUNT):
        frame = av.VideoFrame.from_ndarray(_picture(number), format='rgb24')
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    assert len(packets) == COUNT
    return [(bytes(packet), packet.is_keyframe) for packet in packets]


def _bag(path, kind, codec, packets, monkeypatch):
    """A bag that brings the definition of its packets along, as recorders write it."""
    from rosbags.typesys import get_types_from_msg
    original = bag_types._base_types()
    definitions = {name: types for name, text in _DEFINITIONS.items()
                   for name, types in get_types_from_msg(text, name).items()}
    with monkeypatch.context() as patch:
        patch.setattr(bag_types, '_base_types', lambda: {**original, **definitions})
        with BagWriter(path) as bag:
            for number, (data, _) in enumerate(packets):
                stamp_ns, values = 1_000_000_000 + 50_000_000 * number, np.frombuffer(data, np.uint8)
                if kind == FOXGLOVE_VIDEO:
                    stamp = bag.header(stamp_ns, 'cam').stamp
                    bag.write('/video', kind, stamp_ns, bag.make(kind, timestamp=stamp, frame_id='cam', data=values,
                                                                 format='h265' if codec == 'hevc' else codec))
                elif kind == FFMPEG_PACKET:
                    bag.write('/video', kind, stamp_ns, bag.make(
                        kind, header=bag.header(stamp_ns, 'cam'), width=96, height=64,
                        encoding=f'{_ENCODERS[codec]};yuv420p;rgb8', pts=number, flags=0, is_bigendian=False,
                        data=values))
                else:
                    frame = ImageFrame(stamp_ns, 'cam', codec, 0, 0, 0, False, values, True)
                    bag.write_frame('/video', stamp_ns, frame)
    return path


def _numbers(source):
    """(stamp, number in the picture) of each, their colours looked at."""
    found = []
    for message in source.messages(0):
        rgb = message.data.rgb()
        assert message.role == 'image' and message.type == 'sensor_msgs/msg/Image' and message.cdr is None
        assert rgb.shape == (64, 96, 3) and rgb[16, 16, 0] > 150 > 100 > rgb[16, 16, 1]
        found.append((message.stamp_ns, round((int(rgb[48, 64, 1]) - 20) / 8)))
    return found


@pytest.mark.parametrize(('kind', 'codec'), [
    pytest.param(FOXGLOVE_VIDEO, 'h264', id='foxglove_h264'), pytest.param(FOXGLOVE_VIDEO, 'hevc', id='foxglove_h265'),
    pytest.param(FOXGLOVE_VIDEO, 'vp9', id='foxglove_vp9'), pytest.param(FOXGLOVE_VIDEO, 'av1', id='foxglove_av1'),
    pytest.param(FFMPEG_PACKET, 'h264', id='ffmpeg_h264'), pytest.param(FFMPEG_PACKET, 'hevc', id='ffmpeg_hevc'),
    pytest.param('sensor_msgs/msg/CompressedImage', 'h264', id='compressed_image_h264')])
def test_every_packet_gives_its_picture_with_its_stamp(kind, codec, tmp_path, monkeypatch):
    packets = _packets(codec)
    assert [is_keyframe(codec, np.frombuffer(data, np.uint8)) for data, _ in packets] == [key for _, key in packets]
    source = BagSource(_bag(tmp_path / 'bag', kind, codec, packets, monkeypatch))
    assert source.topics == {'/video': 'sensor_msgs/msg/Image'}
    assert _numbers(source) == [(1_000_000_000 + 50_000_000 * number, number) for number in range(COUNT)]
    assert not +source.dropped
    source.close()


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_packets_before_the_first_keyframe_are_counted(codec, tmp_path, monkeypatch):
    packets = _packets(codec)[3:]
    source = BagSource(_bag(tmp_path / 'bag', FOXGLOVE_VIDEO, codec, packets, monkeypatch))
    assert [number for _, number in _numbers(source)] == list(range(GROUP, COUNT))
    assert source.dropped == {'image_before_keyframe': GROUP - 3}
    assert [number for _, number in _numbers(source)] == list(range(GROUP, COUNT))     # played again, the same
    source.close()


def test_every_packet_gives_a_picture_or_is_counted_where_some_are_damaged(tmp_path, monkeypatch):
    packets = _packets('h264')
    packets[10] = (b'\0\0\0\1\x41' + bytes(20), False)
    packets[12] = (b'', False)
    source = BagSource(_bag(tmp_path / 'bag', FOXGLOVE_VIDEO, 'h264', packets, monkeypatch))
    pictures = sum(1 for _ in source.messages(0))
    assert pictures + sum(source.dropped.values()) == COUNT
    source.close()


def test_a_codec_that_is_not_known_is_refused_with_its_name(tmp_path, monkeypatch):
    packets = [(b'\1\2\3', True)]
    source = BagSource(_bag(tmp_path / 'bag', FOXGLOVE_VIDEO, 'theora', packets, monkeypatch))
    with pytest.raises(CrossSpecError, match="/video must hold video of h264.*got 'theora'"):
        list(source.messages(0))
    source.close()


def test_a_bag_of_video_is_rendered(tmp_path, monkeypatch):
    _bag(tmp_path / 'bag', FOXGLOVE_VIDEO, 'h264', _packets('h264'), monkeypatch)
    assert render(tmp_path / 'bag', tmp_path / 'film.mp4', fps=20, height=64) >= COUNT - 1
