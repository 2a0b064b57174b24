"""What a demo says of a recording from which nothing, or only half of it, came."""
from crossspec_ros.demo.orchestrate import critical_path, declare_nodes, drain_s, outcome
from crossspec_ros.demo.options import DemoOptions, SourceTopics
from crossspec_ros.recordings.outlook import Passed, Passing
from crossspec_ros.timing.window import WindowGrid

S = 1_000_000_000


def _passing(rate_hz=10.0, seconds=3.0, events=True):
    passing = Passing(['a note'])
    stamps = [round(i / rate_hz * S) for i in range(1, round(rate_hz * seconds))]
    passing.images = Passed('/image', stamps, stamps)
    if events:
        passing.events = Passed('/events', [6 * S, 8 * S], [6 * S, 8 * S])
    return passing


def _report(drafted=(), captioned=(), dropped=()):
    entries = [{'window_id': i, 'draft': 'a' if i in drafted else None, 'caption': 'b' if i in captioned else None}
               for i in sorted({*drafted, *captioned})]
    return {'drafts': len(drafted), 'captions': len(captioned), 'captions_by_window': entries,
            'dropped': {'verifier': dict(dropped)}}


def test_a_demo_with_images_needs_captions_one_without_them_drafts():
    grid = WindowGrid()
    assert outcome(_report(), None, grid) == {'notes': [], 'reason': None}
    assert '29 images' not in str(outcome(_report({1}, {1}), _passing(), grid))
    told = outcome(_report({1}, (), {'window_overtaken': 3}), _passing(), grid)
    assert told['notes'] == ['a note'] and told['reason'].endswith('gave no caption; dropped: window_overtaken 3')
    passing = _passing()
    passing.images = Passed()
    assert outcome(_report({1}), passing, grid)['reason'] is None
    assert 'gave no draft' in outcome(_report(), passing, grid)['reason']


def test_a_demo_says_where_drafts_and_captions_never_meet_and_where_windows_were_given_up():
    notes = outcome(_report({7}, {1, 2}), _passing(), WindowGrid())['notes']
    assert len(notes) == 2 and 'no window has both' in notes[1]
    notes = outcome(_report({1}, {1}, {'window_few_frames': 2}), _passing(rate_hz=4.0), WindowGrid())['notes']
    assert len(notes) == 2 and notes[1].startswith('2 windows had images in fewer than half')


def test_all_nodes_of_a_demo_of_a_slow_camera_have_its_windows(tmp_path):
    options = DemoOptions(frame_interval_ms=400.0, out=tmp_path)
    specs = {spec.name: spec.parameters for spec in declare_nodes(options, SourceTopics(True, 'raw'), tmp_path)}
    assert {name for name, values in specs.items() if values.get('window.frame_interval_ms') == 400.0} == {
        'drafter', 'verifier', 'overlay', 'monitor'}
    assert specs['player']['align_ms'] == 3200.0 and specs['player']['drain_s'] == drain_s(options) > 3.2


def test_timeline_that_cannot_be_written_leaves_the_report(tmp_path, caplog):
    parts = tmp_path / 'parts'
    parts.mkdir()
    assert critical_path(parts, None, ()) is None and not caplog.records
    assert critical_path(parts, tmp_path / 'trace.json', ()) is None
    assert 'no timeline: ' in caplog.text and 'must be a folder with the parts of a trace' in caplog.text
