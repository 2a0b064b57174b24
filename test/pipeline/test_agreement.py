"""Whether drafter and verifier say the same, and for how many answers a field has stood."""
import pytest

from crossspec_ros.pipeline.agreement import AGREES, DIFFERS, UNKNOWN, Standing, compare


@pytest.mark.parametrize('name, value, draft, expected', [
    ('object', 'child', '{"object": "child"}', AGREES), ('object', 'child', '{"object": "dog"}', DIFFERS),
    ('object', 'child', '{"colour": "red"}', UNKNOWN), ('object', 'child', 'A Child runs.', AGREES),
    ('object', 'child', 'Children run.', UNKNOWN), ('object', 'red car', 'A red, old car.', UNKNOWN),
    ('object', 'red car', 'A red car.', AGREES), ('hazard', True, 'A dog runs.', UNKNOWN),
    ('hazard', True, '{"hazard": true}', AGREES), ('answer', 'A dog runs.', 'a dog runs', AGREES),
    ('answer', 'A dog runs.', 'a cat runs', DIFFERS), ('answer', 'A dog runs.', '', UNKNOWN)])
def test_compare(name, value, draft, expected):
    assert compare(name, value, draft) == expected


def test_a_field_stands_as_long_as_it_says_the_same():
    standing = Standing()
    first = standing.judge('q', '{"object": "dog", "hazard": false}', '{"object": "dog", "hazard": true}')
    assert [(f.name, f.value, f.agreement, f.stood) for f in first] == [
        ('object', '"dog"', AGREES, 1), ('hazard', 'false', DIFFERS, 1)]
    assert [f.stood for f in standing.judge('q', '{"object": "dog", "hazard": true}')] == [2, 1]
    assert [f.stood for f in standing.judge('another', '{"object": "dog", "hazard": true}')] == [1, 1]
    assert [f.stood for f in standing.judge('q', '{"object": "dog", "hazard": true}')] == [3, 2]
    assert [f.name for f in standing.judge('q', 'no object')] == ['answer']
    standing.reset()
    assert [f.stood for f in standing.judge('q', '{"object": "dog", "hazard": true}')] == [1, 1]
