"""Of a bag's topics those are played that are most likely meant, and that is said; any other can be named."""
from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from shared_data import shared

from crossspec_ros.cli import main
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Packet
from crossspec_ros.recordings.bag import BagReader, BagWriter, ImageFrame, rgb_frame
from crossspec_ros.recordings.sources import BagSource
from crossspec_ros.recordings.topics import choose, rank_images

COLOUR = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
DEPTH = np.full((48, 64), 1500, '<u2')


def _raw(encoding, pixels, at=0):
    pixels = np.ascontiguousarray(pixels)
    return ImageFrame(at, 'camera', encoding, pixels.shape[0], pixels.shape[1], pixels.nbytes // pixels.shape[0], False,
                      pixels.view(np.uint8).reshape(-1), False)


def _coded(format, data, at=0):
    return ImageFrame(at, 'camera', format, 0, 0, 0, False, np.frombuffer(data, np.uint8), True)


PICTURES = {
    'rgb8': _raw('rgb8', COLOUR), 'mono8': _raw('mono8', COLOUR[..., 0]), 'depth16': _raw('16UC1', DEPTH),
    'depth32': _raw('32FC1', DEPTH.astype('<f4')), 'jpeg': _coded('jpeg', cv2.imencode('.jpg', COLOUR)[1]),
    'grey_jpeg': _coded('mono8; jpeg compressed mono8', cv2.imencode('.jpg', COLOUR[..., 0])[1]),
    'depth_png': _coded('16UC1; compressedDepth png', b'\0' * 12 + cv2.imencode('.png', DEPTH)[1].tobytes()),
    'png16': _coded('16UC1; png compressed ', cv2.imencode('.png', DEPTH)[1]), 'odd': _raw('jxl9', COLOUR),
    'damaged': _coded('jpeg', b'\xff\xd8nothing')}


def _bag(path, topics, count=5):
    """``topics`` are (name, picture, share of the messages)."""
    with BagWriter(path) as bag:
        for at in range(count):
            for name, kind, *share in topics:
                if at < count * (share[0] if share else 1):
                    bag.write_frame(name, 1_000_000 * at, PICTURES[kind])
    return path


@pytest.mark.parametrize(('topics', 'chosen'), [
    pytest.param([('/depth/image', 'depth16'), ('/color/image', 'rgb8')], '/color/image', id='depth_first'),
    pytest.param([('/a', 'depth32'), ('/b', 'rgb8')], '/b', id='depth_by_encoding_alone'),
    pytest.param([('/a/compressedDepth', 'depth_png'), ('/b', 'jpeg')], '/b', id='compressed_depth'),
    pytest.param([('/a', 'png16'), ('/b', 'grey_jpeg')], '/b', id='depth_in_png'),
    pytest.param([('/seg/mask', 'rgb8'), ('/cam', 'rgb8', 0.4)], '/cam', id='mask'),
    pytest.param([('/camera/infra1/image_rect_raw', 'mono8'), ('/cam', 'mono8')], '/cam', id='infra'),
    pytest.param([('/left', 'mono8'), ('/right', 'rgb8', 0.4)], '/right', id='colour_before_grey'),
    pytest.param([('/left', 'grey_jpeg'), ('/right', 'jpeg')], '/right', id='colour_before_grey_compressed'),
    pytest.param([('/a', 'rgb8', 0.4), ('/b', 'rgb8')], '/b', id='most_messages'),
    pytest.param([('/a/compressed', 'jpeg'), ('/a', 'rgb8')], '/a', id='raw_before_compressed'),
    pytest.param([('/a', 'odd'), ('/b', 'mono8')], '/b', id='readable'),
    pytest.param([('/a', 'damaged'), ('/b', 'jpeg')], '/b', id='damaged'),
    pytest.param([('/depth_camera/depth/image', 'depth16'), ('/depth_camera/rgb/image', 'rgb8')],
                 '/depth_camera/rgb/image', id='colour_of_a_depth_camera'),
    pytest.param([('/cam/aligned_depth_to_color/image_raw', 'depth16'), ('/cam/color/image_raw', 'rgb8')],
                 '/cam/color/image_raw', id='aligned_depth')])
@pytest.mark.parametrize('turned', [False, True])
def test_the_likeliest_image_topic_is_chosen_and_said(turned, topics, chosen, tmp_path):
    topics = topics[::-1] if turned else topics
    with BagReader(_bag(tmp_path / 'bag', topics)) as bag:
        choice = choose(bag)
    assert choice.topics == (chosen,)
    other = next(name for name, *_ in topics if name != chosen)
    assert choice.line.index(chosen) < choice.line.index(f'not of {other}') and '--image-topic' in choice.line
    assert '\n' not in choice.line


def test_one_topic_is_played_and_nothing_said_unless_it_is_depth(tmp_path):
    with BagReader(_bag(tmp_path / 'colour', [('/a', 'rgb8')])) as bag:
        assert (choose(bag).topics, choose(bag).line) == (('/a',), '')
    with BagReader(_bag(tmp_path / 'depth', [('/a', 'depth16')])) as bag:
        assert choose(bag).topics == ('/a',) and 'depth' in choose(bag).line and 'no others' in choose(bag).line


def test_named_topics_are_played_whatever_their_rank(tmp_path):
    path = _bag(tmp_path / 'bag', [('/depth', 'depth16'), ('/color', 'rgb8'), ('/color/compressed', 'jpeg')])
    with BagReader(path) as bag:
        assert choose(bag, ['/depth']).topics == ('/depth',)
        assert choose(bag, image='/color/compressed').topics == ('/color/compressed',)
        assert [topic.name for topic in rank_images(bag, list(bag.topics))] == ['/color', '/color/compressed', '/depth']


@pytest.mark.parametrize(('given', 'words'), [
    pytest.param({'topics': ['/none']}, 'no topic /none; it has /depth .*/color', id='absent'),
    pytest.param({'topics': ['/depth', '/color']}, 'one topic of images', id='two'),
    pytest.param({'image': '/events'}, 'must be one of images', id='events_as_image'),
    pytest.param({'events': '/color'}, 'must be one of events', id='image_as_events'),
    pytest.param({'topics': ['/color'], 'image': '/depth'}, 'together', id='both'),
    pytest.param({'topics': ['/rest']}, 'neither events nor images', id='other')])
def test_a_wrong_name_is_told_with_what_there_is(given, words, tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for name, kind in (('/depth', 'depth16'), ('/color', 'rgb8')):
            bag.write_frame(name, 5, PICTURES[kind])
        bag.write_packet('/events', 6, Packet('mono', 64, 48, 0, 0, 5, np.zeros(8, np.uint8)))
        bag.write_cdr('/rest', 'other_msgs/msg/Other', 7, b'\0\1\0\0')
    with BagReader(tmp_path / 'bag') as bag, pytest.raises(CrossSpecError, match=words) as caught:
        choose(bag, given.get('topics', ()), image=given.get('image', ''), events=given.get('events', ''))
    assert '\n' not in str(caught.value)


def test_the_events_topic_with_most_messages_is_chosen(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for at in range(6):
            for name in ('/left', '/right') if at < 2 else ('/right',):
                bag.write_packet(name, at, Packet('mono', 64, 48, at, 0, 5, np.zeros(8, np.uint8)))
    with BagReader(tmp_path / 'bag') as bag:
        choice = choose(bag)
        assert choice.topics == ('/right',) and 'not of /left' in choice.line and '--events-topic' in choice.line
        assert choose(bag, events='/left').topics == ('/left',)


@pytest.mark.parametrize('format', ['raw', 'png'])
def test_a_range_is_learnt_from_the_first_pictures_and_said(format, tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for at, high in enumerate((300, 4000, 100, 4000)):
            pixels = np.full((48, 64), high, '<u2')
            coded = _coded('mono16; png', cv2.imencode('.png', pixels)[1])
            frame = _raw('mono16', pixels) if format == 'raw' else coded
            bag.write_frame('/camera', at, frame)
    source = BagSource(tmp_path / 'bag')
    pictures = [message.data.rgb()[0, 0, 0] for message in source.messages(0)]
    assert pictures == [300 >> 4, 4000 >> 4, 100 >> 4, 4000 >> 4]           # the first is not brighter than it was
    assert any('taken as 12 bits' in note for note in source.notes)
    source.close()


def test_a_sliver_of_the_range_is_said(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for at in range(10):
            bag.write_frame('/camera', at, rgb_frame(at, COLOUR // 20))
    source = BagSource(tmp_path / 'bag')
    assert len(source.notes) == 1 and 'uses 5% of its range' in source.notes[0]
    source.close()


@pytest.mark.parametrize(('case', 'words', 'topic'), [
    pytest.param('14_depth_topic_first', 'taken of /camera/image_raw', '/camera/image_raw', id='depth'),
    pytest.param('15_nv21', '', '/camera/image_raw', id='nv21'),
    pytest.param('16_tiff', '', '/camera/image_raw/compressed', id='tiff'),
    pytest.param('17_mono16_of_12_bits', 'mono16 uses 5% of its range (528 to 2960 of 65535): taken as 12 bits',
                 '/camera/image_raw', id='12_bits')])
def test_pictures_that_others_could_not_play_are_captioned(case, words, topic, capsys):
    bag = shared(f'trouble/{case}') / 'b_0.mcap'
    assert main(['replay', str(bag), '--no-dds', '--json']) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    captions = [line['text'] for line in report['lines'] if line['kind'] == 'caption']
    assert len(captions) == report['captions'] == 3 and not [cause for cause in report['dropped'] if cause.startswith('image')]
    assert not any('night' in text for text in captions)
    notes = [line for line in err.splitlines() if line.startswith('crossspec:')]
    assert len(notes) == bool(words) and words in ''.join(notes)
    source = BagSource(bag)
    assert topic in source.topics
    source.close()


def test_commands_take_the_topics_and_tell_wrong_ones(tmp_path, capsys):
    path = str(_bag(tmp_path / 'bag', [('/depth', 'depth16'), ('/color', 'rgb8')]))
    assert main(['bag', 'info', path, '--json', '--topics', '/depth']) == 0
    info = json.loads(capsys.readouterr().out)
    assert (list(info['topics']), info['played']) == (['/depth'], ['/depth'])
    assert main(['bag', 'info', path]) == 0
    out, err = capsys.readouterr()
    assert '/depth' in out and 'images are taken of /color' in err and len(err.splitlines()) == 1
    for command in (['bag', 'info', path], ['bag', 'render', path, str(tmp_path / 'film.mp4')],
                    ['replay', path, '--no-dds'], ['demo', '--no-open', '--bag', path, '--out', str(tmp_path / 'out')]):
        assert main([*command, '--image-topic', '/none']) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and 'no topic /none; it has /depth' in lines[0]
    assert main(['replay', 'world:1', '--no-dds', '--seconds', '1', '--topics', '/x']) == 2
    assert 'of a bag only' in capsys.readouterr().err


def test_render_shows_the_topic_that_was_asked_for(tmp_path, capsys):
    path = str(_bag(tmp_path / 'bag', [('/color', 'rgb8'), ('/other', 'mono8')]))
    assert main(['bag', 'render', path, str(tmp_path / 'film.mp4'), '--topics', '/other', '--height', '48']) == 0
    assert 'pictures' in capsys.readouterr().out
