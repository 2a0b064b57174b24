"""Decode the caption of the frames so far, while the window's last frames are still to come.

The slots that are still empty are filled with the newest frame known, so that the target sees a prompt of the usual
length; question and answer are appended behind and cut off again. The tokens are a draft: where the scene does not
change in the last moment, the answer is one forward away.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns

import torch

from crossspec_ros.speculation.loop import Ending, Rule, TreeSource, run_pass
from crossspec_ros.speculation.session import StageTimes, WindowSession
from crossspec_ros.speculation.verifier import Verifier


def rehearse(session: WindowSession, verifier: Verifier, source: TreeSource, rule: Rule, ending: Ending,
             max_nodes: int, may_begin: Callable[[], bool]) -> tuple[tuple[int, ...], bool]:
    """Tokens of the rehearsed caption, end token included, and whether it came to its end.

    ``may_begin`` is asked before each pass. The session's cache and answer are as before at return.
    """
    frames = len(session.slots)
    known = session.prefilled
    if known == 0 or session.committed or not may_begin():
        return (), False
    newest = session.slots[known - 1]
    base = session.cache.length
    fork = replace(session, committed=[], pending=None, drafted={}, accepted={}, times=StageTimes(), passes=0)
    chunk = torch.cat([newest] * (frames - known) + [session.question(verifier)])
    complete = False
    try:
        while not complete and may_begin():
            tree = source.propose(tuple(fork.committed), max_nodes, fused_tokens=chunk.shape[0] - 1)
            complete = run_pass(fork, verifier, tree, chunk, rule, ending).complete
            chunk = verifier.embed([fork.pending])
    finally:
        session.cache.truncate(base)
    return tuple(fork.committed), complete


def until(should_stop: Callable[[], bool] | None, deadline_ns: int | None,
          expected_ms: Callable[[], float] = lambda: 0.0) -> Callable[[], bool]:
    """May another pass begin? Not once ``should_stop()``, nor when it would likely end behind ``deadline_ns``."""
    def may_begin() -> bool:
        if should_stop is not None and should_stop():
            return False
        return deadline_ns is None or perf_counter_ns() + int(expected_ms() * 1e6) <= deadline_ns
    return may_begin
