"""The critical path of a window, from a timeline made by hand: the stages, in order, that add up to the age."""
import pytest
from trace_rules import broken

from crossspec_ros.tracing.path import STAGES, critical_paths, flatten, track
from crossspec_ros.tracing.summary import in_words, summarise
from crossspec_ros.tracing.timeline import Part, join

MS = 1000.0                     # us
END = 1_000_000.0               # of window 5, in us of the clock
PID, CALLS, WORK = 10, 10, 11


def slice_(name, start_ms, length_ms, tid=WORK, core_ms=None, pid=PID, **args):
    event = {'name': name, 'ph': 'X', 'pid': pid, 'tid': tid, 'ts': END + start_ms * MS, 'dur': length_ms * MS,
             'tdur': (length_ms if core_ms is None else core_ms) * MS}
    return event | ({'args': args} if args else {})


def instant(name, at_ms, **args):
    return {'name': name, 'ph': 'i', 's': 't', 'pid': PID, 'tid': WORK, 'ts': END + at_ms * MS, 'args': args}


def image(at_ms, length_ms=1.0, sent=4.0, received=1.0):
    return slice_('image arrives', at_ms, length_ms, CALLS, since_sent_ms=sent, since_received_ms=received)


def answer(window, start_ms, length_ms):
    return slice_('answer', start_ms, length_ms, window=window)


def publish(at_ms, window=5, stage='FINAL', passes=2):
    return slice_('publish', at_ms, 1.0, window=window, stage=stage, age_ms=at_ms, passes=passes)


def typical():
    """Sent 4 ms after the end; one rehearsal in the way; two passes with garbage collected in the second."""
    return [
        image(8.0, 2.0), slice_('unpack', 8.5, 1.0, CALLS),
        slice_('rehearse', 6.0, 6.0), slice_('verify', 7.0, 4.0),
        instant('window whole', 12.5, window=5),
        slice_('feed', 13.0, 4.0, window=5), slice_('encode', 13.0, 3.0), slice_('prefill', 16.0, 1.0),
        answer(5, 18.0, 30.0), slice_('propose', 18.0, 1.0), slice_('verify', 19.0, 10.0, core_ms=4.0),
        slice_('accept', 29.0, 1.0), publish(30.0, stage='PARTIAL'), slice_('observe', 31.0, 1.0),
        slice_('propose', 32.0, 1.0), slice_('verify', 33.0, 8.0), slice_('gc', 35.0, 2.0),
        slice_('commit', 41.0, 1.0), publish(42.0), slice_('observe', 43.0, 4.0),
    ]


def timeline_of(events, heard=True):
    def head(tid, name):
        return {'name': 'thread_name', 'ph': 'M', 'pid': PID, 'tid': tid, 'args': {'name': name}}
    parts = [Part('verifier', PID, {'perf_ns': 0, 'system_ns': 0, 'host': 'a'},
                  [head(CALLS, 'MainThread'), head(WORK, 'captioning'), *events])]
    if heard:
        monitor = slice_('caption arrives', 45.0, 0.1, 20, pid=20, window=5, stage='FINAL')
        name = {'name': 'thread_name', 'ph': 'M', 'pid': 20, 'tid': 20, 'args': {'name': 'MainThread'}}
        parts.append(Part('monitor', 20, {'perf_ns': 0, 'system_ns': 0, 'host': 'a'}, [name, monitor]))
    return join(parts)


def path_of(events, **options):
    path, = critical_paths(timeline_of(events, **options))
    return path


def test_stages_of_a_window_add_up_to_the_age_of_its_caption():
    path = path_of(typical())
    stages = {stage: round(value, 6) for stage, value in path.stage_ms().items() if value}
    assert stages == {
        'camera': 4.0, 'transport': 3.0, 'callback': 2.0, 'unpack': 1.0, 'rehearsal': 2.0, 'settle': 0.5,
        'encode': 3.0, 'prefill': 1.0, 'propose': 2.0, 'first pass': 4.0, 'no core': 6.0, 'later passes': 6.0,
        'garbage': 2.0, 'accept': 2.0, 'learn': 1.0, 'publish': 2.0, 'wait': 1.5}
    assert sum(stages.values()) == pytest.approx(43.0) == path.age_ms
    assert path.passes == 2 and path.monitor_ms == pytest.approx(2.0) and path.window_id == 5


def test_pieces_follow_one_another_without_a_gap():
    pieces = path_of(typical()).pieces
    assert all(left.end_us == pytest.approx(right.start_us) for left, right in zip(pieces, pieces[1:]))


def test_a_frame_that_was_there_before_the_end_leaves_the_wait_for_the_slot():
    events = [image(-30.0), instant('window whole', 60.0, window=5), answer(5, 60.0, 10.0),
              slice_('verify', 60.0, 9.0), publish(69.0, passes=1)]
    stages = path_of(events).stage_ms()
    assert (stages['settle'], stages['first pass'], stages['publish']) == pytest.approx((60.0, 9.0, 1.0))
    assert stages['camera'] == stages['transport'] == 0.0


def test_a_frame_that_comes_after_the_slot_was_settled_is_not_the_one():
    events = [image(2.0), image(30.0), instant('window whole', 20.0, window=5), answer(5, 40.0, 10.0),
              slice_('verify', 40.0, 9.0), publish(49.0)]
    stages = path_of(events).stage_ms()
    assert stages['settle'] == pytest.approx(17.0) and stages['wait'] == pytest.approx(20.0)


def test_work_for_another_window_is_told_as_such():
    events = [image(0.0), instant('window whole', 1.0, window=5), answer(4, -5.0, 20.0), slice_('verify', -5.0, 19.0),
              answer(5, 15.0, 10.0), slice_('verify', 15.0, 9.0), publish(24.0)]
    stages = path_of(events).stage_ms()
    assert stages['other window'] == pytest.approx(14.0)
    assert stages['first pass'] == pytest.approx(9.0) and stages['later passes'] == 0.0


def test_a_window_that_is_nearly_answered_at_its_end_has_its_last_passes_only():
    events = [image(-60.0), instant('window whole', -50.0, window=5), answer(5, -40.0, 45.0),
              slice_('verify', -40.0, 20.0), slice_('verify', -15.0, 18.0), publish(4.0)]
    stages = path_of(events).stage_ms()
    assert stages['first pass'] == 0.0 and stages['later passes'] == pytest.approx(3.0)
    assert sum(stages.values()) == pytest.approx(5.0)


def test_windows_without_a_caption_or_without_their_start_have_no_path():
    assert critical_paths(timeline_of([image(0.0), instant('window whole', 1.0, window=5)])) == []
    assert critical_paths(timeline_of([publish(24.0)])) == []
    assert critical_paths(timeline_of([instant('window whole', -3.0, window=5), publish(-2.0)])) == []


def test_without_a_monitor_the_path_ends_with_the_publication():
    assert path_of(typical(), heard=False).monitor_ms is None


def test_track_has_a_row_for_windows_that_overlap_and_keeps_the_format():
    timeline = timeline_of(typical(), heard=False)
    paths = critical_paths(timeline)
    events = timeline.events + track(timeline, [*paths, *paths])
    assert not broken(events)
    rows = {event['tid'] for event in events if event['ph'] == 'X' and event['name'] == 'window 5'}
    assert len(rows) == 2


def test_flatten_cuts_what_reaches_out_of_what_holds_it():
    pieces = [(piece.stage, piece.start_us, piece.end_us) for piece in flatten([
        {'name': 'encode', 'ts': 0.0, 'dur': 10.0}, {'name': 'gc', 'ts': 8.0, 'dur': 4.0}])]
    assert pieces == [('encode', 0.0, 8.0), ('garbage', 8.0, 10.0), ('garbage', 10.0, 12.0)]


def test_summary_of_the_middle_and_of_the_slowest():
    path = path_of(typical())
    summary = summarise([path] * 3)
    assert summary['bars']['p50'] == summary['bars']['p99'] | {'windows': 1}
    assert summary['bars']['p50']['age_ms'] == pytest.approx(43.0) and len(summary['windows']) == 3
    assert sum(each['share'] for each in summary['by_stage'].values()) == pytest.approx(1.0, abs=1e-3)
    assert set(summary['by_stage']) <= set(STAGES) and summary['monitor_ms'] == pytest.approx(2.0)
    assert any(line.startswith('first pass') for line in in_words(summary))


def test_summary_of_nothing_says_so():
    assert summarise([])['windows'] == [] and in_words(summarise([])) == ['no window with a caption is in this trace']
