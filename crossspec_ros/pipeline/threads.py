"""torch's threads: one number a process, whichever models share it."""
from __future__ import annotations

import os
import threading

from crossspec_ros.cores import cores
from crossspec_ros.errors import CrossSpecError

_OMP = 'OMP_NUM_THREADS'
_lock = threading.Lock()
_asked: dict[str, int] = {}
_most: int | None = None                                        # what 0 stands for, as torch had it before anyone asked


def ask_threads(model: str, threads: int) -> int:
    """Set torch's threads to the most that any model of this process asks for; returns that number.

    ``threads`` 0 is as many as torch would take and the process has cores, less one where that is not a number of the
    user's own (OMP_NUM_THREADS): threads wait for the last of them, and one that has lost its core to a camera or a
    drafter holds all others up. A process takes it where any of its models does: a drafter that is content with one
    thread must not slow the verifier beside it. A model that asks again replaces what it asked before. Threads that
    have computed with torch already keep their number, so ask before a model's thread starts. Raises CrossSpecError
    where ``threads`` is negative.
    """
    import torch

    global _most
    if threads < 0:
        raise CrossSpecError(f'threads must be >= 0, got {threads}; 0 takes all cores but one')
    with _lock:
        if _most is None:
            _most = torch.get_num_threads()
            if _OMP not in os.environ:
                _most = max(1, min(_most, cores()) - 1)
        _asked[model] = threads
        number = _most if 0 in _asked.values() else max(_asked.values())
        torch.set_num_threads(number)
    return number
