"""One node at a time: lifecycle, exit codes, time that jumps back, QoS that does not match, bad parameters."""
import os
import subprocess
import time

import psutil
import pytest
from graph_harness import MS, Graph
from lifecycle_msgs.msg import Transition
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from crossspec_ros.msg import Caption, Draft
from crossspec_ros.nodes import qos

pytestmark = [pytest.mark.graph, pytest.mark.timeout(400)]

S = 1_000_000_000


@pytest.fixture
def graph(tmp_path, models):
    with Graph(tmp_path, models) as graph:
        yield graph


def test_drafter_lifecycle_loads_and_frees_its_model(graph):
    probe = graph.probe
    process = graph.start('drafter', autostart=False)
    assert probe.state('drafter') == 'unconfigured'
    before_mb = psutil.Process(process.pid).memory_info().rss / 1e6
    assert probe.change('drafter', Transition.TRANSITION_CONFIGURE) and probe.state('drafter') == 'inactive'
    assert psutil.Process(process.pid).memory_info().rss / 1e6 > before_mb
    probe.start_cameras(images=False)
    time.sleep(1.5)
    assert not probe.drafts                                     # configured only: silent
    assert probe.change('drafter', Transition.TRANSITION_ACTIVATE)
    probe.wait_for(lambda: len(probe.drafts) >= 2, 'drafts of an active drafter')
    assert probe.change('drafter', Transition.TRANSITION_DEACTIVATE)
    time.sleep(0.3)
    count = len(probe.drafts)
    time.sleep(1.5)
    assert len(probe.drafts) == count
    assert probe.change('drafter', Transition.TRANSITION_CLEANUP) and probe.state('drafter') == 'unconfigured'
    assert probe.change('drafter', Transition.TRANSITION_CONFIGURE)
    assert probe.change('drafter', Transition.TRANSITION_ACTIVATE)
    probe.wait_for(lambda: len(probe.drafts) > count, 'drafts after a second configuration')
    assert graph.processes.end('drafter') == 0


def test_drafter_without_its_checkpoint_fails_to_configure_and_lives(graph):
    graph.start('drafter', autostart=False, model__path='/nowhere/at/all')
    assert not graph.probe.change('drafter', Transition.TRANSITION_CONFIGURE)
    assert graph.probe.state('drafter') == 'unconfigured'
    assert '/nowhere/at/all' in graph.processes.log('drafter')
    assert graph.processes.end('drafter') == 0


@pytest.mark.parametrize('name, parameters, told', [
    pytest.param('drafter', {'model.path': '/nowhere/at/all'}, '/nowhere/at/all', id='no checkpoint'),
    pytest.param('monitor', {'csv_path': '/nowhere/at/all/l.csv'}, 'csv_path must be writable', id='unwritable file'),
    pytest.param('monitor', {'max_draft_age_ms': -1.0}, 'max_draft_age_ms must be 0 to 3.6e+06, got -1.0',
                 id='out of range'),
    pytest.param('overlay', {'image_transport': 'h264'}, 'image_transport must be one of raw, compressed',
                 id='no such choice'),
    pytest.param('monitor', {'close_after_ms': 'soon'}, "close_after_ms must be float, got 'soon'", id='wrong type'),
    pytest.param('monitor', {'window.stride_frames': 9}, 'stride_frames must be 1 to window_frames',
                 id='two that disagree'),
    pytest.param('player', {'source': 'world:x'}, 'world:SEED must have a whole number', id='no such world'),
    pytest.param('player', {'source': '/nowhere/at/all'}, '/nowhere/at/all', id='no such recording')])
def test_node_bad_parameter_ends_it_with_an_error(name, parameters, told, tmp_path):
    from crossspec_ros.graph import NodeSpec, node_environment
    environment = node_environment(domain_id=97)
    process = subprocess.run(NodeSpec(name, '', parameters).command(), env=environment, capture_output=True, text=True,
                             timeout=200)
    assert process.returncode == 2
    assert told in process.stderr and 'Traceback' not in process.stderr


def test_node_refuses_a_bad_live_parameter_and_takes_a_good_one(graph):
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters
    graph.start('monitor')

    def set_budget(name: str, value: float):
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        return graph.probe.call(SetParameters, 'monitor/set_parameters', request).results[0]

    assert set_budget('max_draft_age_ms', 50.0).successful
    assert not set_budget('max_draft_age_ms', -50.0).successful
    assert not set_budget('close_after_ms', 500.0).successful       # fixed at the start


def test_monitor_tells_of_a_publisher_whose_qos_does_not_match(graph):
    probe = graph.probe
    graph.start('monitor')
    publisher = probe.publisher(Draft, 'draft', QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT))
    probe.wait_for(lambda: probe.count('monitor', 'draft_incompatible_qos') >= 1, 'a count of the mismatch')
    log = probe.wait_for(lambda: ('no messages pass' in graph.processes.log('monitor')
                                  and graph.processes.log('monitor')),
                         'a warning')
    assert 'probe (crossspec_ros/msg/Draft, best_effort' in log and 'qos_overrides' in log
    probe.node.destroy_publisher(publisher)


def test_monitor_qos_can_be_overridden(graph):
    probe = graph.probe
    graph.start('monitor', **{'qos_overrides./draft.subscription.reliability': 'best_effort',
                              'draft_deadline_ms': 0.0})
    publisher = probe.publisher(Draft, 'draft', QoSProfile(depth=8, reliability=QoSReliabilityPolicy.BEST_EFFORT))
    probe.wait_for(lambda: publisher.publish(Draft(window_id=1)) or probe.count('monitor', 'drafts') >= 1,
                   'a counted draft')


def test_monitor_counts_missed_deadlines(graph):
    probe = graph.probe
    graph.start('monitor', draft_deadline_ms=300.0, caption_deadline_ms=0.0)
    profile = qos.draft(200.0)
    assert profile.deadline == Duration(nanoseconds=200 * MS)
    publisher = probe.publisher(Draft, 'draft', profile)

    def missed() -> bool:
        publisher.publish(Draft(window_id=1))                   # the clock of a deadline begins with a message
        time.sleep(0.8)
        return probe.count('monitor', 'draft_deadline_misses') >= 1

    probe.wait_for(missed, 'a missed deadline')


def test_time_that_jumps_back_resets_and_retracts(graph):
    probe = graph.probe
    graph.start('drafter', use_sim_time=True)
    graph.start('verifier', use_sim_time=True, decode__max_new_tokens=6)
    probe.wait_for_reader(probe.packets, probe.images)
    probe.wait_for(lambda: probe.diagnostics.get('/verifier', {}).get('active') == 'True'
                   and probe.diagnostics.get('/drafter', {}).get('active') == 'True', 'active nodes')

    def drive(begin_ns: int, until) -> None:
        """Twice real time from ``begin_ns`` on until something has come."""
        now_ns, stop = begin_ns, time.monotonic() + 120
        while not until():
            assert time.monotonic() < stop, 'nothing came'
            probe.send_packet(now_ns, 0)
            now_ns += 20 * MS
            probe.tick(now_ns)
            if now_ns // MS % 60 == 0:
                probe.send_image(now_ns)
            time.sleep(0.01)

    def has_both(windows: range):                               # neither waits for the other, so either may be first
        return lambda: (any(c.stage == Caption.FINAL and c.window_id in windows for c in list(probe.captions))
                        and any(draft.window_id in windows for draft in list(probe.drafts)))

    drive(5000 * S, has_both(range(5001, 5100)))
    retracted = [c for c in probe.captions if c.stage == Caption.RETRACTED]
    drive(1000 * S, has_both(range(1001, 1100)))
    taken_back = [c for c in probe.captions if c.stage == Caption.RETRACTED][len(retracted):]
    assert [c.window_id >= 5000 for c in taken_back] == [True] and taken_back[0].text == ''
    assert {graph.processes.end(name) for name in ('drafter', 'verifier')} == {0}


def test_player_plays_a_world_and_ends(graph):
    process = graph.start('player', source='world:3', clock='wall', seconds=1.0, drain_s=0.2, world_width=96,
                          world_height=72)
    assert process.wait(120) == 0
    assert 'playing world:3' in graph.processes.log('player')


def test_player_clock_of_a_loop_jumps_back(graph, tmp_path):
    from rosgraph_msgs.msg import Clock
    times = []
    graph.probe.node.create_subscription(Clock, '/clock', lambda m: times.append(m.clock.sec * S + m.clock.nanosec),
                                         qos.clock())
    graph.start('player', source='world:3', clock='sim', seconds=0.5, loop=True, world_width=96, world_height=72)
    graph.probe.wait_for(lambda: any(b < a for a, b in zip(times, times[1:])), 'a jump back')
    assert graph.processes.end('player') == 0


def test_executables_are_thin_and_there():
    from pathlib import Path
    for name in ('drafter', 'qualifier', 'verifier', 'overlay', 'monitor', 'player'):
        path = Path(__file__).resolve().parents[2] / 'scripts' / 'nodes' / name
        assert os.access(path, os.X_OK) and f'crossspec_ros.nodes.{name}' in path.read_text()


@pytest.mark.parametrize('more, sources', [
    pytest.param([], {'event_drafter'}, id='pair'),
    pytest.param(['--qualifier'], {'event_drafter', 'qualifier'}, id='three')])
def test_composed_models_work_in_one_process(graph, more, sources):
    import signal
    import sys
    arguments = [*more, '--ros-args', '-p', f'qualifier:model.path:={graph.models["verifier"]}', '-p',
                 'qualifier:draft.lead_ms:=500.0'] + [text for name, path in graph.models.items()
                                  for text in ('-p', f'{name}:model.path:={path}')]
    process = subprocess.Popen([sys.executable, '-m', 'crossspec_ros.nodes.composed', *arguments],
                               env=graph.processes.environment,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        graph.probe.start_cameras()
        graph.probe.wait_for(lambda: any(c.stage == Caption.FINAL and c.mode == 'cross_modal'
                                         for c in graph.probe.captions),
                             'a caption with drafts in it')
        graph.probe.wait_for(lambda: sources <= {draft.source for draft in graph.probe.drafts}, 'drafts of all')
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
