"""The process that learns while the drafter drives: ``python -m crossspec_ros.learn.online_process FD PRIORITY``.

It is started by `pipeline.learning` with one end of a pair of sockets, and holds nothing that must be kept. It lowers
itself before it loads its libraries.
"""
from __future__ import annotations

import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from crossspec_ros.config import IDLE


def behave(priority: str) -> None:
    """Run only when nobody else wants the core, where that was asked for; be the first to go where memory ends."""
    if priority == IDLE:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except (AttributeError, OSError):                       # not Linux, or not allowed there
            os.nice(19)
    with suppress(OSError):
        Path('/proc/self/oom_score_adj').write_text('1000', encoding='ascii')


def main() -> int:
    """Serve the connection whose file descriptor is the first argument."""
    behave(sys.argv[2])
    import torch

    from crossspec_ros.learn.online_serving import serve

    torch.set_num_threads(1)
    with suppress(OSError, KeyboardInterrupt):                  # the drafter has ended
        serve(Connection(int(sys.argv[1])))
    return 0


if __name__ == '__main__':
    sys.exit(main())
