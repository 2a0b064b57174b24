"""Several processes that train one model: each takes its part of every batch, gradients are averaged.

On a few busy CPU cores, processes of one thread train about twice as fast as one process of as many threads, since
they meet once a step and not at the end of every small operation.
"""
from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from crossspec_ros.errors import CrossSpecError


class Team:
    """What a process knows of the others; ``Team()`` is a process alone."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        """Whether this process writes files and keeps the clock."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """This process's part of a batch."""
        return max(1, batch // self.size)

    def average(self, module: nn.Module, done: float) -> float:
        """Average the gradients of ``module`` over the team, in place; returns the leader's ``done``."""
        if self.size == 1:
            return done
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        told = torch.tensor([done if self.leads else 0.0])
        flat = torch.cat([*(grad.reshape(-1) for grad in grads), told])
        dist.all_reduce(flat)
        at = 0
        for grad in grads:
            grad.copy_(flat[at:at + grad.numel()].view_as(grad)).div_(self.size)
            at += grad.numel()
        return float(flat[-1])


def _leave_with(parent: int) -> None:
    """End this process when its parent is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(2.0)
    os._exit(1)


def _member(rank: int, size: int, meeting: str, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{meeting}', rank=rank, world_size=size)
    try:
        work(Team(rank, size), *arguments)
    finally:
        dist.destroy_process_group()


def run_team(size: int, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """Call ``work(team, *arguments)`` in ``size`` processes and wait for them; both must be picklable.

    Raises CrossSpecError where one of them fails (its own message stands above).
    """
    context = multiprocessing.get_context('spawn')
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / 'meeting')
        members = [context.Process(target=_member, args=(rank, size, meeting, work, arguments)) for rank in range(size)]
        for member in members:
            member.start()
        try:
            for member in members:
                member.join()
        finally:
            for member in members:
                member.terminate()
    failed = [member.exitcode for member in members if member.exitcode]
    if failed:
        raise CrossSpecError(f'{len(failed)} of {size} training processes failed: what went wrong stands above; mend '
                             f'it and go on with --resume')
