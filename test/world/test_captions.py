import numpy as np
import pytest

from crossspec_ros.world import QUESTIONS, SLOTS, answers, caption, parse_slots, sample_captions
from crossspec_ros.world.captions import random_slots


def test_caption_parses_back_to_its_slots_for_thousands_of_scenes():
    rng = np.random.default_rng(0)
    for _ in range(5000):
        slots = random_slots(rng)
        assert parse_slots(caption(slots)) == slots, caption(slots)


def test_caption_is_two_or_three_sentences_of_moderate_length():
    rng = np.random.default_rng(1)
    texts = [caption(random_slots(rng)) for _ in range(2000)]
    assert {text.count('.') for text in texts} == {3}
    lengths = [len(text.replace('.', ' .').replace(',', ' ,').split()) for text in texts]
    assert min(lengths) >= 12 and max(lengths) <= 60


def test_caption_wording_varies_but_is_decided_by_the_slots():
    rng = np.random.default_rng(2)
    slots = random_slots(rng)
    assert caption(slots) == caption(dict(slots))
    firsts = {caption(random_slots(rng)).split('.')[0] for _ in range(3000)}
    assert len(firsts) > 100


def test_caption_says_what_events_can_show_before_what_only_rgb_can():
    slots = dict(zip(SLOTS, ('van', 'red', 'left', 'oncoming', 'slow', 'rain', 'green light', 'none'), strict=True))
    first, second, last = caption(slots).split('. ')
    assert 'van' in first and 'left' in first and 'red' not in first + second
    assert 'red' in last and 'green' in last and 'rain' in last


@pytest.mark.parametrize('text', [
    pytest.param('', id='empty'), pytest.param('...', id='dots'), pytest.param('A A A the the', id='nonsense'),
    pytest.param('A car is', id='cut'), pytest.param('ü\x00 ☃.', id='foreign')])
def test_parse_slots_unreadable_text_gives_all_slots_and_no_claim(text):
    slots = parse_slots(text)
    assert set(slots) == set(SLOTS)
    assert slots['motion'] == slots['ego'] == slots['weather'] == ''


def test_parse_slots_wrong_word_spoils_only_its_slot():
    slots = parse_slots('A truck is zooming on the left. We are stopped. The truck is blue and it is night.')
    assert slots == {'object': 'truck', 'colour': 'blue', 'place': 'left', 'motion': '', 'ego': 'stopped',
                     'weather': 'night', 'signal': 'none', 'second': 'none'}


def test_parse_slots_colour_of_the_light_is_not_the_colour_of_the_object():
    assert parse_slots('A car is parked on the left. We brake. The light is red and it is day.')['colour'] == ''


def test_answers_exist_for_every_question_and_warn_of_what_crosses():
    slots = dict(zip(SLOTS, ('pedestrian', 'red', 'left', 'crossing', 'slow', 'day', 'none', 'none'), strict=True))
    told = answers(slots)
    assert tuple(told) == QUESTIONS
    assert told['Is it safe to go?'].startswith('No.')
    assert 'pedestrian in red' in told['What is ahead?']


def test_answers_empty_road_is_safe():
    slots = dict.fromkeys(SLOTS, 'none') | {'ego': 'fast', 'weather': 'day'}
    assert answers(slots)['Is it safe to go?'].startswith('Yes.')


def test_sample_captions_covers_every_value():
    text = ' '.join(sample_captions(4000, seed=3))
    assert all(value in text for name in ('object', 'colour', 'place') for value in SLOTS[name] if value != 'none')
    assert sample_captions(10, 3) == sample_captions(10, 3) != sample_captions(10, 4)
