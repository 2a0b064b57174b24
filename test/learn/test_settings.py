"""What may be asked of a course."""
import pytest
import toy_drive

from crossspec_ros import cli
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.sources import LEARNABLES, heads_of


@pytest.mark.parametrize(('values', 'word'), [
    pytest.param({'sources': ('drafter', 'crystal')}, f'among {", ".join(LEARNABLES)}, got .crystal', id='unknown'),
    pytest.param({'sources': ()}, 'drafter among them', id='no source'),
    pytest.param({'bags': ()}, 'bags must be one or more', id='no bag'),
    pytest.param({'bags': ('toy:1', 'toy:1')}, 'each named once', id='a bag twice'),
    pytest.param({'prompts': (' ',)}, 'prompts must be', id='empty prompt'),
    pytest.param({'minutes': 1.0}, 'either steps or minutes', id='both lengths'),
    pytest.param({'steps': 0}, 'steps or minutes must be > 0', id='no steps'),
    pytest.param({'slide': 3}, 'slide must divide', id='slide'),
    pytest.param({'loss': 'hope'}, 'loss must be one of forward_kl', id='loss'),
    pytest.param({'disk_mb': 0}, 'disk_mb must be >= 1', id='disk'),
    pytest.param({'lr': 0.0}, 'lr must be > 0', id='lr')])
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, values, word):
    with pytest.raises(CrossSpecError, match=word):
        toy_drive.toy_config(tmp_path, 'builtin', **values)


def test_command_refuses_a_source_that_is_not_there_yet_in_one_line(capsys):
    assert cli.main(['learn', 'world:1', '--model', 'builtin', '--sources', 'drafter,crystal']) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and 'drafter' in said and 'crystal' in said


def test_graphs_windows_are_those_of_whole_lengths(tmp_path):
    config = toy_drive.toy_config(tmp_path, 'builtin', slide=2)
    assert [number for number in range(9) if config.judged(number)] == [0, 4, 8]
    assert config.grid().end_ns(4) == config.grid().span_ns


def test_order_in_which_sources_are_named_does_not_matter(tmp_path):
    first, second = (toy_drive.toy_config(tmp_path, 'builtin', sources=names) for names in (
        ('drafter', 'medusa', 'eagle1'), ('eagle1', 'drafter', 'medusa')))
    assert first.settled() == second.settled() and heads_of(first.sources) == heads_of(second.sources)


def test_heads_train_as_long_as_asked_at_their_own_rate(tmp_path):
    config = toy_drive.toy_config(tmp_path, 'builtin', sources=('drafter', 'medusa'), steps=None)
    stage, drafter = config.head_stage('medusa'), config.stage()
    assert stage.name == 'medusa' and stage.steps < drafter.steps and stage.lr != drafter.lr
    timed = toy_drive.toy_config(tmp_path, 'builtin', steps=None, minutes=2.0).head_stage('block')
    assert timed.minutes == 2.0 and timed.steps is None
