"""Parts of real nodes over real DDS: they line up, and the one of a node that was killed is as good as the others."""
import psutil
import pytest
from graph_harness import Graph
from trace_rules import broken

from crossspec_ros.msg import Caption
from crossspec_ros.tracing.path import critical_paths
from crossspec_ros.tracing.timeline import join, read_parts

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def test_parts_of_a_graph_with_a_killed_verifier_make_one_timeline(tmp_path, models):
    parts = tmp_path / 'parts'
    with Graph(tmp_path, models) as graph:
        monitor, _ = (graph.start(kind, trace__folder=str(parts)) for kind in ('monitor', 'drafter'))
        verifier = graph.start('verifier', trace__folder=str(parts), decode__max_new_tokens=12)
        graph.probe.start_cameras()
        graph.probe.wait_for(lambda: sum(each.stage == Caption.FINAL for each in graph.probe.captions) >= 4,
                             'four final captions')
        # What only looks on leaves the cores to the models.
        assert psutil.Process(monitor.pid).nice() >= psutil.Process(verifier.pid).nice() + 10
        graph.processes.kill('verifier')
        assert [graph.processes.end(kind) for kind in ('drafter', 'monitor')] == [0, 0]
        captions = {each.window_id: each for each in graph.probe.captions if each.stage == Caption.FINAL}
    timeline = join(read_parts(parts))
    assert not broken(timeline.events)
    assert any(event['name'] == 'process_name' and event['pid'] == verifier.pid
               and event['args']['name'] == 'verifier' for event in timeline.events)
    paths = critical_paths(timeline)
    assert {path.window_id for path in paths} <= set(captions) | {max(captions) + 1} and len(paths) >= 2
    for path in paths:
        assert path.pid == verifier.pid and sum(path.stage_ms().values()) == pytest.approx(path.age_ms)
        stages = path.stage_ms()
        assert stages['first pass'] > 0 and stages['publish'] > 0 and min(stages.values()) >= 0
        # The camera sends a frame each 60 ms: none that settles a slot is further from its end, but for a busy machine.
        assert path.monitor_ms is None or path.monitor_ms > -1.0
    drafts = timeline.slices('publish draft')
    assert drafts and {draft['args']['window'] for draft in drafts} & {path.window_id for path in paths}
