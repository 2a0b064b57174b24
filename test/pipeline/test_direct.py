"""A recording replayed without DDS gives the same captions each time, however slow the machine is."""
from __future__ import annotations

import json
import time
from itertools import takewhile
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import write_checkpoint

from crossspec_ros.cli import main
from crossspec_ros.config import VerifierConfig, make
from crossspec_ros.events.types import Packet
from crossspec_ros.pipeline import building
from crossspec_ros.pipeline.direct import DirectReplay
from crossspec_ros.pipeline.drafting import DraftingPipeline
from crossspec_ros.pipeline.qualifying import Look, QualifyingPipeline
from crossspec_ros.pipeline.verifying import VerifyingPipeline
from crossspec_ros.recordings.bag import BagWriter, ImageFrame
from crossspec_ros.recordings.replay import ReplayMessage
from crossspec_ros.recordings.sources import WorldSource
from crossspec_ros.speculation.drafter import VoxelGrid
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.timing.window import WindowGrid

SECOND = 1_000_000_000
PROMPT = 'What is happening?'


class CountingDrafter:
    """Drafts what the events say: tokens made of the sums of the grid's bins."""

    view = VoxelGrid(5, 12, 16)

    def __init__(self, tokenizer_key):
        self.tokenizer_key = tokenizer_key
        self.delay_s = 0.0

    def draft(self, voxel, *, prompt, prefix_ids=(), max_tokens=64, should_stop=None):
        time.sleep(self.delay_s)
        tokens = tuple(10 + int(abs(value)) % 200 for value in voxel.sum(axis=(1, 2)))
        text = ' '.join(map(str, tokens))
        return SimpleNamespace(token_ids=tokens, weights=(), parents=(), text=text, compute_ms=1.0)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('model') / 'verifier')


@pytest.fixture(scope='module')
def engine(checkpoint):
    return building.build_engine(make(VerifierConfig, {'model.path': str(checkpoint), 'decode.max_new_tokens': 12}))


@pytest.fixture(scope='module')
def messages():
    return list(takewhile(lambda m: m.due_ns <= 3.2 * SECOND, WorldSource(1_000_003, 96, 72).messages(0)))


def _replay(engine, messages, *, delay_s=0.0, events=True, images=True, qualifying=None):
    verifying = drafting = None
    if images:
        engine.reset()
        verifying = VerifyingPipeline(engine, WindowGrid(), PROMPT, newest_wins=False)
    if events:
        drafter = CountingDrafter(engine.target.tokenizer_key)
        drafter.delay_s = delay_s
        drafting = DraftingPipeline(drafter, WindowGrid(), PROMPT)
    lines = []
    replay = DirectReplay(drafting, verifying, WindowGrid(), lines.append, qualifying)
    replay.run(messages)
    return replay, [json.dumps(line, sort_keys=True) for line in lines]


def test_direct_replay_gives_the_same_lines_on_a_slow_machine(engine, messages):
    fast, lines = _replay(engine, messages)
    slow, again = _replay(engine, messages, delay_s=0.03)
    assert lines == again
    assert fast.captions == 3 and fast.drafts >= 6
    captions = [json.loads(line) for line in lines if '"caption"' in line]
    assert [caption['window_end_ns'] for caption in captions] == [SECOND, 2 * SECOND, 3 * SECOND]
    assert all(len(caption['frame_stamps_ns']) == 8 for caption in captions)
    table = slow.times.table()
    assert table['draft']['p50'] >= 30 > table['decode']['p50']
    assert table['caption']['count'] == 3


def test_direct_replay_captions_do_not_depend_on_drafts(engine, messages):
    def captions(lines):
        return [line for line in lines if '"caption"' in line]
    alone, lines = _replay(engine, messages, events=False)
    assert alone.mode.value == 'verifier_only'
    assert captions(lines) == captions(_replay(engine, messages)[1])


def test_direct_replay_with_a_qualifier_gives_the_same_captions_and_better_drafts(engine, messages):
    lead = WindowGrid().interval_ns

    def qualifying() -> QualifyingPipeline:
        own = CaptionEngine(engine.target, engine.config)
        look = Look(WindowGrid(), WindowGrid().stride_ns, lead / 1e6, 500.0)
        return QualifyingPipeline(VerifyingPipeline(own, WindowGrid(), PROMPT), own, look, hurried=False)
    plain, without = _replay(engine, messages)
    three, lines = _replay(engine, messages, qualifying=qualifying())
    _, again = _replay(engine, messages, qualifying=qualifying(), delay_s=0.03)
    assert lines == again
    better = [line for line in map(json.loads, lines) if line.get('source') == 'qualifier']
    assert [line['window_end_ns'] for line in better] == [SECOND, 2 * SECOND, 3 * SECOND]
    assert all(line['token_ids'] and not line['events_used'] for line in better)
    assert [line for line in lines if json.loads(line) not in better] == without
    assert three.passes['tokens'] == plain.passes['tokens']


def test_direct_replay_of_events_alone_gives_drafts(engine, messages):
    replay, lines = _replay(engine, messages, images=False)
    assert (replay.mode.value, replay.captions) == ('draft_only', 0)
    drafted = {json.loads(line)['window_end_ns'] for line in lines}
    assert {SECOND, 2 * SECOND, 3 * SECOND} <= drafted


def test_direct_replay_counts_what_it_cannot_use_and_goes_on(engine, messages):
    bad_image = ImageFrame(SECOND // 2, 'camera', 'rgb9', 2, 2, 6, False, np.zeros(12, np.uint8), False)
    bad_packet = Packet('evt9', 96, 72, 0, 0, SECOND // 2, np.zeros(4, np.uint8))
    extra = [ReplayMessage('image', '', 'image', SECOND // 2, SECOND // 2, bad_image),
             ReplayMessage('events', '', 'events', SECOND // 2, SECOND // 2, bad_packet)]
    half = next(i for i, message in enumerate(messages) if message.due_ns > SECOND // 2)
    replay, lines = _replay(engine, [*messages[:half], *extra, *messages[half:]])
    assert replay.dropped == {'image_refused': 1, 'events_refused': 1}
    assert lines == _replay(engine, messages)[1]


def test_replay_command_without_dds_writes_the_same_bytes_twice(checkpoint, messages, tmp_path, capsys):
    with BagWriter(tmp_path / 'bag') as bag:
        for message in messages:
            if message.role == 'image':
                bag.write_frame('/image', message.due_ns, message.data)
    reports = []
    for number in range(2):
        out = tmp_path / f'{number}.jsonl'
        assert main(['replay', str(tmp_path / 'bag'), '--no-dds', '--model', str(checkpoint), '--out', str(out),
                     '--json']) == 0
        reports.append((out.read_bytes(), json.loads(capsys.readouterr().out)))
    assert reports[0][0] == reports[1][0] and reports[0][0].count(b'\n') == 3
    assert reports[0][1]['sha256'] == reports[1][1]['sha256']
    assert reports[0][1]['mode'] == 'verifier_only' and reports[0][1]['captions'] == 3
    assert reports[0][1]['compute_ms']['caption']['p99'] > 0


@pytest.mark.parametrize(('words', 'said'), [
    pytest.param(['replay', 'world:5', '--no-dds'], 'no end', id='endless'),
    pytest.param(['replay', 'none-here', '--no-dds'], 'does not exist', id='missing'),
    pytest.param(['replay', 'world:5', '--seconds', '-1'], '>= 0', id='negative_length')])
def test_replay_command_says_what_is_wrong(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err
