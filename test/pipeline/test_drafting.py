"""Packets in, drafts out, by windows."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from event_streams import packets_and_events

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import encode_mono
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.pipeline.drafting import DraftingPipeline, DraftJob
from crossspec_ros.speculation.drafter import VoxelGrid
from crossspec_ros.speculation.types import Opening, Verdict, prefix_hash, prompt_key
from crossspec_ros.timing.when import Speaking
from crossspec_ros.timing.window import WindowGrid

S, MS = 1_000_000_000, 1_000_000
HOST = 1000 * S                                                 # the host's clock when the sensor's was 0


class Speller:
    """A drafter that says how many events it saw, with tokens 1, 2, 3 after the prefix."""

    view, tokenizer_key = VoxelGrid(2, 4, 4), 'tokens'

    def __init__(self):
        self.asked, self.voxel = [], None

    def draft(self, voxel, *, prompt, prefix_ids=(), max_tokens=64, should_stop=None):
        self.voxel = voxel
        self.asked.append((float(np.abs(voxel).sum()), tuple(prefix_ids)))
        return SimpleNamespace(token_ids=(1, 2, 3), parents=(), weights=(5, 5, 5), text='text', compute_ms=1.0)


def packet(begin_ms: int, count: int = 10, span_ms: int = 10, **changes) -> Packet:
    """A packet of ``count`` events from ``begin_ms`` of sensor time on, stamped when it began."""
    t_ns = begin_ms * MS + np.arange(count, dtype=np.int64) * (span_ms * MS // max(count, 1))
    zeros = np.zeros(count, np.uint16)
    events = Events(t_ns, zeros, zeros, np.ones(count, np.uint8), 4, 4)
    base_ns = begin_ms * MS
    fields = dict(encoding='mono', width=4, height=4, seq=begin_ms, time_base_ns=base_ns, stamp_ns=HOST + base_ns,
                  payload=encode_mono(events, base_ns), is_bigendian=False)
    return Packet(**(fields | changes))


def pipeline(**changes) -> DraftingPipeline:
    return DraftingPipeline(Speller(), WindowGrid(), 'What is happening?', **changes)


def feed(core: DraftingPipeline, begin_ms: int, end_ms: int) -> list[tuple[int, DraftJob]]:
    """Packets every 10 ms, each looked after when it is whole; what fell due and when (ms)."""
    found = []
    for at in range(begin_ms, end_ms, 10):
        core.add_packet(packet(at))
        found += [(at + 10, job) for job in core.due(HOST + (at + 10) * MS)]
    return found


def test_drafting_window_is_due_before_its_end_and_at_it():
    due = feed(pipeline(), 0, 1100)
    assert [(job.window_id, job.early) for _, job in due] == [(1001, True), (1001, False)]
    assert due[0][0] == 880 and due[1][0] <= 1020


def test_drafting_without_lead_drafts_at_the_end_only():
    assert [job.early for _, job in feed(pipeline(lead_ms=0), 0, 1100)] == [False]


def test_drafting_missing_last_packet_is_not_waited_for():
    core = pipeline(grace_ms=15)
    feed(core, 0, 900)
    assert core.due(HOST + 1014 * MS) == []
    assert [job.window_id for job in core.due(HOST + 1015 * MS)] == [1001]


def test_drafting_long_packets_are_waited_for():
    core = pipeline(lead_ms=0, grace_ms=15)
    for at in range(10, 970, 40):                               # a packet is here 5 ms after its last event
        core.add_packet(packet(at, count=40, span_ms=40))
        core.due(HOST + (at + 44) * MS)
    # the packet up to 1010 ms comes at 1014 ms, or a little later
    assert core.due(HOST + 1030 * MS) == []
    core.add_packet(packet(970, count=40, span_ms=40))
    assert [job.window_id for job in core.due(HOST + 1031 * MS)] == [1001]


def test_drafting_longest_wait_is_bounded():
    core = pipeline(lead_ms=0, grace_ms=15)
    for at in (0, 900):
        core.add_packet(packet(at))
        core.due(HOST + (at + 10) * MS)
    assert core.due(HOST + 1099 * MS) == []
    assert [job.window_id for job in core.due(HOST + 1100 * MS)] == [1001]


def test_drafting_still_scene_gets_drafts_until_the_camera_is_silent_for_long():
    core = pipeline(idle_ms=2000, lead_ms=0)
    feed(core, 0, 500)
    assert [core.due(HOST + at * MS) != [] for at in (1100, 2100, 3100)] == [True, True, False]


def test_drafting_before_any_packet_is_silent():
    assert pipeline().due(HOST) == []


def test_drafting_after_a_stall_drafts_the_newest_windows_only():
    core = pipeline(lead_ms=0)
    core.add_packet(packet(0))
    core.add_packet(packet(9500))
    assert [job.window_id for job in core.due(HOST + 9510 * MS)] == [1008, 1009]
    assert core.counts['windows_skipped'] == 7


def test_drafting_sees_the_events_of_its_window_only():
    core = pipeline()
    # the event on the end is the window's, the one on its start not
    feed(core, 0, 2010)
    draft = core.draft(DraftJob(1002))
    assert draft.events_used == 1000 and draft.window_end_ns == 1002 * S
    assert (draft.prompt_key, draft.tokenizer_key) == (prompt_key('What is happening?'), 'tokens')


def test_drafting_early_draft_sees_a_whole_span():
    core = pipeline()
    feed(core, 0, 1880)
    assert core.draft(DraftJob(1002, early=True)).events_used == 1000


def test_drafting_window_without_events_gets_a_draft():
    core = pipeline()
    core.add_packet(packet(0))
    draft = core.draft(DraftJob(1005))
    assert draft.events_used == 0 and draft.token_ids == (1, 2, 3)


def test_drafting_revisions_rise_within_a_window():
    core = pipeline()
    core.add_packet(packet(0))
    assert [core.draft(DraftJob(window)).revision for window in (1001, 1001, 1002)] == [0, 1, 0]


def verdict(committed: tuple[int, ...], final: bool = False) -> Verdict:
    return Verdict(1001, 1001 * S, committed, prefix_hash(committed), 1, final)


@pytest.mark.parametrize('committed, final, wanted', [
    pytest.param((1, 2), False, False, id='draft holds'),
    pytest.param((1, 9), False, True, id='draft is refuted'),
    pytest.param((1, 9), True, False, id='too late'),
    pytest.param((), False, False, id='nothing committed')])
def test_drafting_rolls_back_to_a_verdict_that_departs(committed, final, wanted):
    core = pipeline()
    core.add_packet(packet(0))
    core.draft(DraftJob(1001))
    job = core.on_verdict(verdict(committed, final))
    assert (job is not None) == wanted
    if job:
        draft = core.draft(job)
        assert (draft.base_length, draft.base_hash) == (2, prefix_hash(committed))
        assert core.on_verdict(verdict((*committed, 1))) is None         # the new draft holds


def test_drafting_redrafts_are_bounded():
    core = pipeline(redrafts=1)
    core.add_packet(packet(0))
    core.draft(DraftJob(1001))
    assert core.on_verdict(verdict((9,))) is not None
    assert core.on_verdict(verdict((9, 9))) is None


def test_drafting_verdict_of_an_unknown_window_asks_for_nothing():
    assert pipeline().on_verdict(verdict((9,))) is None


def test_drafting_time_that_goes_back_begins_anew():
    core = pipeline()
    feed(core, 5000, 6100)
    due = feed(core, 0, 1100)
    assert [(job.window_id, job.early) for _, job in due] == [(1001, True), (1001, False)]
    assert core.counts['time_went_back'] == 1


@pytest.mark.parametrize('changes', [pytest.param({'encoding': 'evt9'}, id='unknown encoding'),
                                     pytest.param({'width': 0}, id='no width')])
def test_drafting_refused_packet_leaves_the_rest(changes):
    core = pipeline()
    feed(core, 0, 500)
    with pytest.raises(CrossSpecError):
        core.add_packet(packet(500, **changes))
    feed(core, 510, 1010)
    assert core.draft(DraftJob(1001)).events_used == 990


def test_drafting_counts_what_it_decodes():
    core = pipeline()
    feed(core, 0, 100)
    counts = core.statistics()
    assert (counts['packets'], counts['events']) == (10, 100)


def test_drafting_changed_sensor_size_is_followed():
    core = pipeline()
    feed(core, 0, 500)
    core.add_packet(packet(500, width=8, height=8))
    assert core.counts['format_changed'] == 1


@pytest.mark.parametrize('grid', [
    pytest.param(WindowGrid(), id='tumbling'), pytest.param(WindowGrid(8, 125.0, 2), id='sliding'),
    pytest.param(WindowGrid(5, 33.0, 5), id='unaligned')])
@pytest.mark.parametrize('lead_ms', [0, 125, 70.5])
def test_drafting_draws_each_window_as_the_events_say(grid, lead_ms):
    packets, stamped = packets_and_events('evt3', 40, 30, host_ns=HOST)
    events = Events(stamped.t_ns - HOST, stamped.x, stamped.y, stamped.p, 40, 30)
    drafter = Speller()
    core = DraftingPipeline(drafter, grid, 'What is happening?', lead_ms=lead_ms)
    seen = 0
    for each in packets:
        core.add_packet(each)
        for job in core.due(each.stamp_ns + 10 * MS):
            draft = core.draft(job)
            end_ns = grid.end_ns(job.window_id) - HOST - (round(lead_ms * MS) if job.early else 0)
            covered = events.t_ns <= core._newest_ns - HOST
            past = Events(events.t_ns[covered], events.x[covered], events.y[covered], events.p[covered], 40, 30)
            wanted = voxel_grid(past, end_ns - grid.span_ns, end_ns, bins=2, shape=(4, 4))
            np.testing.assert_allclose(drafter.voxel, wanted, atol=0.01)
            assert draft.events_used == np.count_nonzero((past.t_ns > end_ns - grid.span_ns) & (past.t_ns <= end_ns))
            seen += draft.events_used > 0
    assert seen >= 3


def test_drafting_clocks_that_jump_apart_forget_what_came_before():
    core = pipeline()
    feed(core, 0, 900)
    for at in range(900, 1500, 10):                             # the sensor's clock is an hour ahead now
        core.add_packet(replace(packet(at + 3_600_000), stamp_ns=HOST + at * MS))
    assert core.statistics()['clock_jumps'] == 1
    assert core.draft(DraftJob(1001)).events_used == 101 and core.draft(DraftJob(1002)).events_used == 499


def test_drafting_offset_that_improves_moves_what_comes_after():
    """A packet that was held up on its way told of an offset 40 ms too large."""
    core = pipeline()
    core.add_packet(replace(packet(0), stamp_ns=HOST + 40 * MS))
    feed(core, 10, 1010)
    assert core.draft(DraftJob(1001)).events_used == 1001      # the first event, on the start, is 40 ms later
    assert core.statistics()['clock_jumps'] == core.statistics()['buffer_late'] == 0


def test_drafting_counts_triggers_of_evt3():
    core = pipeline()
    payload = np.array([0x8001, 0x6000, 0x2001, 0xA001, 0xA100], '<u2').view(np.uint8)
    core.add_packet(Packet('evt3', 40, 30, 0, 0, HOST, payload))
    assert (core.statistics()['triggers'], core.statistics()['events']) == (2, 1)


def test_drafting_memory_does_not_grow_with_the_rate():
    """Windows need moments of their slices, however many events there are."""
    core = pipeline()
    sizes = []
    for count in (10, 20_000):
        core.reset()
        for at in range(0, 3000, 10):
            core.add_packet(packet(at, count=count))
        sizes.append(core._view.nbytes)
    assert sizes[1] <= 3 * sizes[0] + 1000


def by_change(grid_too: bool = False) -> DraftingPipeline:
    return DraftingPipeline(Speller(), WindowGrid(stride_frames=1), 'What is happening?',
                            speaking=Speaking(8, 2, 40, 0.14, grid_too))


def scene(core: DraftingPipeline, begin_ms: int, end_ms: int, place: int) -> list[DraftJob]:
    """Packets of 50 events in one cell of four by four; what fell due."""
    jobs = []
    for at in range(begin_ms, end_ms, 10):
        t_ns = at * MS + np.arange(50, dtype=np.int64) * MS // 5
        spot = np.full(50, place, np.uint16)
        core.account.receive()
        core.add_packet(packet(at, payload=encode_mono(Events(t_ns, spot, spot, np.ones(50, np.uint8), 4, 4), at * MS)))
        jobs += core.due(HOST + (at + 10) * MS)
    return jobs


def test_drafting_by_change_drafts_what_it_opens_and_tells_of_every_slot():
    core = by_change()
    jobs, told = [], []
    for begin, end, place in ((0, 3000, 0), (3000, 5000, 3)):
        for at in range(begin, end, 100):
            jobs += scene(core, at, at + 100, place)
            told += core.take_changes()
    slots = [each.window_id for each in told]
    assert slots == list(range(slots[0], slots[0] + len(slots)))
    opened = {each.window_id: each.reason for each in told if each.reason is not Opening.NONE}
    first = 8 * 1000 + 8
    assert opened == {first: Opening.FIRST, first + 17: Opening.CHANGE, first + 24: Opening.SETTLED}
    assert jobs == [DraftJob(window) for window in opened]
    assert core.counts['windows_unchanged'] == 2 and core.counts['windows_change'] == 1
    for job in jobs:
        assert core.draft(job).window_end_ns == job.window_id * 125 * MS


def test_drafting_by_change_accounts_for_every_packet():
    core = by_change()
    for at in range(0, 4000, 100):
        for job in scene(core, at, at + 100, 0):
            core.draft(job)
    balance = core.account.balance()
    assert balance.received == 400 == balance.used + balance.waiting + sum(balance.dropped.values())
    assert set(balance.dropped) == {'unchanged'} and balance.waiting <= 130


def test_drafting_both_gives_early_drafts_of_the_grid_only():
    core = by_change(grid_too=True)
    jobs = scene(core, 0, 3000, 0)
    assert [job.window_id for job in jobs if job.early] == [8008, 8016, 8024]
    assert [job.window_id for job in jobs if not job.early] == [8008, 8016]


def test_drafting_another_question_opens_a_window():
    core = by_change()
    scene(core, 0, 3000, 0)
    core.take_changes()
    core.prompt = 'What is ahead?'
    assert scene(core, 3000, 3200, 0) and core.take_changes()[0].reason is Opening.FIRST


def _verdict(**changes) -> Verdict:
    return Verdict(**(dict(window_id=1001, window_end_ns=1001 * S, committed=(1, 9), committed_hash=prefix_hash((1, 9)),
                           target_passes=1, final=False) | changes))


def test_drafting_says_whether_the_drafter_learned_from_the_verifier_that_is_heard():
    core = pipeline()
    core.drafter.verifier_key = 'feed'
    feed(core, 0, 1100)
    assert core.draft(DraftJob(1001)).trained_for == 'feed' and not core.draft(DraftJob(1001)).other_verifier
    core.on_verdict(_verdict(verifier_key='feed'))
    assert not core.draft(DraftJob(1001)).other_verifier
    core.on_verdict(_verdict(verifier_key='cafe', final=True))
    assert core.draft(DraftJob(1001)).other_verifier
    core.on_verdict(_verdict())                                # one that does not say it changes nothing
    assert core.other_verifier


def test_drafting_that_does_not_say_what_it_learned_from_is_not_told_apart():
    core = pipeline()
    core.on_verdict(_verdict(verifier_key='cafe'))
    assert not core.other_verifier


@pytest.mark.parametrize(('key', 'goes_on'), [('tokens', True), ('', True), ('others', False)])
def test_drafting_goes_on_from_verdicts_in_its_own_tokens_only(key, goes_on):
    core = pipeline()
    feed(core, 0, 1100)
    core.draft(DraftJob(1001))
    assert (core.on_verdict(_verdict(tokenizer_key=key)) is not None) is goes_on


def test_drafting_another_drafter_takes_over_where_it_speaks_the_same_tokens():
    core, same, other = pipeline(), Speller(), Speller()
    other.tokenizer_key = 'of another vocabulary'
    core.adopt(same)
    with pytest.raises(CrossSpecError, match='of another vocabulary'):
        core.adopt(other)
    assert core.drafter is same
