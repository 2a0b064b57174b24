"""The policy of SROS2 against real nodes: each may do what it does, and no more."""
import pytest
from graph_harness import Graph

from crossspec_ros.security import _resolved, access_of

pytestmark = [pytest.mark.graph, pytest.mark.timeout(600)]
# Allowed, and there or not by parameters, by installed message types, or by what the middleware shows of a node.
OPTIONAL = {'/image', '/image/compressed', '/events', '/overlay/text', '/overlay/annotations', '/clock',
            '/parameter_events', '/hard_braking', '/imu', '/scene_change', '/drafter/learn/save',
            '/drafter/learn/roll_back'}


@pytest.mark.parametrize('kind', ['drafter', 'qualifier', 'verifier', 'overlay', 'monitor', 'keeper'])
def test_a_node_does_what_its_policy_says(tmp_path, models, kind):
    with Graph(tmp_path, models) as graph:
        graph.start(kind)
        node = graph.probe.node
        allowed = {rule: set(names) for rule, names in _resolved(access_of(kind), '', kind, {}).items()}

        def seen() -> dict[tuple[str, str], set[str]]:
            ways = {('topics', 'publish'): node.get_publisher_names_and_types_by_node,
                    ('topics', 'subscribe'): node.get_subscriber_names_and_types_by_node,
                    ('services', 'reply'): node.get_service_names_and_types_by_node}
            return {rule: {name for name, _ in ask(kind, '/') if '/_action/' not in name}
                    for rule, ask in ways.items()}

        def known() -> bool:
            return kind in node.get_node_names() and all(allowed[rule] - names <= OPTIONAL
                                                         for rule, names in seen().items())
        try:
            graph.probe.wait_for(known, 'all that the node may do', 60.0)
        finally:
            missing = {rule: allowed[rule] - names - OPTIONAL for rule, names in seen().items()} \
                if kind in node.get_node_names() else allowed
            assert not any(missing.values()), f'allowed, but not there: {missing}'
        assert not {rule: names - allowed[rule] for rule, names in seen().items() if names - allowed[rule]}
