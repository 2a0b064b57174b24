"""The bench of events: everything it names is measured, and its peers decode the same."""
import numpy as np
import pytest
from event_streams import assert_same_events, random_events

from crossspec_ros.bench import events as bench
from crossspec_ros.bench.events_peers import decode_evt3_numpy
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.encode import encode_evt3


def test_measure_names_figures_ratios_and_hardware():
    result = bench.measure(None, rounds=1, events=3000, seed=1)
    assert {'stream', 'packets', 'fused voxel_grid', 'two steps voxel_grid', 'numpy', 'histogram', 'voxel_grid'} <= set(
        result['mev_s']
    )
    assert {'packets / fastest other', 'fused voxel_grid / two steps', 'histogram / numpy'} <= set(result['ratio'])
    assert all(value > 0 for value in [*result['mev_s'].values(), *result['ratio'].values()])
    assert 'CPUs' in result['hardware'] and '3000 events' in result['source']


def test_numpy_decoder_gives_the_same_events():
    events = random_events(1, 3000)
    assert_same_events(decode_evt3_numpy(encode_evt3(events).view(np.uint16), 64, 48), events)


def test_measure_refuses_a_bag_without_events(tmp_path):
    with pytest.raises(CrossSpecError):
        bench.measure(str(tmp_path / 'nothing'), rounds=1, events=1, seed=0)
