"""The bench of resilience: its account and its referee, and its short form over real DDS."""
import json
import mmap
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip('crossspec_ros.msg', reason='the messages are not built')
from crossspec_ros.bench import resilience  # noqa: E402 - only where there are messages
from crossspec_ros.bench.resilience import stage  # noqa: E402
from crossspec_ros.bench.resilience.kills import Ledger  # noqa: E402
from crossspec_ros.bench.resilience.stage import Account  # noqa: E402
from crossspec_ros.bench.soak import Memory, slope  # noqa: E402
from crossspec_ros.cli import main  # noqa: E402
from crossspec_ros.errors import CrossSpecError  # noqa: E402

KEYS = [f'/{stage.NAMESPACE}/{node} {role}' for role, node in stage.NODE_OF.items()]


def test_account_tells_what_is_missing():
    assert Account(sent=10, received=7, lost=3).unaccounted == 0
    assert Account(sent=10, received=7, lost=2).unaccounted == 1
    assert Account(sent=10, received=8, lost=3).unaccounted == 1
    part = Account(20, 15, 5, 4, {'late': 3}).since(Account(10, 7, 3, 1, {'late': 3, 'skipped': 0}))
    assert part == Account(10, 8, 2, 3, {})


def test_ledger_takes_no_more_than_was_sent_until_the_node_was_back():
    ledger = Ledger()
    ledger.same('image', Account(sent=100, received=98, lost=2))
    ledger.another('image', Account(sent=200, received=40, lost=0), sent_when_back=160)
    assert ledger.unaccounted == 0 and ledger.totals['image']['gone_with_the_process'] == 60
    ledger.another('image', Account(sent=300, received=50, lost=0), sent_when_back=240)
    assert ledger.unaccounted == 10                             # 240 were sent when it was back
    ledger.same('image', Account(sent=310, received=59, lost=0))
    assert ledger.unaccounted == 11


def test_totals_count_wherever_they_stand():
    report = {'freezes': {'inputs': {'image': {'unaccounted': 2}}, 'words': {'wrong': 1}}, 'loss': {'unaccounted': 3}}
    assert resilience._total(report, 'unaccounted') == 5 and resilience._total(report, 'wrong') == 1


def test_referee_finds_another_word():
    from crossspec_ros.bench.resilience.referee import Referee
    from crossspec_ros.bench.resilience.stage import scene
    from crossspec_ros.speculation.types import Caption, Mode, Stage
    pictures = {number: shot.rgb for number, shot in enumerate(shot for shot in scene() if shot.rgb is not None)}
    referee, stamps = Referee(), tuple(range(0, 16, 2))
    tokens = referee.engine.audit([pictures[stamp] for stamp in stamps], 'What is happening?')
    right = Caption(window_id=1, window_end_ns=0, stage=Stage.FINAL, text='', stable_length=0, token_ids=tuple(tokens),
                    mode=Mode.CROSS_MODAL, lossless=True, frame_stamps_ns=stamps)
    wrong = replace(right, token_ids=(*tokens[:-1], tokens[-1] + 1))
    foreign = replace(right, frame_stamps_ns=(*stamps[:-1], 99_999))
    assert referee.check([right, wrong, foreign], pictures) == {'checked': 2, 'untraced': 1, 'wrong': 1}


def test_trial_that_cannot_go_on_is_named_and_the_others_run(monkeypatch, capsys):
    from crossspec_ros.bench.resilience import trials

    def silent(*_):
        raise CrossSpecError('a word of the verifier not within 120 s')

    monkeypatch.setattr(trials, 'jumps', silent)
    monkeypatch.setattr(trials, 'bad_link', lambda *_: {'loss': {'inputs': {}, 'words': {'checked': 2, 'wrong': 0}}})
    assert main(['bench', 'resilience', '--only', 'jumps', 'loss']) == 1
    told = capsys.readouterr()
    assert 'jumps      failed: a word of the verifier not within 120 s' in told.out
    assert 'loss ' in told.out and 'loss done' in told.err


class SlowReports:
    """A graph whose nodes tell of their inputs late, in a time of its own; the last three messages arrive meanwhile."""

    def __init__(self, first_s: float) -> None:
        self.now_s, self.first_s = 0.0, first_s
        self.record = SimpleNamespace(inputs={key: self.report(7) for key in KEYS})
        self.sent = {'events': 10, 'image': 10}

    def report(self, received):
        return SimpleNamespace(received=received, lost=0, waiting=0, used=received, dropped={})

    def poll(self, seconds):
        for _ in range(round(10 * seconds)):
            self.now_s += 0.1
            if self.now_s >= self.first_s and round(10 * (self.now_s - self.first_s)) % 10 == 0:
                self.record.inputs = {key: self.report(10) for key in KEYS}

    def pause(self):
        self.now_s += 0.5


@pytest.mark.parametrize('first_s', [1.0, 3.0, 9.0])
def test_account_waits_for_a_node_that_gets_no_time_to_tell(monkeypatch, first_s):
    slow = SlowReports(first_s)
    monkeypatch.setattr(stage, 'time', SimpleNamespace(monotonic=lambda: slow.now_s))
    graph = stage.Playing(slow, slow, slow, alive=lambda: None)
    assert [each.unaccounted for each in graph.settle(reset=False).values()] == [0, 0]


def test_account_of_a_node_that_tells_nothing_is_refused(monkeypatch):
    slow = SlowReports(1000.0)
    monkeypatch.setattr(stage, 'time', SimpleNamespace(monotonic=lambda: slow.now_s))
    with pytest.raises(CrossSpecError, match='did not come to rest'):
        stage.Playing(slow, slow, slow, alive=lambda: None).settle(reset=False)


def test_slope_sees_a_leak_through_restarts():
    rows = [(5.0 * i, 1 if i < 100 else 2, (200 if i < 100 else 150) + 10 * (5.0 * i / 3600)) for i in range(300)]
    found = slope(rows)
    assert found['mb_per_h'] == pytest.approx(10, abs=0.1) and found['interval_mb_per_h'] < 0.5
    assert slope(rows[:5])['mb_per_h'] is None


def test_memory_that_peers_share_is_no_leak():
    memory, pids = Memory(), {'drafter': os.getpid()}
    with mmap.mmap(-1, 64 << 20) as piece:                      # as a peer's
        memory.sample(0.0, pids)
        for at in range(0, len(piece), mmap.PAGESIZE):
            piece[at] = 1
        memory.sample(5.0, pids)
    before, after = memory.rows['drafter']
    assert after[3] - before[3] > 60 and after[2] - before[2] < 8
    assert memory.slopes()['drafter']['shared_mb'] == pytest.approx(after[3], abs=0.1)


def test_memory_is_drawn(tmp_path):
    memory = Memory({'verifier': [(0.0, 1, 100.0, 9.0), (5.0, 1, 101.0, 9.0), (10.0, 2, 90.0, 9.0),
                                  (15.0, 2, 90.0, 9.0)]})
    memory.plot(tmp_path / 'memory.png')
    assert (tmp_path / 'memory.png').stat().st_size > 5000


@pytest.mark.long
@pytest.mark.graph
@pytest.mark.timeout(900)
def test_short_form_loses_nothing_and_says_nothing_wrong(capsys):
    assert main(['bench', 'resilience', '--quick', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['unaccounted'] == 0 and report['wrong'] == 0 and report['checked'] > 10
    assert report['kills']['drafter']['n'] == report['kills']['verifier']['n'] == 1
    for trial in ('freezes', 'unplugged', 'overload', 'hostile', 'jumps', 'loss'):
        assert report[trial]['inputs']['events']['sent'] > 0, trial
    assert report['unplugged']['warned'] == {'image': True, 'events': True}
    assert report['hostile']['refused']['draft_refused'] > 0
    relays = report['loss']['relays']
    assert relays['events']['lost'] > 0 and relays['drafts']['lost'] > 0
    for trial in ('disk', 'shm'):
        assert 'skipped' in report[trial] or report[trial]['captions'] > 0


@pytest.mark.long
@pytest.mark.graph
@pytest.mark.timeout(900)
def test_soak_of_a_minute_has_an_account(tmp_path, capsys):
    assert main(['bench', 'soak', '--minutes', '1', '--kills', '1', '--out', str(tmp_path), '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['unaccounted'] == 0 and report['wrong'] == 0 and report['kills'] == 2
    assert report['questions'].get('answered', 0) > 0 and report['prompts'] > 0
    assert (tmp_path / 'memory.png').exists() and (tmp_path / 'soak.json').exists()
