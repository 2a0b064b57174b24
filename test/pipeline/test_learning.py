"""The drafter's side of learning while driving: what is sent, what takes over, what is kept, a process that ends."""
from __future__ import annotations

import time
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import build_tokenizer

from crossspec_ros.config import OnlineConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import DrafterConfig, EventDrafter, load_drafter
from crossspec_ros.models.tokenizer import tokenizer_key
from crossspec_ros.pipeline import learning
from crossspec_ros.pipeline.drafting import DraftingPipeline, DraftJob
from crossspec_ros.pipeline.learning import OnlineLearning
from crossspec_ros.pipeline.learning_messages import Begin, Better, Heard, Report, RolledBack, weights_of
from crossspec_ros.speculation.types import Verdict, prefix_hash
from crossspec_ros.timing.window import WindowGrid

PROMPT = 'a car ahead'
S = 1_000_000_000


def make_drafter(seed: int = 0) -> EventDrafter:
    words = build_tokenizer(290).backend_tokenizer
    torch.manual_seed(seed)
    return EventDrafter(DrafterConfig(300, tokenizer_key(words), 1, height=32, width=32, channels=(8, 8, 8, 8), dim=32,
                                      layers=1, heads=2, mlp_dim=32, verifier_key='old', verifier='an older one'),
                        words).eval()


class FakeProcess:
    """In place of the process: notes what is sent, says what a test gives it to say."""

    made: list[FakeProcess] = []

    def __init__(self, priority: str) -> None:
        self.got, self.says, self.sent, self.taken, self.dead = [], deque(), 0, 0, False
        self.link = SimpleNamespace(send=self._send, recv=self.says.popleft, poll=self._poll, close=lambda: None)
        FakeProcess.made.append(self)

    def _send(self, message) -> None:
        if self.dead:
            raise BrokenPipeError
        self.got.append(message)

    def _poll(self) -> bool:
        if self.dead:
            raise EOFError
        return bool(self.says)

    def kill(self) -> None:
        self.dead = True


@pytest.fixture
def fake(monkeypatch):
    FakeProcess.made = []
    monkeypatch.setattr(learning, 'LearningProcess', FakeProcess)
    return FakeProcess.made


def drafted(windows: range, drafter: EventDrafter | None = None) -> DraftingPipeline:
    """A pipeline that has drafted for these windows; nothing moved in them."""
    core = DraftingPipeline(drafter or make_drafter(), WindowGrid(), PROMPT, max_tokens=4)
    for window in windows:
        core.draft(DraftJob(window, early=True))
        core.draft(DraftJob(window))
    return core


def final(window: int, committed: tuple[int, ...] = (20, 21, 22), **changes) -> Verdict:
    return Verdict(**({'window_id': window, 'window_end_ns': window * S, 'committed': committed, 'target_passes': 1,
                       'committed_hash': prefix_hash(committed), 'final': True, 'verifier_key': 'feed'} | changes))


def settle(core: OnlineLearning) -> None:
    while core.step():
        pass


def better_of(drafter: EventDrafter, generation: int = 0) -> Better:
    return Better(weights_of(drafter), 'feed', generation, 2.0, 3.0, 12)


def test_every_final_verdict_is_sent_or_counted_by_cause(fake):
    pipeline = drafted(range(1, 7))
    core = OnlineLearning(pipeline, OnlineConfig(), print)
    core.hear(final(2, final=False))                            # more is to come: not counted
    for verdict in (final(1), final(90), final(2, ()), final(3, tokenizer_key='foreign'), final(4), final(5)):
        core.hear(verdict)
    settle(core)
    begin, *sent = fake[0].got
    assert isinstance(begin, Begin) and begin.generation == 0
    assert [(heard.window_id, heard.prompt, heard.token_ids) for heard in sent] == [
        (4, PROMPT, (20, 21, 22)), (5, PROMPT, (20, 21, 22))]
    assert sent[0].looks.shape == (2, 5, 32, 32) and sent[0].looks.dtype == np.float16
    told = core.statistics()
    assert {name: told[f'learn_{name}'] for name in ('heard', 'sent', 'forgotten', 'empty', 'other_tokens',
                                                     'waiting')} == {
        'heard': 6, 'sent': 2, 'forgotten': 2, 'empty': 1, 'other_tokens': 1, 'waiting': 0}     # 1: the first one asked
    assert 'another vocabulary' in core.warnings()['learn_other_tokens']


def test_more_than_can_wait_is_dropped_and_counted(fake):
    core = OnlineLearning(drafted(range(1, 9)), OnlineConfig(), print)
    for _ in range(2):
        for window in range(2, 9):
            core.hear(final(window))
    assert core.statistics()['learn_overflow'] == 6
    settle(core)
    told = core.statistics()
    assert told['learn_sent'] == 4 and told['learn_waiting'] == 4        # the process has not said that it took them
    fake[0].says.append(Report(4))
    settle(core)
    assert core.statistics()['learn_waiting'] == 0 and [type(message) for message in fake[0].got[1:]] == [Heard] * 8


def test_a_window_begun_before_its_question_was_asked_is_not_learned_from(fake):
    pipeline = drafted(range(1, 4))
    core = OnlineLearning(pipeline, OnlineConfig(), print)
    pipeline.prompt = 'the road is wet'
    for window in (4, 5):
        pipeline.draft(DraftJob(window))
    for window in (3, 4, 5):
        core.hear(final(window))
    settle(core)
    assert [(heard.window_id, heard.prompt) for heard in fake[0].got[1:]] == [(5, 'the road is wet')]
    pipeline.reset()                                            # time jumped back: low numbers again
    for window in (1, 2):
        pipeline.draft(DraftJob(window))
        core.hear(final(window))
    settle(core)
    assert fake[0].got[-1].window_id == 2


def test_what_drafts_better_takes_over_and_can_be_rolled_back_and_saved(fake, tmp_path):
    first, second = make_drafter(0), make_drafter(1)
    pipeline, said = drafted(range(1, 3), first), []
    core = OnlineLearning(pipeline, OnlineConfig(folder=str(tmp_path / 'saved')), said.append)
    settle(core)
    fake[0].says.append(better_of(second))
    settle(core)
    now = pipeline.drafter
    assert now is not first and now.verifier_key == 'feed' and now.config.verifier == ''
    assert all(np.array_equal(value, weights_of(second)[name]) for name, value in weights_of(now).items())
    draft = pipeline.draft(DraftJob(2))
    assert draft.trained_for == 'feed'
    assert draft.token_ids == second.draft(np.zeros((5, 32, 32), np.float32), prompt=PROMPT, max_tokens=4).token_ids
    assert any('3.00 tokens a pass instead of 2.00' in text for text in said)

    assert str(tmp_path / 'saved') in core.save()
    loaded = load_drafter(tmp_path / 'saved')
    assert loaded.verifier_key == 'feed' and loaded.shape == now.shape
    assert torch.allclose(loaded.embed.weight, now.embed.weight, atol=1e-2)

    core.roll_back()
    assert pipeline.drafter is first and core.statistics()['learn_rolled_back'] == 1
    settle(core)
    assert isinstance(fake[0].got[-1], RolledBack) and fake[0].got[-1].generation == 1
    fake[0].says.append(better_of(second))                      # was on its way when it was rolled back
    settle(core)
    assert pipeline.drafter is first
    with pytest.raises(CrossSpecError, match='nothing to roll back to'):
        core.roll_back()


def test_the_drafter_that_was_loaded_is_never_forgotten(fake):
    first = make_drafter(0)
    core = OnlineLearning(pipeline := drafted(range(0), first), OnlineConfig(), print)
    settle(core)
    for seed in range(1, 9):
        fake[0].says.append(better_of(make_drafter(seed)))
    settle(core)
    with pytest.raises(CrossSpecError):
        for _ in range(9):
            core.roll_back()
    assert pipeline.drafter is first and core.statistics()['learn_rolled_back'] == 4


def test_save_refuses_to_replace_what_is_no_drafter(fake, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'notes.txt').write_text('mine')
    core = OnlineLearning(drafted(range(0)), OnlineConfig(folder=str(tmp_path / 'mine')), print)
    with pytest.raises(CrossSpecError, match='no drafter\'s folder'):
        core.save()
    assert (tmp_path / 'mine' / 'notes.txt').read_text() == 'mine' and core.statistics()['learn_saved'] == 0


def test_a_process_that_ends_is_counted_and_comes_back_with_what_is_active(fake, monkeypatch):
    pipeline = drafted(range(1, 5))
    core = OnlineLearning(pipeline, OnlineConfig(), print)
    core.hear(final(2))
    settle(core)
    fake[0].says.append(better_of(make_drafter(5)))
    settle(core)
    fake[0].dead = True
    core.step()
    assert core.statistics()['learn_restarts'] == 1 and core.statistics()['learn_lost'] == 1
    assert core.step() is False and len(fake) == 1              # not at once
    monkeypatch.setattr(learning, '_AGAIN_S', 0.0)
    settle(core)
    assert len(fake) == 2
    assert all(np.array_equal(value, weights_of(pipeline.drafter)[name])
               for name, value in fake[1].got[0].weights.items())


def test_trouble_stops_learning_and_is_told(fake):
    core = OnlineLearning(drafted(range(0)), OnlineConfig(), print)
    settle(core)
    fake[0].says.append(Report(trouble='learn.online_memory_mb must be >= 300 here, got 64'))
    settle(core)
    assert 'must be >= 300' in core.warnings()['learn_stopped'] and core.step() is False
    core.close()
    core.open()
    assert not core.warnings()


def test_many_words_that_the_drafter_lacks_are_told(fake):
    core = OnlineLearning(drafted(range(0)), OnlineConfig(), print)
    settle(core)
    fake[0].says.append(Report(10, {'words': 100, 'words_missing': 5}))
    settle(core)
    assert not core.warnings()
    fake[0].says.append(Report(10, {'words': 100, 'words_missing': 6}))
    settle(core)
    assert '6 of 100 tokens' in core.warnings()['learn_words_missing']


def test_a_drafter_of_another_kind_is_refused():
    with pytest.raises(CrossSpecError, match='learn.online must be false'):
        OnlineLearning(SimpleNamespace(drafter=object()), OnlineConfig(), print)


def test_a_real_process_learns_and_ends_when_it_is_told_to():
    pipeline = drafted(range(1, 9))
    core = OnlineLearning(pipeline, OnlineConfig(judge_windows=12, online_priority='normal', online_cpu_share=1.0,
                                                 rate=3e-3, online_memory_mb=2048), print)
    first, until_s = pipeline.drafter, time.monotonic() + 100
    try:
        while pipeline.drafter is first:
            assert time.monotonic() < until_s, core.statistics()
            if core.statistics()['learn_waiting'] < 4:
                for window in range(2, 9):
                    core.hear(final(window))
            core.step()
            time.sleep(0.005)
        assert core.statistics()['learn_swaps'] == 1 and core.statistics()['learn_restarts'] == 0
        assert 50 < core.statistics()['learn_memory_mb'] < 2048
    finally:
        process = core._process
        core.close()
    assert process._child.poll() is not None and core.step() is False
