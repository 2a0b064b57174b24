"""torch's threads: one number a process, whichever models share it."""
from __future__ import annotations

import threading

from crossspec_ros.errors import CrossSpecError

_lock = threading.Lock()
_asked: dict[str, int] = {}
_torchs_own: int | None = None                                  # what torch decided before anyone asked


def ask_threads(model: str, threads: int) -> int:
    """Set torch's threads to the most that any model of this process asks for; returns that number.

    ``threads`` 0 leaves it to torch, and so does a process in which any model does: a drafter that is content with one
    thread must not slow the verifier beside it. A model that asks again replaces what it asked before. Threads that
    have computed with torch already keep their number, so ask before a model's thread starts. Raises CrossSpecError
    where ``threads`` is negative.
    """
    import torch

    global _torchs_own
    if threads < 0:
        raise CrossSpecError(f'threads must be >= 0, got {threads}; 0 leaves it to torch')
    with _lock:
        if _torchs_own is None:
            _torchs_own = torch.get_num_threads()
        _asked[model] = threads
        number = _torchs_own if 0 in _asked.values() else max(_asked.values())
        torch.set_num_threads(number)
    return number
