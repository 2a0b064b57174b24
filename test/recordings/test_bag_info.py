"""What ``crossspec bag info`` says is exact."""
from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import pytest
from shared_data import shared

from crossspec_ros.cli import main
from crossspec_ros.events.encode import Packetizer
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.recordings.bag import BagWriter
from crossspec_ros.recordings.bag_info import bag_info

KEYS = {'type', 'messages', 'encoding', 'width', 'height', 'packets', 'on', 'off', 'triggers', 'first_ns', 'last_ns',
        'lost_packets', 'dropped', 'sha256_events'}


@pytest.mark.parametrize('name', ['evt3_trigger', 'mono_cd', 'libcaer_rollover'])
def test_bag_info_json_of_a_real_recording_is_what_the_reference_decoder_says(name, capsys):
    expected = json.loads(shared('events/expected.json').read_text())[name]
    assert main(['bag', 'info', str(shared(f'events/{name}')), '--json']) == 0
    topics = json.loads(capsys.readouterr().out)['topics']
    topic = topics['/event_camera/events']
    assert set(topic) == KEYS
    assert topic['sha256_events'] == expected['sha256_events']
    assert (topic['on'], topic['off'], topic['first_ns'], topic['last_ns']) == (
        expected['on'], expected['off'], expected['t_first_ns'], expected['t_last_ns'])
    assert (topic['encoding'], topic['width'], topic['height'], topic['packets'], topic['messages']) == (
        expected['encoding'], expected['width'], expected['height'], expected['packets'], expected['packets'])
    assert topic['triggers'] == expected.get('triggers', {'n': 0})['n']
    assert (topic['lost_packets'], topic['dropped']) == (0, {})


def _events(count: int = 50) -> Events:
    random = np.random.default_rng(4)
    t_ns = np.sort(random.integers(0, 10_000, count)).astype(np.int64) * 1000
    x, y = random.integers(0, 64, count), random.integers(0, 48, count)
    return Events(t_ns, x.astype(np.uint16), y.astype(np.uint16),
                  random.integers(0, 2, count).astype(np.uint8), 64, 48)


@pytest.mark.parametrize(('encoding', 'unit_ns'), [pytest.param('evt3', 1000, id='evt3_us'),
                                                   pytest.param('mono', 1, id='mono_ns')])
def test_bag_info_hash_is_over_13_bytes_an_event_in_the_unit_of_the_encoding(encoding, unit_ns, tmp_path):
    events = _events()
    with BagWriter(tmp_path / 'bag') as bag:
        for packet in Packetizer(encoding, 64, 48).packets(events, 1_000_000):
            bag.write_packet('/events', packet.stamp_ns, packet)
    sha = hashlib.sha256()
    for t_ns, x, y, p in zip(events.t_ns.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()):
        sha.update(struct.pack('<qHHB', t_ns // unit_ns, x, y, p))
    assert bag_info(tmp_path / 'bag')['topics']['/events']['sha256_events'] == sha.hexdigest()


def test_bag_info_counts_what_is_lost_and_what_is_dropped(tmp_path):
    packets = list(Packetizer('mono', 64, 48).packets(_events(), 1_000_000))
    with BagWriter(tmp_path / 'bag') as bag:
        for number, packet in enumerate(packets):
            if number != 3:
                bag.write_packet('/events', number, packet)
        bag.write_cdr('/events', 'event_camera_msgs/msg/EventPacket', 100, b'\x00\x01\x00\x00')
        bag.write_packet('/events', 101, Packet('mono', 65, 48, len(packets), 0, 0, np.zeros(8, np.uint8)))
    topic = bag_info(tmp_path / 'bag')['topics']['/events']
    assert topic['lost_packets'] == 1
    assert topic['dropped'] == {'wrong_size': 1, 'malformed_message': 1}
    assert topic['messages'] == len(packets) + 1


def test_bag_info_of_packets_that_cannot_be_decoded_counts_them(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for encoding, width in (('evt9', 64), ('mono', 0)):
            bag.write_packet('/events', 1, Packet(encoding, width, 48, 0, 0, 0, np.zeros(8, np.uint8)))
    topic = bag_info(tmp_path / 'bag')['topics']['/events']
    assert (topic['packets'], topic['on'], topic['first_ns'], topic['dropped']) == (2, 0, None, {'unknown_encoding': 2})


def test_bag_info_tells_of_images_and_of_other_topics(tmp_path, capsys):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_rgb('/image', 1, 7, np.zeros((4, 6, 3), np.uint8))
        bag.write('/clock', 'builtin_interfaces/msg/Time', 2, bag.make('builtin_interfaces/msg/Time', sec=1, nanosec=2))
    topics = bag_info(tmp_path / 'bag')['topics']
    assert topics['/image'] == {'type': 'sensor_msgs/msg/Image', 'messages': 1, 'encoding': 'rgb8', 'width': 6,
                                'height': 4, 'first_ns': 7, 'last_ns': 7}
    assert topics['/clock'] == {'type': 'builtin_interfaces/msg/Time', 'messages': 1}
    assert main(['bag', 'info', str(tmp_path / 'bag')]) == 0
    assert '/image' in capsys.readouterr().out


def test_bag_info_of_no_bag_is_one_line_and_exit_2(tmp_path, capsys):
    assert main(['bag', 'info', str(tmp_path), '--json']) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and str(tmp_path) in err
