"""The declaration of the graph, and `crossspec up` around it."""
import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import psutil
import pytest

from crossspec_ros.commands import up
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import NodeSpec, declare, fastdds_profile, node_command, node_environment


def by_name(given=None, parameters=None):
    return {spec.name: spec for spec in declare(given, parameters)}


def test_declare_without_a_bag_has_no_player():
    assert list(by_name()) == ['drafter', 'verifier', 'overlay', 'monitor']


def test_declare_a_qualifier_where_one_is_named():
    specs = by_name({'qualifier': 'builtin', 'bag': 'world:3', 'device': 'cuda'})
    assert list(specs) == ['drafter', 'verifier', 'overlay', 'monitor', 'qualifier', 'player']
    assert specs['player'].parameters['wait_for'] == 'drafter qualifier verifier'
    found = specs['qualifier'].parameters
    assert found['model.device'] == 'cuda' and 'model.speaks' not in found
    assert by_name({'bag': 'world:3'})['player'].parameters['wait_for'] == 'drafter verifier'


def test_a_qualifier_is_told_whose_tokens_to_speak_and_runs_on_the_edge(tmp_path):
    given = {'qualifier': str(tmp_path), 'cameras': 'front,left'}
    specs = [spec for spec in declare(given) if spec.name == 'qualifier']
    assert [spec.full_name for spec in specs] == ['/crossspec/front/qualifier', '/crossspec/left/qualifier']
    assert {(spec.parameters['model.path'], spec.parameters['model.speaks']) for spec in specs} == {
        (str(tmp_path), 'builtin')}
    edge = by_name({'qualifier': str(tmp_path), 'role': 'edge'})
    assert 'model.speaks' not in edge['qualifier'].parameters and 'verifier' not in edge
    assert list(by_name({'qualifier': str(tmp_path), 'role': 'server'})) == ['verifier']


def test_declare_with_a_bag_plays_it():
    specs = by_name({'bag': 'world:3', 'use_sim_time': 'true'})
    assert specs['player'].parameters['source'] == 'world:3'
    assert specs['drafter'].parameters['use_sim_time'] and not specs['player'].parameters['use_sim_time']


@pytest.mark.parametrize('sim_time, clock', [pytest.param('true', 'sim', id='as recorded'),
                                             pytest.param('false', 'wall', id='as if now')])
def test_declare_player_goes_by_the_clock_that_nodes_follow(sim_time, clock):
    settings = {'clock': 'sim'} | by_name({'bag': 'world:3', 'use_sim_time': sim_time})['player'].parameters
    assert settings['clock'] == clock


def test_declare_remaps_camera_topics_in_every_node():
    for spec in declare({'events_topic': '/cam/events', 'image_topic': '/rgb/image'}):
        assert spec.remaps == {'events': '/cam/events', 'image': '/rgb/image',
                               'image/compressed': '/rgb/image/compressed'}


def test_declare_several_cameras_share_a_verifier_and_nothing_else():
    specs = declare({'cameras': 'front=/cam_front left', 'image_reliability': 'reliable'})
    names = [spec.full_name for spec in specs]
    assert names == [f'/crossspec/{name}' for name in (
        'front/drafter', 'left/drafter', 'verifier', 'front/overlay', 'left/overlay', 'front/monitor', 'left/monitor')]
    by_full_name = dict(zip(names, specs))
    assert by_full_name['/crossspec/front/drafter'].remaps['events'] == '/cam_front/event_camera/events'
    assert by_full_name['/crossspec/left/overlay'].remaps['image'] == '/left/camera/image_raw'
    verifier = by_full_name['/crossspec/verifier']
    assert verifier.executable == 'several' and verifier.arguments == (
        '--camera', '/crossspec/front', '/cam_front/camera/image_raw',
        '--camera', '/crossspec/left', '/left/camera/image_raw')
    assert {f'qos_overrides.{topic}.subscription.reliability' for topic in
            ('/cam_front/camera/image_raw', '/left/camera/image_raw')} <= set(verifier.parameters)


def test_declare_viewers_of_several_cameras_have_ports_of_their_own():
    viewers = [spec for spec in declare({'cameras': 'a,b', 'viewer': 'true'}) if spec.name == 'viewer']
    assert [spec.parameters.get('port', 9090) for spec in viewers] == [9090, 9091]


@pytest.mark.parametrize('role, expected', [
    pytest.param('all', ['drafter', 'verifier', 'overlay', 'monitor', 'player'], id='all'),
    pytest.param('edge', ['drafter', 'overlay', 'monitor', 'player'], id='edge'),
    pytest.param('server', ['verifier'], id='server')])
def test_declare_a_role_starts_its_half(role, expected):
    assert list(by_name({'role': role, 'bag': 'world:1'})) == expected


def test_declare_argument_at_its_default_leaves_the_yaml_alone():
    assert 'model.path' not in by_name()['verifier'].parameters
    assert by_name({'model': '/models/x'})['verifier'].parameters['model.path'] == '/models/x'


@pytest.mark.parametrize('transport, topic', [pytest.param('raw', '/c/image', id='raw'),
                                              pytest.param('compressed', '/c/image/compressed', id='compressed')])
def test_declare_image_reliability_overrides_the_topic_that_is_used(transport, topic):
    spec = by_name({'image_topic': '/c/image', 'image_transport': transport,
                    'image_reliability': 'reliable'})['verifier']
    assert spec.parameters[f'qos_overrides.{topic}.subscription.reliability'] == 'reliable'


@pytest.mark.parametrize('given, parameters, rule', [
    pytest.param({'bogus': '1'}, None, "no argument 'bogus'", id='argument'),
    pytest.param({'cameras': 'front,front'}, None, 'cameras must have different names', id='camera twice'),
    pytest.param({'cameras': '4d'}, None, 'cameras must be NAME or NAME=PREFIX', id='name of a camera'),
    pytest.param({'image_transport': 'h264'}, None, 'image_transport must be one of', id='choice'),
    pytest.param({'params_file': '/nowhere.yaml'}, None, 'params_file must be readable', id='params file'),
    pytest.param(None, {'drafter': {'draft.lead_ms': 1e9}}, 'draft.lead_ms must be', id='parameter'),
    pytest.param({'qualifier': 'builtin'}, {'qualifier': {'window.when': 'change'}}, 'window.when must be grid or both',
                 id='parameters that do not go together')])
def test_declare_refuses(given, parameters, rule):
    with pytest.raises(CrossSpecError, match=rule):
        declare(given, parameters)


@pytest.mark.parametrize('value, text', [
    pytest.param(True, 'true', id='bool'), pytest.param(2.0, '2.0', id='float'),
    pytest.param('1', "'1'", id='number as text'),
    pytest.param("it's", "'it''s'", id='quote'), pytest.param('', "''", id='empty')])
def test_node_spec_writes_values_that_keep_their_type(value, text):
    assert NodeSpec('player', '', {'source': value}).ros_arguments()[-1] == f'source:={text}'


def test_node_spec_full_name():
    assert [NodeSpec('drafter', ns).full_name for ns in ('', 'a', '/a/b/')] == [
        '/drafter', '/a/drafter', '/a/b/drafter']


def test_node_command_of_an_unknown_node_is_refused():
    with pytest.raises(CrossSpecError, match='node must be one of'):
        node_command('driver')


def test_environment_names_the_profile_and_keeps_what_the_user_set():
    assert node_environment({})['FASTDDS_DEFAULT_PROFILES_FILE'] == str(fastdds_profile())
    assert node_environment({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'OFF'})['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'OFF'
    assert node_environment({}, domain_id=7)['ROS_DOMAIN_ID'] == '7'
    assert 'ROS_AUTOMATIC_DISCOVERY_RANGE' not in node_environment({}, local=False)


def test_profile_asks_for_the_transport_of_large_messages():
    root = ElementTree.parse(fastdds_profile()).getroot()
    texts = {node.tag.rpartition('}')[2]: node.text for node in root.iter()}
    assert int(texts['segment_size']) >= 4 * int(texts['maxMessageSize']) >= 16 << 20
    # UDP too: discovery must not hang on what killed nodes leave in shared memory.
    assert {node.text for node in root.iter() if node.tag.endswith('}type')} == {'SHM', 'UDPv4'}


def parse(*argv):
    parser = argparse.ArgumentParser()
    up.add_parser(parser.add_subparsers())
    return parser.parse_args(['up', *argv])


def test_up_takes_cameras_as_words_or_with_commas(capsys):
    printed = []
    for words in (['front=/f', 'left'], ['front=/f,left']):
        assert up.run(parse('--print', '--only', 'verifier', '--cameras', *words)) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and '--camera /crossspec/front /f/camera/image_raw' in printed[0]


def test_up_prints_the_commands(capsys):
    assert up.run(parse('--print', '--bag', 'world:2', '--only', 'player')) == 0
    line, = capsys.readouterr().out.splitlines()
    assert 'crossspec_ros.nodes.player' in line and "source:='world:2'" in shlex.split(line)


@pytest.mark.parametrize('argv, rule', [
    pytest.param(['--only', 'player'], 'needs --bag', id='player without a bag'),
    pytest.param(['--without', 'camera'], 'node must be one of', id='unknown node'),
    pytest.param(['--param', 'drafter.prompt'], 'param must be NODE:NAME=VALUE', id='shape of a parameter'),
    pytest.param(['--param', 'drafter:model.threads=many'], 'model.threads must be int', id='type of a parameter')])
def test_up_refuses(argv, rule):
    with pytest.raises(CrossSpecError, match=rule):
        up.run(parse('--print', *argv))


def wait_for(condition, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, 'did not happen in time'
        time.sleep(0.02)


def run_up() -> tuple[subprocess.Popen, int]:
    """`crossspec up` with one node that only sleeps, and that node's pid."""
    script = ('import sys\nfrom crossspec_ros.commands import up\nfrom crossspec_ros.graph import NodeSpec\n'
              'NodeSpec.command = lambda self: [sys.executable, "-c", '
              '"import os, time; print(os.getpid(), flush=True); time.sleep(600)"]\n'
              'import argparse\np = argparse.ArgumentParser()\nup.add_parser(p.add_subparsers())\n'
              'sys.exit(up.run(p.parse_args(["up", "--only", "monitor"])))\n')
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    return process, int(process.stdout.readline())


def test_up_ends_its_nodes_on_sigterm():
    process, pid = run_up()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != 'linux', reason='the death signal is of Linux')
def test_up_that_is_killed_takes_its_nodes_with_it():
    process, pid = run_up()
    process.kill()
    process.communicate(timeout=60)                             # the node held the pipe: it is gone when this returns
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize('given, spoken', [
    pytest.param({}, None, id='built-in drafter'),
    pytest.param({'drafter_model': 'FOLDER'}, 'builtin', id='built-in verifier'),
    pytest.param({'drafter_model': 'FOLDER', 'model': 'FOLDER'}, 'FOLDER', id='verifier at hand'),
    pytest.param({'drafter_model': 'FOLDER', 'model': 'owner/name'}, None, id='verifier on a hub'),
    pytest.param({'drafter_model': 'FOLDER', 'role': 'edge'}, None, id='verifier elsewhere')])
def test_a_drafter_is_told_whose_tokens_to_speak_where_they_are_at_hand(tmp_path, given, spoken):
    given = {name: value.replace('FOLDER', str(tmp_path)) for name, value in given.items()}
    drafter = next(spec for spec in declare(given) if spec.name == 'drafter')
    assert drafter.parameters.get('model.speaks') == (spoken and spoken.replace('FOLDER', str(tmp_path)))


def test_learning_while_driving_is_off_unless_it_is_asked_for():
    learns = [[spec.parameters.get('learn.online', False) for spec in declare(given) if spec.name == 'drafter']
              for given in ({}, {'learn_online': 'true'}, {'learn_online': 'true', 'cameras': 'front,left'})]
    assert learns == [[False], [True], [True, True]]
