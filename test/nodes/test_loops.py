"""A recording that is played over and over by the wall clock: captions in each pass."""
import re

import pytest
from graph_harness import Graph

from crossspec_ros.events.encode import Packetizer
from crossspec_ros.recordings.bag import BagWriter
from crossspec_ros.world import World

pytestmark = pytest.mark.graph
SECONDS = 3


def write_bag(path) -> None:
    world, packetizer = World(1, 64, 48), Packetizer('evt3', 64, 48)
    with BagWriter(path) as bag:
        for stamp_ns, kind, payload in world.stream(0.0, float(SECONDS)):
            if kind == 'image':
                bag.write_rgb('/camera/image_raw', stamp_ns, stamp_ns, payload)
            elif len(payload):
                bag.write_packet('/event_camera/events', stamp_ns, packetizer.packet(payload, stamp_ns))


@pytest.mark.long
def test_each_pass_of_a_loop_has_drafts_and_captions(tmp_path, models):
    write_bag(tmp_path / 'bag')
    with Graph(tmp_path, models) as graph:
        probe = graph.probe
        for kind in ('drafter', 'verifier'):
            graph.start(kind)
        for kind in ('drafter', 'verifier'):
            probe.wait_for(lambda kind=kind: kind in str(probe.diagnostics), kind)
        graph.start('player', source=str(tmp_path / 'bag'), clock='wall', loop=True, wait_for='drafter verifier')
        for number in range(2, 6):
            probe.wait_for(lambda number=number: f'pass {number} of' in graph.processes.log('player'), f'pass {number}')
            drafts, captions = len(probe.drafts), len(probe.captions)
            probe.wait_for(lambda: len(probe.drafts) > drafts, f'drafts from pass {number} on')
            probe.wait_for(lambda: len(probe.captions) > captions, f'captions from pass {number} on')
        ids = [caption.window_id for caption in probe.captions]
        assert ids == sorted(ids)
        assert not re.search('Traceback', graph.processes.log('verifier'))
