"""Parts of real nodes over real DDS: they line up, and the one of a node that was killed is as good as the others."""
import pytest
from graph_harness import Graph
from trace_rules import broken

from crossspec_ros.msg import Caption
from crossspec_ros.tracing.path import critical_paths
from crossspec_ros.tracing.timeline import join, read_parts

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]


def finals(graph: Graph) -> dict[int, Caption]:
    """Final captions that were heard, by window."""
    return {each.window_id: each for each in graph.probe.captions if each.stage == Caption.FINAL}


def test_parts_of_a_graph_with_a_killed_verifier_make_one_timeline(tmp_path, models):
    parts = tmp_path / 'parts'
    with Graph(tmp_path, models) as graph:
        for kind in ('monitor', 'drafter'):
            graph.start(kind, trace__folder=str(parts))
        verifier = graph.start('verifier', trace__folder=str(parts), decode__max_new_tokens=12)
        graph.probe.start_cameras()
        graph.probe.wait_for(lambda: len(finals(graph)) >= 4, 'four final captions')
        graph.probe.wait_for(lambda: {draft.window_id for draft in graph.probe.drafts} & set(finals(graph)),
                             'a window with a draft and a caption')
        # What a process had not yet written when it was killed is not there: not before two paths are on the disk.
        graph.probe.wait_for(lambda: len(critical_paths(join(read_parts(parts)))) >= 2, 'two paths in the parts')
        graph.processes.kill('verifier')
        assert [graph.processes.end(kind) for kind in ('drafter', 'monitor')] == [0, 0]
        captions = finals(graph)
    timeline = join(read_parts(parts))
    assert not broken(timeline.events)
    assert any(event['name'] == 'process_name' and event['pid'] == verifier.pid
               and event['args']['name'] == 'verifier' for event in timeline.events)
    paths = critical_paths(timeline)
    assert {path.window_id for path in paths} <= set(captions) | {max(captions) + 1} and len(paths) >= 2
    for path in paths:
        assert path.pid == verifier.pid and sum(path.stage_ms().values()) == pytest.approx(path.age_ms)
        stages = path.stage_ms()
        assert stages['publish'] + stages['no core'] > 0 and min(stages.values()) >= 0
        assert path.monitor_ms is None or path.monitor_ms >= 0.0
    assert any(path.stage_ms()['first pass'] > 0 for path in paths)     # some may be answered before their end
    drafted = {draft['args']['window'] for draft in timeline.slices('publish draft')}
    assert drafted and drafted & set(captions)
