"""Ctrl-C and SIGTERM as KeyboardInterrupt, wherever they come."""
from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(*signs: signal.Signals) -> Iterator[None]:
    """Raise KeyboardInterrupt on these signals (SIGINT where none is named).

    A handler that raises while C++ has called Python, as rclpy does for each message, comes out as whatever error the
    C++ code makes of it. Here it is a KeyboardInterrupt again. Outside the main thread, where Python handles no
    signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal told
        del number, frame
        told = True
        raise KeyboardInterrupt

    before = {sign: signal.signal(sign, interrupt) for sign in signs or (signal.SIGINT,)}
    try:
        yield
    except Exception as error:
        if told:
            raise KeyboardInterrupt from error
        raise
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler if handler is not None else signal.SIG_DFL)
