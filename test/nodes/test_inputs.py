"""What becomes of every message of a camera: late ones, stamps of other clocks, nodes that sleep or stand still."""
import json
import math
import signal
import time

import pytest
from drivers import Driver
from graph_harness import MS, Graph
from lifecycle_msgs.msg import Transition
from rclpy.duration import Duration
from sensor_msgs.msg import Image

from crossspec_ros.msg import Caption, FrameLatency
from crossspec_ros.nodes import qos

pytestmark = [pytest.mark.graph, pytest.mark.timeout(400)]

S = 1_000_000_000
WARN = 1


@pytest.fixture
def graph(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        yield graph


@pytest.fixture
def told(graph):
    """The newest FrameLatency of each input."""
    newest: dict[str, FrameLatency] = {}
    graph.probe.node.create_subscription(FrameLatency, 'frame_latency', lambda m: newest.update({m.input: m}),
                                         qos.frame_latency())
    return newest


@pytest.fixture
def drive(graph):
    """Makes drivers that end with the test."""
    made: list[Driver] = []

    def start(**options) -> Driver:
        made.append(Driver(graph.probe, **options))
        return made[-1]

    yield start
    for driver in made:
        driver.stop()


def verifier(graph, **parameters):
    process = graph.start('verifier', decode__max_new_tokens=4, **parameters)
    graph.probe.wait_for(lambda: graph.probe.diagnostics.get('/verifier', {}).get('active') == 'True', 'active')
    return process


def dropped(message: FrameLatency) -> dict[str, int]:
    return dict(zip(message.dropped_causes, message.dropped))


def closes(message: FrameLatency) -> bool:
    """Whether every message received is used, waiting or dropped by a cause."""
    return message.received == message.used + message.waiting + sum(message.dropped)


def whole(probe) -> list[Caption]:
    """Final captions made on as many frames as slots."""
    return [caption for caption in list(probe.captions) if caption.stage == Caption.FINAL
            and not caption.frames_repeated and len({(s.sec, s.nanosec) for s in caption.frame_stamps}) == 8]


@pytest.mark.parametrize('latency_ms', [pytest.param(100, marks=pytest.mark.long), 204,
                                        pytest.param(300, marks=pytest.mark.long)])
def test_slow_camera_is_captioned_on_distinct_frames(graph, told, drive, latency_ms):
    verifier(graph)
    driver = drive(latency_ms=latency_ms)
    graph.probe.wait_for(lambda: len(whole(graph.probe)) >= 2, 'two captions on 8 distinct frames')
    message = graph.probe.wait_for(lambda: 'image' in told and told['image'].used and told['image'], 'the account')
    assert message.stages == ['received', 'unpacked', 'encoded', 'prefilled'] and all(message.counts)
    assert min(message.p50_ms) >= latency_ms - 1 and math.isfinite(max(message.p99_ms))
    assert message.offset_ms >= latency_ms - 1 and message.stamps == 'header'
    driver.stop()
    message = graph.probe.wait_for(lambda: not told['image'].waiting and told['image'], 'that nothing waits any more')
    assert closes(message) and message.received + message.lost <= driver.images


def test_monitor_reports_the_inputs_of_all_nodes(graph, drive):
    for name in ('monitor', 'drafter', 'verifier'):
        graph.start(name)
    drive(packet_ms=20)
    probe = graph.probe

    def inputs() -> dict:
        return json.loads(probe.trigger('monitor/report').message)['inputs']

    report = probe.wait_for(
        lambda: len(found := inputs()) == 2 and all(each['used'] for each in found.values()) and found,
        'both inputs in the report')
    assert set(report['/verifier image']['stage_ms']) == {'received', 'unpacked', 'encoded', 'prefilled'}
    assert set(report['/drafter events']['stage_ms']) == {'received', 'unpacked'}
    assert all(ages['p50'] <= ages['p95'] <= ages['p99']
               for each in report.values() for ages in each['stage_ms'].values())
    probe.wait_for(lambda: '/verifier image prefilled_p99_ms' in probe.diagnostics['/monitor'], 'it in diagnostics')


def test_images_later_than_may_be_waited_for_are_told_with_numbers(graph, told, drive):
    verifier(graph, frames__grace_max_ms=60.0)
    drive(latency_ms=300)
    level, text = graph.probe.wait_for(
        lambda: 'frames.grace_max_ms is 60' in graph.probe.states['/verifier'][1] and graph.probe.states['/verifier'],
        'a warning')
    assert level == WARN and 'ms after their stamps' in text and 'raise it' in text
    assert float(text.split('images come ')[1].split(' ms')[0]) >= 299
    assert 'frames.grace_max_ms is 60' in graph.processes.log('verifier')
    assert dropped(told['image'])['late'] and closes(told['image'])


BOOT = time.time_ns() - time.monotonic_ns()


@pytest.mark.parametrize('stamp, words', [
    pytest.param(lambda now_ns, number: 0, 'image stamps are zero', id='zero'),
    pytest.param(lambda now_ns, number: now_ns - BOOT, ' d behind the ROS clock', id='uptime',
                 marks=pytest.mark.long),
    pytest.param(lambda now_ns, number: now_ns - 5 * S, 'image stamps are 5.', id='five seconds behind',
                 marks=pytest.mark.long),
    pytest.param(lambda now_ns, number: now_ns + 5 * S, 's ahead of the ROS clock', id='five seconds ahead')])
def test_stamps_of_another_clock_are_told_and_arrival_stands_for_them(graph, told, drive, stamp, words):
    verifier(graph)
    drive(stamp=stamp)
    probe = graph.probe
    probe.wait_for(lambda: words in probe.states['/verifier'][1], f'{words} in diagnostics')
    assert probe.states['/verifier'][0] == WARN and words in graph.processes.log('verifier')
    begin = time.time()
    probe.wait_for(lambda: [c for c in whole(probe) if c.header.stamp.sec > begin], 'a caption of now')
    probe.wait_for(lambda: told['image'].stamps == 'arrival', 'that arrival stands for stamps')
    assert graph.processes.log('verifier').count(words) == 1 and closes(told['image'])


@pytest.mark.long
def test_stamps_are_taken_as_they_are_where_that_is_asked_for(graph, told, drive):
    verifier(graph, frames__stamps='header')
    drive(stamp=lambda now_ns, number: 0)
    probe = graph.probe
    probe.wait_for(lambda: 'messages are dropped' in probe.states['/verifier'][1], 'a warning')
    probe.wait_for(lambda: dropped(told['image']).get('unstamped'), 'a count')
    assert told['image'].stamps == 'header' and not told['image'].used and not probe.captions


@pytest.mark.parametrize('by_ns', [pytest.param(-3600 * S, id='behind', marks=pytest.mark.long),
                                   pytest.param(3600 * S, id='ahead')])
def test_one_odd_stamp_is_dropped_and_resets_nothing(graph, told, drive, by_ns):
    for name in ('drafter', 'verifier'):
        graph.start(name)
    probe = graph.probe

    def odd_of(name: str, every: int):
        """One in so many is odd, once the stream is in use and until it was seen: the way there may lose it."""
        def stamp(now_ns: int, number: int) -> int:
            message = told.get(name)
            wanted = message and message.used and 'stamp_off' not in message.dropped_causes
            return now_ns + by_ns if wanted and number % every == 0 else now_ns
        return stamp

    drive(stamp=odd_of('events', 200), packet_ms=20, image_ms=0)
    drive(stamp=odd_of('image', 50))
    probe.wait_for(lambda: {'image', 'events'} <= set(told) and all('stamp_off' in each.dropped_causes
                                                                   for each in told.values()), 'counts')
    before = len(whole(probe))
    probe.wait_for(lambda: len(whole(probe)) > before + 1, 'captions after')
    for name in ('drafter', 'verifier'):
        assert probe.count(name, 'time_went_back') == 0
    assert probe.count('verifier', 'resets') <= 1               # that of the activation
    assert not [caption for caption in probe.captions if caption.stage == Caption.RETRACTED]
    assert dropped(told['image'])['stamp_off'] <= 3 and closes(told['image']) and closes(told['events'])


def test_images_that_come_while_the_verifier_sleeps_are_counted(graph, told, drive):
    graph.start('verifier', autostart=False)
    probe = graph.probe
    assert probe.change('verifier', Transition.TRANSITION_CONFIGURE)
    drive()
    probe.wait_for(lambda: 'image' in told and dropped(told['image']).get('inactive', 0) > 20, 'what was ignored')
    assert told['image'].received == dropped(told['image'])['inactive']
    assert probe.change('verifier', Transition.TRANSITION_ACTIVATE)
    probe.wait_for(lambda: told['image'].used, 'a caption')
    assert probe.count('verifier', 'frames_inactive') > 20 and closes(told['image'])


def test_account_of_a_drafter_that_stands_still_closes(graph, told, drive):
    process, probe = graph.start('drafter'), graph.probe
    probe.wait_for(lambda: probe.diagnostics.get('/drafter', {}).get('active') == 'True', 'an active drafter')
    sent = 0

    def reached() -> bool:
        nonlocal sent
        sent += 1
        probe.send_packet(time.time_ns() - 20 * MS, sent)
        time.sleep(0.5)
        return told.get('events') and told['events'].received > 0

    probe.wait_for(reached, 'a packet')
    time.sleep(2.5)
    unmatched = sent - told['events'].received - told['events'].lost
    driver = drive(packet_ms=5, image_ms=0)
    probe.wait_for(lambda: len(probe.drafts) > 1, 'drafts')
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    process.send_signal(signal.SIGCONT)
    count = len(probe.drafts)
    probe.wait_for(lambda: len(probe.drafts) > count + 3, 'drafts again')
    driver.stop()
    time.sleep(1)
    probe.send_packet(time.time_ns() - 20 * MS, 10**6)          # tells that those before it were sent
    sent += driver.packets + 1
    message = probe.wait_for(
        lambda: told['events'].received + told['events'].lost >= sent - unmatched and told['events'],
        'that all are accounted for')
    assert message.received + message.lost == sent - unmatched
    probe.wait_for(lambda: told['events'].waiting == 0, 'that nothing waits any more')
    assert closes(told['events']) and told['events'].used > 0
    assert 0 <= probe.count('drafter', 'events_lost') <= sent


def test_deadline_is_requested_where_all_publishers_offer_one(graph, told, drive):
    probe = graph.probe
    probe.node.destroy_publisher(probe.images)
    offered = qos.image()
    offered.deadline = Duration(nanoseconds=300 * MS)
    probe.images = probe.publisher(Image, 'image', offered)
    verifier(graph)
    driver = drive()
    probe.wait_for(lambda: 'image' in told and told['image'].deadline_requested, 'a deadline')
    assert told['image'].deadline_ms == 300.0
    before = told['image'].received
    probe.wait_for(lambda: told['image'].received > before + 50, 'images after it')
    driver.stop()
    missed = told['image'].deadlines_missed
    probe.wait_for(lambda: told['image'].deadlines_missed > missed, 'missed deadlines')
    message = told['image']
    assert message.received + message.lost <= driver.images and closes(message)
    other = probe.publisher(Image, 'image', qos.image())        # offers none: the node must hear it all the same
    probe.wait_for(lambda: not told['image'].deadline_requested, 'no deadline any more')
    received = told['image'].received
    probe.images = other
    drive()
    probe.wait_for(lambda: told['image'].received > received + 20, 'images of a publisher without a deadline')


@pytest.mark.long
def test_gaps_are_counted_where_no_deadline_is_offered(graph, told, drive):
    verifier(graph, frames__gap_ms=200.0)
    driver = drive()
    graph.probe.wait_for(lambda: 'image' in told and told['image'].received > 20, 'images')
    driver.stop()
    missed = told['image'].gaps_missed
    graph.probe.wait_for(lambda: told['image'].gaps_missed > missed + 5, 'gaps')
    assert not told['image'].deadline_requested and told['image'].deadline_ms == 200.0
