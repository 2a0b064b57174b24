"""What drafters see of a window: each view, with a small drafter that eats it, against the events themselves."""
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from event_streams import packets_and_events

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.events.types import Events
from crossspec_ros.pipeline.drafting import DraftingPipeline, DraftJob
from crossspec_ros.pipeline.views import build_view
from crossspec_ros.speculation.drafter import EventCanvases, EventPictures, RawSlices, VoxelGrid
from crossspec_ros.speculation.types import prompt_key
from crossspec_ros.timing.window import WindowGrid

S, MS = 1_000_000_000, 1_000_000
HOST = 1000 * S                                                 # the host's clock when the sensor's was 0
WIDTH, HEIGHT = 40, 30
WHITE, BLUE, RED = (255, 255, 255), (0, 0, 255), (255, 0, 0)


class Teller:
    """A drafter of any view: its tokens are numbers that it reads off what it sees."""

    tokenizer_key = 'numbers'

    def __init__(self, view, read: Callable[[object], tuple[int, ...]]) -> None:
        self.view, self.read, self.seen = view, read, None

    def draft(self, seen, /, *, prompt, prefix_ids=(), max_tokens=64, should_stop=None):
        self.seen = seen
        tokens = self.read(seen)[:max_tokens]
        return SimpleNamespace(token_ids=tokens, parents=(), weights=(1,) * len(tokens), text=str(tokens),
                               compute_ms=0.0)


def count_grid(voxel: np.ndarray) -> tuple[int, ...]:
    return voxel.shape


def count_pictures(pictures) -> tuple[int, ...]:
    return tuple(int((picture != 255).any(axis=2).sum()) for picture in pictures)


def count_slices(slices) -> tuple[int, ...]:
    return tuple(len(events) for events in slices)


DRAFTERS = [pytest.param(VoxelGrid(2, 4, 4), count_grid, id='voxel grid'),
            pytest.param(EventPictures(3, 15, 20), count_pictures, id='pictures'),
            pytest.param(EventCanvases(5, 5000.0), count_pictures, id='canvases'),
            pytest.param(RawSlices(250.0, 100_000), count_slices, id='slices')]


def window_of(events: Events, end_ns: int, span_ns: int = S) -> Events:
    """Events of (end - span, end], counted one by one."""
    inside = (events.t_ns > end_ns - span_ns) & (events.t_ns <= end_ns)
    return Events(events.t_ns[inside], events.x[inside], events.y[inside], events.p[inside], WIDTH, HEIGHT)


def watched(view, read, encoding: str = 'evt3', **changes) -> tuple[DraftingPipeline, Teller, Events]:
    """A pipeline that has taken a whole stream, its drafter, and the stream's events on the ROS clock."""
    packets, events = packets_and_events(encoding, WIDTH, HEIGHT, host_ns=HOST)
    drafter = Teller(view, read)
    core = DraftingPipeline(drafter, WindowGrid(), 'What is happening?', **changes)
    for packet in packets:
        core.add_packet(packet)
    return core, drafter, events


def test_views_a_voxel_grid_is_that_of_the_events():
    core, drafter, events = watched(VoxelGrid(2, 4, 4), count_grid)
    draft = core.draft(DraftJob(1003))
    wanted = voxel_grid(events, 1002 * S, 1003 * S, bins=2, shape=(4, 4))
    np.testing.assert_allclose(drafter.seen, wanted, atol=0.01)
    assert draft.token_ids == (2, 4, 4) and draft.events_used == len(window_of(events, 1003 * S)) > 100


def draw(events: Events, height: int, width: int) -> np.ndarray:
    """Pixel by pixel, in order."""
    picture = np.full((height, width, 3), 255, np.uint8)
    for x, y, p in zip(events.x, events.y, events.p):
        picture[int(y) * height // HEIGHT, int(x) * width // WIDTH] = RED if p else BLUE
    return picture


@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
@pytest.mark.parametrize('height, width', [(30, 40), (15, 20), (7, 64)])
def test_views_pictures_hold_equal_parts_of_the_window(encoding, height, width):
    core, drafter, events = watched(EventPictures(3, height, width), count_pictures, encoding)
    draft, window = core.draft(DraftJob(1003)), window_of(events, 1003 * S)
    third = len(window) // 3
    assert draft.events_used == len(window) > 100 and len(drafter.seen) == 3
    for k, picture in enumerate(drafter.seen):
        wanted = draw(window.part(third * k, third * (k + 1) if k < 2 else len(window)), height, width)
        np.testing.assert_array_equal(picture, wanted)


@pytest.mark.parametrize('span_ms', [99.9, 5000.0])
def test_views_canvases_hold_the_last_events_and_reach_as_far(span_ms):
    core, drafter, events = watched(EventCanvases(5, span_ms), count_pictures)
    draft, window = core.draft(DraftJob(1003)), window_of(events, 1003 * S, min(S, round(span_ms * MS)))
    assert draft.events_used == len(window) > 20 and len(drafter.seen) == 5
    fifth = len(window) // 5
    for k, picture in enumerate(drafter.seen):
        part = window.part(fifth * k, fifth * (k + 1) if k < 4 else len(window))
        height, width = int(part.y.max()) + 1, int(part.x.max()) + 1
        np.testing.assert_array_equal(picture, draw(part, HEIGHT, WIDTH)[:height, :width])


def test_views_a_canvas_has_two_rows_and_columns_at_least():
    view = build_view(EventCanvases(5, 99.9), WindowGrid(), lead_ns=0, max_bytes=1 << 20)
    assert [picture.shape for picture in view.nothing()] == [(2, 2, 3)] * 5
    assert all((picture == 255).all() for picture in view.nothing())


@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
@pytest.mark.parametrize('span_ms, bounds_ms', [
    pytest.param(250.0, (0, 250, 500, 750, 1000), id='whole'),
    pytest.param(300.0, (0, 100, 400, 700, 1000), id='a rest'),
    pytest.param(5000.0, (0, 1000), id='longer than the window')])
def test_views_slices_are_the_events_of_their_time(encoding, span_ms, bounds_ms):
    core, drafter, events = watched(RawSlices(span_ms, 100_000), count_slices, encoding)
    core.draft(DraftJob(1003))
    assert len(drafter.seen) == len(bounds_ms) - 1
    for found, start, stop in zip(drafter.seen, bounds_ms, bounds_ms[1:]):
        wanted = window_of(events, 1002 * S + stop * MS, (stop - start) * MS)
        assert len(wanted) > 10
        for name in ('t_ns', 'x', 'y', 'p'):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_views_slices_keep_their_newest_events():
    core, drafter, events = watched(RawSlices(500.0, 10), count_slices)
    draft = core.draft(DraftJob(1003))
    assert draft.token_ids == (10, 10) and draft.events_used == 20
    np.testing.assert_array_equal(drafter.seen[1].t_ns, window_of(events, 1003 * S).t_ns[-10:])


@pytest.mark.parametrize('view, read', DRAFTERS)
def test_views_an_early_draft_sees_a_whole_span_before_the_lead(view, read):
    core, _, events = watched(view, read, lead_ms=125.0)
    assert core.draft(DraftJob(1003, early=True)).events_used == len(window_of(events, 1003 * S - 125 * MS))


@pytest.mark.parametrize('view, read', DRAFTERS)
def test_views_a_redraft_sees_what_the_draft_saw(view, read):
    core, drafter, _ = watched(view, read)
    core.draft(DraftJob(1003))
    first = drafter.seen
    draft = core.draft(DraftJob(1003, committed=(7,)))
    assert drafter.seen is first and draft.base_length == 1


@pytest.mark.parametrize('view, read', DRAFTERS)
def test_views_a_drafter_is_warmed_up_with_what_an_empty_window_looks_like(view, read):
    drafter = Teller(view, read)
    core = DraftingPipeline(drafter, WindowGrid(), 'What is happening?')
    core.warm_up()
    nothing = drafter.seen
    assert core.draft(DraftJob(1001)).events_used == 0          # no packet has come
    assert read(nothing) == read(drafter.seen)
    assert read is count_grid or not any(read(nothing))


@pytest.mark.parametrize('view, read', DRAFTERS)
def test_views_forget_at_a_reset_and_go_on(view, read):
    core, _, events = watched(view, read)
    core.reset()
    assert core.draft(DraftJob(1003)).events_used == 0
    packets, _ = packets_and_events('evt3', WIDTH, HEIGHT, host_ns=HOST)
    for packet in packets:
        core.add_packet(packet)
    assert core.draft(DraftJob(1003)).events_used == len(window_of(events, 1003 * S))


@pytest.mark.parametrize('view, read', DRAFTERS[1:])
def test_views_of_events_are_bounded_in_bytes_and_say_what_went(view, read):
    core, _, events = watched(view, read, buffer_bytes=1 << 14)
    used = core.draft(DraftJob(1003)).events_used
    assert used < len(window_of(events, 1003 * S)) and core._view.nbytes <= 1 << 14
    assert core.statistics()['buffer_bytes'] > 0


def test_views_two_drafters_of_one_window_are_told_apart():
    drafts = [watched(view, read, source=source)[0].draft(DraftJob(1003)) for source, view, read in (
        ('event_drafter', VoxelGrid(2, 4, 4), count_grid), ('eventgpt_7b', EventPictures(3, 15, 20), count_pictures))]
    assert {(draft.window_id, draft.source) for draft in drafts} == {(1003, 'event_drafter'), (1003, 'eventgpt_7b')}


@pytest.mark.parametrize('source', ['', 'Event', 'a b', 'a' * 33, 'größe', 'name\n'])
def test_views_a_bad_source_name_is_refused(source):
    with pytest.raises(CrossSpecError, match='source must be'):
        DraftingPipeline(Teller(VoxelGrid(2, 4, 4), count_grid), WindowGrid(), 'What is happening?', source=source)


def test_views_a_draft_names_the_question_it_was_made_for():
    core, drafter, _ = watched(VoxelGrid(2, 4, 4), lambda voxel: (1,))

    def turn(voxel):
        core.prompt = 'And now?'                                # another thread does so while the model runs
        return (1,)

    drafter.read = turn
    assert core.draft(DraftJob(1003)).prompt_key == prompt_key('What is happening?')
    assert core.draft(DraftJob(1003)).prompt_key == prompt_key('And now?')


@pytest.mark.parametrize('make, rule', [
    pytest.param(lambda: VoxelGrid(0, 4, 4), 'bins of a view must be > 0, got 0', id='no bins'),
    pytest.param(lambda: EventPictures(1, -1, 4), 'height of a view must be > 0, got -1', id='no height'),
    pytest.param(lambda: RawSlices(float('nan'), 4), 'span_ms of a view must be > 0, got nan', id='no span'),
    pytest.param(lambda: build_view('voxels', WindowGrid(), lead_ns=0, max_bytes=1 << 20), 'view must be a VoxelGrid',
                 id='no view')])
def test_views_that_cannot_be_are_refused(make, rule):
    with pytest.raises(CrossSpecError, match=rule):
        make()
