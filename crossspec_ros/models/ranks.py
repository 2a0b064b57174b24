"""Processes that hold a share of a model each: rank 0, which decides, and the others, which do what it says.

Rank 0 says an order: a small header in JSON, then the tensors that it names. Headers go over gloo in a group of their
own, in which the others wait as long as nothing is asked; tensors, and what the model itself sends, go over the default
group, NCCL between CUDA devices and gloo between CPUs, where nobody waits longer than `STALL_S`.

The others are started here, on this host, and end when rank 0 does; or `torchrun` has started them all.
"""
from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from crossspec_ros import children
from crossspec_ros.errors import CrossSpecError, ModelLost

STALL_S = 60.0
"""Nobody waits longer than this for the others within an operation, s."""
_START_S, _LOAD_S, _END_S, _DEATH_S = 300.0, 3600.0, 6.0, 2.0
_IDLE = timedelta(days=3650)
_FIRST, _LENGTH = 8192, 8                         # bytes of the first part of a header, and of its length within
_TOLD = 512                                       # bytes of what a rank says when all meet
_FOLDER = 'CROSSSPEC_RANKS'
_LED = 'crossspec-led'
_MODULE = 'crossspec_ros.models.targets.following'
_log = logging.getLogger(__name__)


class Ranks:
    """One process's end: `together` and `close` are rank 0's, `hear` is the others'."""

    def __init__(self, rank: int, count: int, kind: str, store: dist.Store, folder: Path | None = None,
                 followers: Sequence[subprocess.Popen] = ()) -> None:
        """``kind`` of the devices, 'cpu' or 'cuda'. ``folder`` holds the store of those that rank 0 has started, its
        ``followers``; torchrun has a store of its own."""
        self.rank, self.count, self.device = rank, count, torch.device('cpu')
        if kind == 'cuda':
            self.device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', '0')))
            torch.cuda.set_device(self.device)
        self._folder, self._followers = folder, followers
        self.lost, self._closed = '', False
        dist.init_process_group('cpu:gloo,cuda:nccl' if kind == 'cuda' else 'gloo', store=store, rank=rank,
                                world_size=count, timeout=timedelta(seconds=STALL_S))
        self._idle = dist.new_group(backend='gloo', timeout=_IDLE)

    @property
    def ours(self) -> bool:
        """Whether the others were started by rank 0, for this model alone."""
        return self._folder is not None

    # -- rank 0 -------------------------------------------------------------------------------------------------------

    @contextmanager
    def together(self, order: str, tensors: Sequence[torch.Tensor] = (), **header: Any) -> Iterator[None]:
        """Say an order; inside, rank 0 does the same.

        A `CrossSpecError` inside is about what was asked, which the others find too or are done with, and everybody
        goes on. Anything else, and the death or silence of a rank, raises `ModelLost`, now and whenever something is
        asked from then on.
        """
        self._check()
        words = _words({'do': order, **header}, tensors)
        try:
            self._say(words, tensors)
            yield
        except CrossSpecError:
            self._check()
            raise
        except Exception as error:
            raise self._lose(error) from error

    def _say(self, words: torch.Tensor, tensors: Sequence[torch.Tensor] = ()) -> None:
        dist.broadcast(words[:_FIRST].clone(), 0, group=self._idle)
        if len(words) > _FIRST:
            dist.broadcast(words[_FIRST:].clone(), 0)
        for each in tensors:
            dist.broadcast(each.contiguous(), 0)

    def _check(self) -> None:
        if not self.lost and any(child.poll() is not None for child in self._followers):
            self._lose(None)
        if self.lost:
            raise ModelLost(self.lost)

    def _lose(self, error: Exception | None) -> ModelLost:
        """Nothing can be asked any more: say why, once, and end the others."""
        if not self.lost:
            self.lost = (f'{self._why(error)}; the model is shared by {self.count} processes and cannot answer '
                          'without one of them: clean the node up and configure it again, or start it anew')
            children.end(self._followers, _DEATH_S, _log.info)
        return ModelLost(self.lost)

    def _why(self, error: Exception | None) -> str:
        until_s = time.monotonic() + _DEATH_S                  # a connection is closed before its process has ended
        while True:
            for rank, child in enumerate(self._followers, 1):
                code = child.poll()
                if code is not None:
                    how = signal.Signals(-code).name if code < 0 else f'exit code {code}'
                    return f'process {rank} of the model has ended ({self._told(rank) or how})'
            if not self._followers or time.monotonic() > until_s:
                if 'timed out' in _line(error).lower():
                    return f'a process of the model has not answered for {STALL_S:g} s'
                return f'the processes of the model are no longer together ({_line(error)})'
            time.sleep(0.05)

    def _told(self, rank: int) -> str:
        """What a rank wrote down before it ended."""
        try:
            return (self._folder / f'why-{rank}').read_text(encoding='utf-8')
        except OSError:
            return ''

    def close(self) -> None:
        """The model is not needed any more: end the others. Those that torchrun started wait for another one."""
        if self._closed:
            return
        try:
            if not self.lost:
                self._say(_words({'do': 'end' if self.ours else 'free'}))
        except RuntimeError as error:
            _log.info('the processes of the model have ended before they were told to: %s', _line(error))
        if self.ours:
            self._closed, self.lost = True, self.lost or 'the model has been let go'
            _wait(self._followers, _END_S / 2)
            children.end(self._followers, _END_S)
            dist.destroy_process_group()
            shutil.rmtree(self._folder, ignore_errors=True)

    # -- all ----------------------------------------------------------------------------------------------------------

    def meet(self, wrong: str = '') -> None:
        """Wait until all have come here. Raises `CrossSpecError` in each of them where one says that something is
        ``wrong``."""
        mine = torch.frombuffer(bytearray(wrong.encode()[:_TOLD].ljust(_TOLD)), dtype=torch.uint8)
        said = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(said, mine, group=self._idle, async_op=True).wait(timedelta(seconds=_LOAD_S))
        for rank, each in enumerate(said):
            text = bytes(each.tolist()).decode(errors='replace').strip()
            if text:
                raise CrossSpecError(text if rank == 0 else f'process {rank} of the model: {text}')

    # -- the others ---------------------------------------------------------------------------------------------------

    def hear(self) -> tuple[dict[str, Any], list[torch.Tensor]] | None:
        """The next order and its tensors; None where rank 0 is gone."""
        first = torch.empty(_FIRST, dtype=torch.uint8)
        try:
            dist.broadcast(first, 0, group=self._idle)
        except RuntimeError:
            return None
        data = bytes(first.tolist())
        length = int.from_bytes(data[:_LENGTH], 'little')
        if length > _FIRST - _LENGTH:
            rest = torch.empty(length - _FIRST + _LENGTH, dtype=torch.uint8)
            dist.broadcast(rest, 0)
            data += bytes(rest.tolist())
        header = json.loads(data[_LENGTH:_LENGTH + length])
        tensors = [torch.empty(shape, dtype=getattr(torch, dtype), device=self.device if kind != 'cpu' else 'cpu')
                   for shape, dtype, kind in header.pop('tensors')]
        for each in tensors:
            dist.broadcast(each, 0)
        return header, tensors

    def tell(self, error: Exception) -> None:
        """Write down why this rank ends, for rank 0 to say."""
        text = f'{type(error).__name__}: {_line(error)}'
        print(f'process {self.rank} of the model ends: {text}', file=sys.stderr, flush=True)
        if self._folder is not None:
            (self._folder / f'why-{self.rank}').write_text(text[:_TOLD], encoding='utf-8')


# -- how they come together -------------------------------------------------------------------------------------------

_started: Ranks | None = None                     # torch has one default group a process


def torchrun_count() -> int:
    """How many processes torchrun has started, this one among them; 1 where it has started none."""
    return int(os.environ.get('WORLD_SIZE', '1')) if 'TORCHELASTIC_RUN_ID' in os.environ else 1


def lead(count: int, device: torch.device) -> Ranks:
    """Bring ``count`` processes together and be rank 0 of them.

    Raises `CrossSpecError` where that cannot be: the device is not the first of its kind, there are too few, another
    model in this process is shared already, they do not start.
    """
    global _started
    if _started is not None and _started.lost:
        _started.close()
    elif _started is not None:
        if _started.ours or _started.count != count:
            raise CrossSpecError('one model of a process can be shared with other processes, and one is already; set '
                                 'model.tensor_parallel to 1, or give the model a process of its own')
        return _started
    _check_device(count, device)
    if dist.is_initialized():
        raise CrossSpecError('torch.distributed must be free in this process to share a model, it is in use')
    _started = _lead_torchrun(count) if torchrun_count() > 1 else _lead_own(count, device.type)
    return _started


def _check_device(count: int, device: torch.device) -> None:
    kind = _kind()
    if device.type != kind or device.index not in (None, 0):
        hide = '; CUDA_VISIBLE_DEVICES= hides the GPUs' if kind == 'cuda' else ''
        raise CrossSpecError(f'device must be {kind} here with model.tensor_parallel: {count}, whose processes take '
                             f'the devices from 0 on, got {device}{hide}')
    if kind == 'cuda' and torch.cuda.device_count() < count:
        raise CrossSpecError(f'model.tensor_parallel must be <= {torch.cuda.device_count()}, the CUDA devices that are '
                             f'here, got {count}')


def _kind() -> str:
    """The devices that transformers shares models between: CUDA devices wherever there are some."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _lead_own(count: int, kind: str) -> Ranks:
    """Start the others on this host."""
    _stay_here()
    folder = Path(tempfile.mkdtemp(prefix='crossspec-ranks-'))
    followers: list[subprocess.Popen] = []
    try:
        for rank in range(1, count):
            followers.append(children.start([sys.executable, '-m', _MODULE], _environment(rank, count, folder),
                                            stdin=subprocess.DEVNULL))
        _await(folder, followers)
        return Ranks(0, count, kind, dist.FileStore(str(folder / 'store'), count), folder, followers)
    except BaseException:
        children.end(followers, _END_S)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _lead_torchrun(count: int) -> Ranks:
    if torchrun_count() != count:
        raise CrossSpecError(f'model.tensor_parallel must be {torchrun_count()}, the processes that torchrun has '
                             f'started, or 1, which then means as many, got {count}')
    store, rank, _ = next(dist.rendezvous('env://', timeout=timedelta(seconds=_START_S)))
    store.set(_LED, '')
    return Ranks(rank, count, _kind(), store)


def join() -> Ranks:
    """Come together with rank 0, as one of the others."""
    rank, count, named = int(os.environ['RANK']), int(os.environ['WORLD_SIZE']), os.environ.get(_FOLDER)
    if named is None:
        store, _, _ = next(dist.rendezvous('env://', timeout=timedelta(seconds=_START_S)))
        store.wait([_LED], _IDLE)                 # until rank 0 is asked to load
        return Ranks(rank, count, _kind(), store)
    _stay_here()
    folder = Path(named)
    (folder / f'ready-{rank}').touch()
    return Ranks(rank, count, _kind(), dist.FileStore(str(folder / 'store'), count), folder)


def _stay_here() -> None:
    """gloo listens on this host only, where nothing else was asked for."""
    if sys.platform.startswith('linux'):
        os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')


def _environment(rank: int, count: int, folder: Path) -> dict[str, str]:
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))]
    return {**os.environ, 'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(count), _FOLDER: str(folder),
            'PYTHONPATH': os.pathsep.join(dict.fromkeys(paths)), 'PYTHONSAFEPATH': '1'}


def _await(folder: Path, followers: Sequence[subprocess.Popen]) -> None:
    """Wait until all have imported what they need. Raises `CrossSpecError` where one ends before."""
    until_s = time.monotonic() + _START_S
    while not all((folder / f'ready-{rank}').exists() for rank in range(1, len(followers) + 1)):
        if any(child.poll() is not None for child in followers):
            raise CrossSpecError('a process of the model has ended before it was ready; what it said stands above')
        if time.monotonic() > until_s:
            raise CrossSpecError(f'the processes of the model must be ready within {_START_S:.0f} s, they are not; is '
                                 'the computer out of memory?')
        time.sleep(0.02)


def _wait(processes: Sequence[subprocess.Popen], timeout_s: float) -> None:
    until_s = time.monotonic() + timeout_s
    while any(child.poll() is None for child in processes) and time.monotonic() < until_s:
        time.sleep(0.02)


def _words(header: dict[str, Any], tensors: Sequence[torch.Tensor] = ()) -> torch.Tensor:
    """A header with the shapes of the tensors that follow it, uint8 (n,). Raises TypeError for what is not JSON."""
    shapes = [[list(each.shape), str(each.dtype).removeprefix('torch.'), each.device.type] for each in tensors]
    text = json.dumps(header | {'tensors': shapes}, default=int).encode()
    return torch.frombuffer(bytearray(len(text).to_bytes(_LENGTH, 'little') + text.ljust(_FIRST - _LENGTH)),
                            dtype=torch.uint8)


def _line(error: Exception | None) -> str:
    return ' '.join(str(error).split())[:300] if error is not None else 'no reason is known'
