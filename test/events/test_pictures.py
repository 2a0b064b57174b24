"""Pictures of events."""
import numpy as np
import pytest
from event_streams import random_events

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.pictures import eventgpt_frames, render_events
from crossspec_ros.events.types import Events

BLUE, RED, WHITE = [0, 0, 255], [255, 0, 0], [255, 255, 255]


def plain_frame(events: Events, height: int, width: int) -> np.ndarray:
    """Pixel by pixel, in order."""
    frame = np.full((height, width, 3), 255, np.uint8)
    for x, y, p in zip(events.x, events.y, events.p):
        frame[y, x] = RED if p else BLUE
    return frame


@pytest.mark.parametrize('count', [0, 3, 5, 1234])
def test_eventgpt_frames_draw_five_chunks_of_equal_count(count):
    events = random_events(7, count)
    frames = eventgpt_frames(events)
    size = count // 5
    assert len(frames) == 5
    for k, frame in enumerate(frames):
        part = events.part(size * k, size * (k + 1) if k < 4 else count)
        np.testing.assert_array_equal(frame, plain_frame(part, 48, 64))


def test_eventgpt_frames_may_be_cut_to_the_events():
    events = random_events(8, 50)
    for k, frame in enumerate(eventgpt_frames(events, canvas='events')):
        part = events.part(10 * k, 10 * k + 10)
        np.testing.assert_array_equal(frame, plain_frame(part, int(part.y.max()) + 1, int(part.x.max()) + 1))


@pytest.mark.parametrize('changes', [{'canvas': 'screen'}, {'chunks': 0}], ids=['canvas', 'chunks'])
def test_eventgpt_frames_refuse(changes):
    with pytest.raises(CrossSpecError, match=next(iter(changes))):
        eventgpt_frames(random_events(1, 5), **changes)


def test_render_events_shows_polarity_on_a_dark_ground():
    events = Events(
        np.zeros(2, np.int64), np.array([0, 3], np.uint16), np.zeros(2, np.uint16), np.array([1, 0], np.uint8), 4, 2
    )
    picture = render_events(events, (2, 4)).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2] and picture[0, 3, 2] > picture[0, 3, 0]
    assert picture[1].max() < 40
    assert not np.ptp(render_events(Events.empty(4, 2), (2, 4)).reshape(-1, 3), axis=0).any()
