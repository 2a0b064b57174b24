"""The graph end to end: drafts, captions, verdicts and pictures; one process after the other taken away and given back.
"""
import csv
import json
import time

import pytest
from event_camera_msgs.msg import EventPacket
from graph_harness import Graph
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from crossspec_ros.msg import Caption, Draft
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import to_time
from crossspec_ros.speculation.types import prompt_key
from crossspec_ros.srv import SetPrompt

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


@pytest.fixture(scope='module')
def graph(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp('graph')
    with Graph(folder, models) as graph:
        graph.folder = folder
        graph.start('monitor', csv_path=str(folder / 'latency.csv'), report_path=str(folder / 'report.json'))
        graph.start('overlay', rate_hz=5.0, show_events=True, record_path=str(folder / 'overlay.mp4'))
        graph.start('drafter')
        graph.start('verifier', audit__keep=True, decode__max_new_tokens=12)
        graph.probe.start_cameras()
        yield graph


def finals(graph) -> list[Caption]:
    return [caption for caption in graph.probe.captions if caption.stage == Caption.FINAL]


def wait_for_more(graph, what: str, count: int = 2) -> None:
    """Wait for more drafts or final captions than there are."""
    listed = (lambda: graph.probe.drafts) if what == 'drafts' else (lambda: finals(graph))
    before = len(listed())
    graph.probe.wait_for(lambda: len(listed()) >= before + count, f'{count} more {what}')


def test_graph_captions_windows_that_it_drafted(graph):
    probe = graph.probe
    probe.wait_for(lambda: len(finals(graph)) >= 3, 'three final captions')
    probe.wait_for(lambda: ({draft.window_id for draft in probe.drafts}
                            & {caption.window_id for caption in finals(graph)}),
                   'a window with a draft and a caption')
    for caption in finals(graph):
        assert caption.header.stamp.nanosec == 0 and caption.header.stamp.sec == caption.window_id
        assert caption.lossless and caption.stable_length == len(caption.text) and len(caption.frame_stamps) == 8
        stamps = [stamp.sec + 1e-9 * stamp.nanosec for stamp in caption.frame_stamps]
        assert stamps == sorted(stamps) and caption.window_id - 1 < stamps[-1] <= caption.window_id
    for draft in probe.drafts:
        assert draft.header.stamp.sec == draft.window_id and draft.token_ids and draft.source == 'event_drafter'
    probe.wait_for(lambda: any(caption.mode == 'cross_modal' for caption in finals(graph)),
                   'a caption with drafts in it')


def test_graph_last_verdict_of_a_window_is_its_caption(graph):
    probe = graph.probe
    probe.wait_for(lambda: any(verdict.final for verdict in probe.verdicts), 'a final verdict')
    time.sleep(0.5)
    captions = {caption.window_id: caption for caption in finals(graph)}
    verdicts = [verdict for verdict in probe.verdicts if verdict.final and verdict.window_id in captions]
    assert verdicts and all(list(v.committed) == list(captions[v.window_id].token_ids) for v in verdicts)


def test_graph_shows_and_measures(graph):
    probe = graph.probe
    probe.wait_for(lambda: probe.pictures >= 3, 'pictures of the overlay')
    probe.wait_for(lambda: any(row.mode == 'cross_modal' and row.caption_age_ms > 0 for row in probe.latencies),
                   'a row of latencies')
    report = json.loads(probe.trigger('monitor/report').message)
    assert report['captions'] > 0 and report['caption_age_ms']['p99'] > 0 and '/drafter' in report['nodes']


def test_graph_audit_finds_the_same_tokens(graph):
    probe = graph.probe
    probe.wait_for(lambda: len(finals(graph)) >= 2, 'captions to check')

    def done() -> dict | None:
        state = json.loads(probe.trigger('verifier/audit').message)
        return state if state['checked'] >= 2 else None

    assert probe.wait_for(done, 'an audit of two windows')['mismatched'] == 0


def test_graph_broken_messages_are_counted_and_change_nothing(graph):
    probe = graph.probe
    broken = [EventPacket(encoding='evt9', width=64, height=48),
              Image(encoding='rgb8', width=64, height=48, step=3, data=b'\0' * 10),
              Image(encoding='nothing', width=1, height=1)]
    probe.stop_cameras()                                        # of a slot only the newest picture is looked at
    for message, publisher in zip(broken, (probe.packets, probe.images, probe.images)):
        time.sleep(0.3)                                         # slots apart
        message.header.stamp = to_time(time.time_ns())          # one without a stamp is dropped for that
        publisher.publish(message)
    time.sleep(0.3)
    probe.start_cameras()
    drafts = probe.publisher(Draft, 'draft', qos.draft())
    probe.wait_for_reader(drafts)
    soon = int(time.time()) + 2
    key = probe.wait_for(lambda: probe.drafts, 'a draft')[-1].tokenizer_key
    for changes in ({'token_ids': [1, 2], 'parents': [1, 0]}, {'token_ids': [99_999]},
                    {'token_ids': [7], 'weights': [0]}, {'token_ids': [7], 'base_length': 3, 'base_hash': 5}):
        draft = Draft(window_id=soon, revision=1000, prompt_key=prompt_key('What is happening?'), tokenizer_key=key,
                      source='x', **changes)
        draft.header.stamp.sec = soon
        drafts.publish(draft)
    probe.wait_for(lambda: probe.count('drafter', 'packet_refused') >= 1, 'a count of the packet')
    probe.wait_for(lambda: sum(probe.count('verifier', cause) for cause in ('image_refused', 'frames_damaged')) >= 2,
                   'a count of the images')
    probe.wait_for(lambda: probe.count('verifier', 'draft_refused') >= 2, 'a count of the drafts')
    wait_for_more(graph, 'captions')
    wait_for_more(graph, 'drafts')
    probe.node.destroy_publisher(drafts)


def test_graph_prompt_of_the_verifier_reaches_the_drafter(graph):
    probe = graph.probe
    assert not probe.call(SetPrompt, 'verifier/set_prompt', SetPrompt.Request(prompt=' ')).success
    refused = probe.call(SetPrompt, 'verifier/set_prompt', SetPrompt.Request(prompt='What is ahead? ' * 500))
    assert not refused.success and 'prompt must be shorter' in refused.message
    response = probe.call(SetPrompt, 'verifier/set_prompt', SetPrompt.Request(prompt='What is ahead?'))
    assert response.success and response.message == prompt_key('What is ahead?')
    probe.wait_for(lambda: probe.drafts[-1].prompt_key == response.message, 'drafts for the new prompt')
    wait_for_more(graph, 'captions')


def test_graph_disabled_verifier_is_silent(graph):
    probe = graph.probe
    assert probe.call(SetBool, 'verifier/enable', SetBool.Request(data=False)).success
    time.sleep(1.5)
    before = len(finals(graph))
    wait_for_more(graph, 'drafts', 3)
    assert len(finals(graph)) == before
    assert probe.call(SetBool, 'verifier/enable', SetBool.Request(data=True)).success
    wait_for_more(graph, 'captions')


def test_graph_killed_verifier_leaves_drafts_and_comes_back(graph):
    probe = graph.probe
    graph.processes.kill('verifier')
    wait_for_more(graph, 'drafts', 3)
    probe.wait_for(lambda: probe.latencies[-1].mode == 'draft_only', 'the mode of drafts alone')
    graph.start('verifier', audit__keep=True, decode__max_new_tokens=12)
    wait_for_more(graph, 'captions', 3)
    assert graph.processes.alive('drafter') and graph.processes.alive('overlay')


def test_graph_killed_drafter_leaves_captions_and_comes_back(graph):
    probe = graph.probe
    graph.processes.kill('drafter')
    wait_for_more(graph, 'captions', 2)
    probe.wait_for(lambda: finals(graph)[-1].mode == 'verifier_only', 'captions of the verifier alone')
    graph.start('drafter')
    wait_for_more(graph, 'drafts', 2)
    probe.wait_for(lambda: finals(graph)[-1].mode == 'cross_modal', 'captions with drafts again')
    assert graph.processes.alive('verifier')


def test_graph_images_gone_leaves_drafts(graph):
    probe = graph.probe
    probe.stop_cameras()
    probe.start_cameras(images=False)
    wait_for_more(graph, 'drafts', 4)
    probe.wait_for(lambda: probe.states['/verifier'][0] == 1 and '/image' in probe.states['/verifier'][1],
                   'a warning that names the silent topic')
    assert 'probe (sensor_msgs/msg/Image, best_effort, volatile)' in probe.states['/verifier'][1]
    probe.stop_cameras()
    probe.start_cameras()
    wait_for_more(graph, 'captions', 2)


def test_graph_ends_cleanly(graph):
    graph.probe.stop_cameras()
    codes = {name: graph.processes.end(name) for name in ('verifier', 'drafter', 'overlay', 'monitor')}
    assert codes == dict.fromkeys(codes, 0), graph.processes.log('verifier')
    report = json.loads((graph.folder / 'report.json').read_text())
    assert report['windows'] >= report['captions'] > 5
    with open(graph.folder / 'latency.csv', newline='', encoding='utf-8') as file:
        assert len(list(csv.DictReader(file))) == report['windows']
    assert (graph.folder / 'overlay.mp4').stat().st_size > 1000
