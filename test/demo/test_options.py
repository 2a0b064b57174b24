"""Bad input is refused before a process is started, with the rule and the value."""
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from crossspec_ros import cli
from crossspec_ros.demo import options
from crossspec_ros.demo.options import DemoOptions, check, look_through
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagWriter, ImageFrame, rgb_frame


@pytest.fixture
def models_there(monkeypatch):
    """Take the models for granted."""
    monkeypatch.setattr(options, '_check_model', lambda role, name: None)


def _bag(path, topics):
    with BagWriter(path) as writer:
        for topic, kind in topics.items():
            writer.write(topic, kind, 5, writer.make(kind, data='hello'))
    return path


@pytest.mark.parametrize(('changes', 'words'), [
    pytest.param({'seconds': 0.0}, 'seconds must be 1 to 3600, got 0', id='no_time'),
    pytest.param({'seconds': float('nan')}, 'seconds must be', id='nan'),
    pytest.param({'seconds': 1e6}, 'seconds must be', id='days'),
    pytest.param({'seed': -1}, 'seed must be 0 to 2147483647, got -1', id='seed'),
    pytest.param({'domain_id': 233}, 'domain-id must be 0 to 232, got 233', id='domain'),
    pytest.param({'bag': Path('none/such')}, 'does not exist', id='no_bag'),
])
def test_check_refuses_with_rule_and_value(models_there, tmp_path, changes, words):
    with pytest.raises(CrossSpecError, match=words):
        options.check(DemoOptions(out=tmp_path / 'out', **changes))
    assert not (tmp_path / 'out').exists()


def test_check_bag_without_usable_topics_says_what_it_has(models_there, tmp_path):
    bag = _bag(tmp_path / 'bag', {'/chatter': 'std_msgs/msg/String'})
    with pytest.raises(CrossSpecError, match='no usable topic.*/chatter'):
        options.check(DemoOptions(out=tmp_path / 'out', bag=bag))


def test_check_output_that_is_a_file_is_refused(models_there, tmp_path):
    (tmp_path / 'out').write_text('in the way')
    with pytest.raises(CrossSpecError, match='out must be a folder that can be written'):
        options.check(DemoOptions(out=tmp_path / 'out'))


@pytest.mark.parametrize('trace, words', [('file/trace.json', 'trace must be a file in a folder'),
                                          ('.', 'trace must be a file, got the folder')])
def test_check_timeline_that_cannot_be_written_is_refused(models_there, tmp_path, trace, words):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(CrossSpecError, match=words):
        options.check(DemoOptions(out=tmp_path / 'out', trace=tmp_path / trace))


@pytest.mark.skipif(os.geteuid() == 0, reason='nothing is unwritable for root')
def test_check_output_without_permission_is_refused(models_there, tmp_path):
    (tmp_path / 'out').mkdir(mode=0o500)
    with pytest.raises(CrossSpecError, match='out must be a folder that can be written'):
        options.check(DemoOptions(out=tmp_path / 'out'))


def test_demo_command_refuses_on_the_command_line(tmp_path, capsys):
    assert cli.main(['demo', '--seconds', '-3', '--out', str(tmp_path / 'out')]) == 2
    assert capsys.readouterr().err == 'crossspec: error: seconds must be 1 to 3600, got -3\n'


def test_free_domain_passes_over_one_that_is_taken():
    first = options.free_domain(60)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('', 7400 + 250 * first + 10))
        assert options.free_domain(first) != first


@pytest.mark.parametrize('name', [pytest.param('/no/such/folder', id='absolute'), pytest.param('./none', id='relative'),
                                  pytest.param('a/b/c/d', id='deep')])
def test_check_missing_checkpoint_is_refused(tmp_path, name):
    with pytest.raises(CrossSpecError, match=f'verifier must be a checkpoint folder.*got {name}'):
        options.check(DemoOptions(out=tmp_path / 'out', verifier=name))


def test_check_a_qualifier_that_is_not_there_is_refused(tmp_path):
    options.check(DemoOptions(out=tmp_path / 'out', qualifier='builtin'))
    with pytest.raises(CrossSpecError, match='qualifier must be a checkpoint folder.*got ./none'):
        options.check(DemoOptions(out=tmp_path / 'out', qualifier='./none'))


def test_check_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CrossSpecError, match='folder with a config.json'):
        options.check(DemoOptions(out=tmp_path / 'out', verifier=str(tmp_path)))


def test_check_says_which_topics_of_a_bag_are_played(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for at in range(3):
            depth = np.full(8 * 8, 1500, '<u2').view(np.uint8)
            bag.write_frame('/depth', at, ImageFrame(at, 'cam', '16UC1', 8, 8, 16, False, depth, False))
            bag.write_frame('/color', at, rgb_frame(at, np.arange(192, dtype=np.uint8).reshape(8, 8, 3)))
    options = DemoOptions(out=tmp_path / 'out', bag=tmp_path / 'bag')
    topics = check(options)
    assert (topics.names, topics.image_transport, topics.events) == ((), 'raw', False)        # the player finds them
    notes = look_through(options, topics).notes
    assert 'taken of /color' in notes[0] and 'not of /depth' in notes[0]
    assert check(DemoOptions(out=tmp_path / 'out', bag=tmp_path / 'bag', image_topic='/depth')).names == ('/depth',)
    with pytest.raises(CrossSpecError, match='of a bag only'):
        check(DemoOptions(out=tmp_path / 'out', topics=('/color',)))
