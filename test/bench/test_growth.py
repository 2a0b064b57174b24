"""`crossspec bench growth` runs whole, and what it lets the target say is what it says it does."""
import json

import pytest

from crossspec_ros.bench.decode_shapes import ShapesTarget
from crossspec_ros.bench.growth import captions
from crossspec_ros.cli import main
from crossspec_ros.models.random_weights import build_model


def test_captions_differ_from_the_one_before_in_every_eighth_word():
    said = [caption.target for caption in captions(4, 36)]
    assert all(len(caption) == 36 for caption in said)
    for before, after in zip(said, said[1:]):
        changed = [place for place, words in enumerate(zip(before, after)) if words[0] != words[1]]
        assert 4 <= len(changed) <= 5 and len({place % 8 for place in changed}) == 1


def test_the_longest_window_fits_the_model():
    target = ShapesTarget(build_model('cpu', 'float32', image=112), 'dynamic')
    assert target.layout('What is it?', 64, 240, 320).length > 64 * 65


@pytest.mark.long
def test_growth_measures_each_point_and_draws_them(tmp_path, capsys):
    plot = tmp_path / 'growth.svg'
    words = ['--clock', 'processor', '--frames', '1,3', '--answers', '9', '--sides', '28', '--windows', '1', '--drive',
             '10']
    assert main(['bench', 'growth', *words, '--json', '--plot', str(plot)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report['frames']) == {'1', '3'} and set(report['answer']) == {'9'} and set(report['tokens']) == {'5'}
    row = report['answer']['9']
    assert row['without drafts']['passes'] == 10 and 1 <= row['with drafts']['passes'] < 10
    assert report['clock'] == 'processor' and row['without drafts']['age_ms'] > 0 and report['memory_mb']['10'] > 0
    assert '<svg' in plot.read_text()


@pytest.mark.parametrize('words, text', [
    pytest.param(['--frames', '0'], '--frames must be whole numbers', id='frames'),
    pytest.param(['--answers', 'long'], '--answers must be whole numbers', id='answers'),
    pytest.param(['--sides', '100'], '--sides must be multiples of 14', id='sides'),
    pytest.param(['--clock', 'processor', '--device', 'cuda'], '--clock must be wall', id='clock'),
    pytest.param(['--windows', '0'], '--windows must be >= 1', id='windows')])
def test_growth_refuses_what_cannot_be(words, text, capsys):
    assert main(['bench', 'growth', *words]) == 2
    assert text in capsys.readouterr().err
