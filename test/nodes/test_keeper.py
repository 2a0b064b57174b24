"""The keeper over real DDS: what was sent is in the bag, whichever way the moment was called."""
from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from graph_harness import Graph
from rclpy.serialization import deserialize_message
from std_msgs.msg import Bool, String

from crossspec_ros.msg import Caption
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import to_time
from crossspec_ros.recordings.bag import BagReader

pytestmark = pytest.mark.graph


@pytest.fixture
def graph(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp('graph'), {}) as graph:
        yield graph


def bags(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob('moment_*/metadata.yaml'))


def told(bag: Path) -> dict:
    with BagReader(bag) as reader:
        cdr = next(reader.messages(['/keeper/moment'], decode=False)).cdr
    return json.loads(deserialize_message(bytes(cdr), String).data)


def start(graph, folder: Path, **parameters):
    graph.start('keeper', keep__folder=str(folder), **({'keep__after_s': 0.5} | parameters))
    probe = graph.probe
    probe.wait_for_reader(probe.packets, probe.images)
    return probe


def test_a_moment_is_what_came_before_and_after_the_call(graph, tmp_path):
    probe = start(graph, tmp_path, keep__seconds=600.0)     # however long a busy machine takes to fill the ring
    captions = probe.publisher(Caption, 'caption', qos.caption())
    probe.wait_for_reader(captions)
    before = Caption(window_id=1, stage=Caption.FINAL, text='A dog.')
    before.header.stamp = to_time(time.time_ns())
    captions.publish(before)
    probe.start_cameras()
    probe.wait_for(lambda: probe.count('keeper', 'ring_messages') > 50, 'a filled ring')
    answer = probe.trigger('keeper/keep')
    assert answer.success and str(tmp_path) in answer.message
    probe.wait_for(lambda: bags(tmp_path), 'a bag')
    probe.stop_cameras()
    bag = bags(tmp_path)[0]
    with BagReader(bag) as reader:
        kept = {name: [m.cdr for m in reader.messages([name], decode=False)] for name in reader.topics}
    assert deserialize_message(bytes(kept['/caption'][0]), Caption) == before     # bytes between fields are anything
    assert len(kept['/events']) > 10 and len(kept['/image']) > 3 and kept['/diagnostics']
    facts = told(bag)
    assert facts['reasons'] == ['service'] and facts['left_out'] == 0
    assert facts['messages'] == {name: len(rows) for name, rows in kept.items() if name != '/keeper/moment'}
    assert not list(tmp_path.glob('*.partial'))


def test_braking_and_words_call_a_moment_and_one_that_goes_on_is_one(graph, tmp_path):
    probe = start(graph, tmp_path, keep__rules=['word:child'], keep__after_s=2.0)
    probe.start_cameras()
    brake = probe.publisher(Bool, 'hard_braking', qos.trigger())
    captions = probe.publisher(Caption, 'caption', qos.caption())
    probe.wait_for_reader(brake, captions)
    probe.wait_for(lambda: probe.count('keeper', 'ring_messages') > 20, 'a filled ring')
    captions.publish(Caption(window_id=1, stage=Caption.PARTIAL, text='A child'))       # not final: no moment yet
    captions.publish(Caption(window_id=1, stage=Caption.FINAL, text='A child runs.'))
    for _ in range(3):
        brake.publish(Bool(data=True))
    probe.wait_for(lambda: bags(tmp_path), 'a bag')
    probe.stop_cameras()
    assert sorted(told(bags(tmp_path)[0])['reasons']) == ['hard_braking', 'word:child']


def test_no_room_on_disk_is_counted_and_nothing_is_removed(graph, tmp_path):
    (tmp_path / 'others').write_bytes(bytes(1_000_001))
    probe = start(graph, tmp_path, keep__disk_mb=1, keep__after_s=0.0)
    probe.start_cameras()
    probe.wait_for(lambda: probe.count('keeper', 'ring_messages') > 10, 'a filled ring')
    assert probe.trigger('keeper/keep').success
    probe.wait_for(lambda: probe.count('keeper', 'moments_not_written') == 1, 'the count')
    assert 'keep.disk_mb' in graph.processes.log('keeper') and not bags(tmp_path) and (tmp_path / 'others').exists()


def test_what_was_asked_for_is_written_when_the_node_ends(graph, tmp_path):
    probe = start(graph, tmp_path, keep__after_s=3600.0)
    probe.start_cameras()
    probe.wait_for(lambda: probe.count('keeper', 'ring_messages') > 10, 'a filled ring')
    assert probe.trigger('keeper/keep').success
    assert graph.processes.end('keeper') == 0
    assert len(bags(tmp_path)) == 1


def test_a_rule_that_is_none_is_refused_in_a_line(graph, tmp_path):
    graph.start('keeper', keep__folder=str(tmp_path), keep__rules=['colour:red'])
    graph.probe.wait_for(lambda: 'keep.rules must hold' in graph.processes.log('keeper'), 'the refusal of a rule')
    assert 'Traceback' not in graph.processes.log('keeper')
