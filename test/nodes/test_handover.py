"""What callbacks leave for the thread of a model node: nothing is lost, between whichever instructions it comes.

The nodes stand here without ROS: their step runs with a callback called after its n-th instruction, for every n.
"""
import sys
import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from crossspec_ros.config import DrafterConfig, VerifierConfig
from crossspec_ros.nodes import drafter, health, verifier
from crossspec_ros.pipeline.account import Account
from crossspec_ros.speculation.types import Verdict

S = 1_000_000_000
DRAFT = SimpleNamespace(window_id=1, source='event_drafter', text='A car.')


class Interruption:
    """Calls ``callback`` once, after so many instructions of one module's functions."""

    def __init__(self, module, after: int, callback) -> None:
        self.file, self.after, self.callback, self.seen, self.done = module.__file__, after, callback, 0, False

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename != self.file:
            return None
        frame.f_trace_opcodes = True
        if event == 'opcode':
            self.seen += 1
            if self.seen > self.after and not self.done:
                self.done = True
                sys.settrace(None)
                self.callback()
        return self

    def run(self, call) -> bool:
        """Run; whether the callback came during it."""
        sys.settrace(self)
        try:
            call()
        finally:
            sys.settrace(None)
        return self.done


def at_every_instruction(module, make, call, callback, check) -> None:
    """Check a fresh node for each instruction of ``call`` that ``callback`` may come after."""
    first = make()
    # Python 3.12.1 tells of no instruction the first time.
    Interruption(module, 10_000, lambda: None).run(lambda: call(first))
    for after in range(10_000):
        node = make()
        came = Interruption(module, after, lambda: callback(node)).run(lambda: call(node))
        if not came:
            assert after > 10                                   # there were instructions to come between
            return
        check(node, after)
    raise AssertionError('the step does not end')


def silent(node) -> None:
    """What every model node has, without ROS."""
    node._worker = SimpleNamespace(stopping=False, wake=lambda: None)
    node._enabled, node._frame_id = True, ''
    node.get_clock = lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))
    node._health = SimpleNamespace(drop=lambda *args: None)
    node._input = SimpleNamespace(account=Account())


@pytest.fixture
def make_drafter(monkeypatch):
    monkeypatch.setattr(drafter, 'verdict_from', lambda message: message)
    monkeypatch.setattr(drafter.DrafterNode, '_communicate', lambda self: None)
    monkeypatch.setattr(drafter.ModelNode, '__init__', lambda self, *args, **kwargs: None)

    def make():
        node = drafter.DrafterNode.__new__(drafter.DrafterNode)
        node._config = DrafterConfig()
        drafter.DrafterNode.__init__(node)
        silent(node)
        node.looked, node.resets = [], []
        node._core = SimpleNamespace(due=lambda now_ns: [], on_verdict=lambda message: node.looked.append(message),
                                     reset=lambda: node.resets.append(1), take_changes=list)
        return node
    return make


def test_drafter_looks_at_the_newest_verdict_whenever_it_comes(make_drafter):
    def check(node, after):
        node._step()
        assert node.looked[-1] == 'newer', f'lost after instruction {after}'
        assert len(node.looked) == len(set(node.looked))

    def make():
        node = make_drafter()
        node._on_verdict('older')
        return node

    at_every_instruction(drafter, make, lambda node: node._step(), lambda node: node._on_verdict('newer'), check)


def test_drafter_resets_whenever_it_is_asked_to(make_drafter):
    def check(node, after):
        node._step()
        assert node.resets, f'lost after instruction {after}'

    at_every_instruction(drafter, make_drafter, lambda node: node._step(), lambda node: node._want_reset(), check)


@pytest.fixture
def make_verifier(monkeypatch):
    monkeypatch.setattr(verifier, 'draft_from', lambda message: message)
    monkeypatch.setattr(verifier, 'verdict_to', lambda verdict, refused: Counter(refused))
    monkeypatch.setattr(verifier.VerifierNode, '_communicate', lambda self: None)
    monkeypatch.setattr(verifier.FrameNode, '__init__', lambda self, *args, **kwargs: None)

    def make():
        node = verifier.VerifierNode.__new__(verifier.VerifierNode)
        node._config = VerifierConfig()
        verifier.VerifierNode.__init__(node)
        silent(node)
        node.published = Counter()
        node._asking = SimpleNamespace(step=lambda should_stop: False, reset=lambda why: None)
        node._verdicts = SimpleNamespace(publish=node.published.update)
        verdict = Verdict(1, S, (1,), 0, 1, False)
        node._core = SimpleNamespace(answer=lambda window_id: iter([verdict]), offer=lambda draft: 'late')
        return node
    return make


def test_verifier_tells_of_every_refused_draft_once(make_verifier):
    def make():
        node = make_verifier()
        node._on_draft(DRAFT)
        return node

    def check(node, after):
        node._answer(1)
        assert node.published == {'late': 2}, f'wrong after instruction {after}'

    at_every_instruction(verifier, make, lambda node: node._answer(1),
                         lambda node: node._on_draft(DRAFT), check)


def test_verifier_counts_a_draft_that_is_refused_while_it_publishes(make_verifier):
    def check(node, after):
        node._answer(1)
        assert node.published == {'late': 1}, f'wrong after instruction {after}'

    at_every_instruction(verifier, make_verifier,
                         lambda node: node._on_draft(DRAFT),
                         lambda node: node._answer(1), check)


def test_verifier_audits_whenever_it_is_asked_to(make_verifier):
    def make():
        node = make_verifier()
        node.checked = 0

        def check_next(engine):
            node.checked += 1

        node._audit = SimpleNamespace(check_next=check_next, statistics=dict)
        node._core = SimpleNamespace(reset_wanted=False, advance=lambda now_ns: None, ready=lambda: None,
                                     feed=lambda: False, rehearse=lambda should_stop: False, take_confirmed=list)
        ask(node)
        return node

    def ask(node):
        node._on_audit(None, SimpleNamespace())
        node.before = getattr(node, 'checked', 0)

    def check(node, after):
        node._step()
        assert node.checked > node.before, f'forgotten after instruction {after}'

    at_every_instruction(verifier, make, lambda node: node._step(), ask, check)


def test_health_counts_what_two_threads_drop_at_once():
    def make():
        tally = health.Health.__new__(health.Health)
        tally.counts, tally._warned_ns, tally._lock = Counter(), {}, threading.Lock()
        tally._steady = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))
        tally._node = SimpleNamespace(get_logger=lambda: SimpleNamespace(warning=lambda text: None))
        tally.threads = []
        return tally

    def other(tally):
        thread = threading.Thread(target=tally.drop, args=('cause', 'text'))
        tally.threads.append(thread)
        thread.start()
        thread.join(0.02)                                       # it may have to wait for the lock

    def check(tally, after):
        for thread in tally.threads:
            thread.join()
        assert tally.counts == {'cause': 2}, f'wrong after instruction {after}'

    at_every_instruction(health, make, lambda tally: tally.drop('cause', 'text'), other, check)
