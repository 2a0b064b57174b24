"""An end for calls into the middleware that never come back."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_CLOCK_MONOTONIC, _SIGEV_THREAD = 1, 2


class _Event(ctypes.Structure):
    """struct sigevent of Linux: 64 bytes, the part for SIGEV_THREAD named."""

    _fields_ = [('value', ctypes.c_void_p), ('signal', ctypes.c_int), ('notify', ctypes.c_int),
                ('function', ctypes.c_void_p), ('attributes', ctypes.c_void_p), ('rest', ctypes.c_char * 32)]


class _Times(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = [('interval_s', ctypes.c_long), ('interval_ns', ctypes.c_long), ('in_s', ctypes.c_long),
                ('in_ns', ctypes.c_long)]


@contextmanager
def leave_if_stuck(seconds: float, code: int) -> Iterator[None]:
    """End the process with this exit code where the block takes longer.

    A Python thread could not do it: a call that hangs in C++ may hold the interpreter's lock. A timer of the kernel
    calls ``_exit`` from a thread of its own. Where there is no such timer (not Linux), the block may take forever.
    """
    timer = _start(seconds, code)
    try:
        yield
    finally:
        if timer is not None:
            ctypes.CDLL(None).timer_delete(timer)


def _start(seconds: float, code: int) -> ctypes.c_void_p | None:
    if not sys.platform.startswith('linux'):
        return None
    libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
    if not hasattr(libc, 'timer_create'):                       # glibc before 2.34 has it elsewhere
        return None
    event = _Event(value=code, notify=_SIGEV_THREAD, function=ctypes.cast(libc._exit, ctypes.c_void_p).value)
    if libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        return None
    whole_s = int(seconds)
    libc.timer_settime(timer, 0, ctypes.byref(_Times(0, 0, whole_s, int((seconds - whole_s) * 1e9))), None)
    return timer
