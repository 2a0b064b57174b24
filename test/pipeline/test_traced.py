"""What the cores tell of themselves while a trace is written."""
import numpy as np
import pytest
from tiny_models import write_checkpoint
from trace_rules import broken

from crossspec_ros.config import VerifierConfig
from crossspec_ros.frames.slots import Frame
from crossspec_ros.pipeline.building import build_verifying
from crossspec_ros.speculation.types import Caption, Stage
from crossspec_ros.tracing.timeline import join, read_parts
from crossspec_ros.tracing.tracer import TRACER

MS = 1_000_000


@pytest.fixture
def traced(tmp_path):
    """The process's tracer writes; a function gives the timeline and ends it."""
    def timeline():
        TRACER.close()
        return join(read_parts(tmp_path / 'parts'))
    TRACER.open(tmp_path / 'parts', '/verifier')
    yield timeline
    TRACER.close()


@pytest.fixture(scope='module')
def verifying(tmp_path_factory):
    """A pipeline with a tiny model."""
    folder = write_checkpoint(tmp_path_factory.mktemp('model'))
    config = VerifierConfig(model=str(folder))
    return build_verifying(config)[0]


def captioned(core, end_ms):
    """Feed a window that ends at this time and answer it; returns its captions."""
    for stamp in range(end_ms - 875, end_ms + 1, 125):
        core.add_frame(Frame(stamp * MS, np.full((48, 64, 3), stamp % 256, np.uint8)))
        core.advance()
        while core.feed():
            pass
        core.rehearse(lambda: False)
    window_id = core.ready()
    with TRACER.span('answer', window=window_id):
        return [output for output in core.answer(window_id) if isinstance(output, Caption)]


def test_a_window_of_the_verifier_is_told_stage_by_stage(verifying, traced):
    captions = captioned(verifying, 11_000)
    timeline = traced()
    assert captions[-1].stage is Stage.FINAL and not broken(timeline.events)
    feeds = timeline.slices('feed')
    assert [(feed['args']['window'], feed['args']['slot']) for feed in feeds] == [(11, slot) for slot in range(8)]
    assert len(timeline.instants('slot settled')) == 8
    whole, = timeline.instants('window whole')
    answer, = timeline.slices('answer')
    first_pass = next(each for each in timeline.slices('verify') if each['ts'] >= answer['ts'])
    assert whole['args'] == {'window': 11} and whole['ts'] <= feeds[-1]['ts'] <= answer['ts'] <= first_pass['ts']
    passes = [each for each in timeline.slices('verify') if each['ts'] >= answer['ts']]
    assert len(passes) == captions[-1].target_passes == len([each for each in timeline.slices('commit')
                                                             if each['ts'] >= answer['ts']])
    rehearsals = timeline.slices('rehearse')
    assert rehearsals and all(each['ts'] < whole['ts'] for each in rehearsals)
    # The times of a stage in the caption and in the timeline are one measurement: none is far from the other.
    told_ms = sum(each['dur'] for each in passes) / 1000
    assert told_ms == pytest.approx(captions[-1].stage_ms['verify'], rel=0.2, abs=5.0)


def test_captions_are_the_same_with_a_trace_and_without(verifying, traced):
    with_trace = captioned(verifying, 21_000)
    traced()
    verifying.reset()
    without = captioned(verifying, 21_000)
    assert with_trace[-1].token_ids == without[-1].token_ids
