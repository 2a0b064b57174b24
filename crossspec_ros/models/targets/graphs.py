"""What a device is asked for: room before anything is put there, work that is recorded once, and one read a pass.

A *recorder* takes a step - a function without arguments that reads fixed buffers and gives fixed tensors - and gives
back what does it again. On a CUDA device that is a captured graph, one launch for all its operations; elsewhere the
step itself.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError

T = TypeVar('T')
Step = Callable[[], T]
Recorder = Callable[[Step], Step]

_WARM = 2                         # runs before a capture: libraries choose kernels and take their workspaces in them
_MB = 1 << 20


def again(step: Step) -> Step:
    """The recorder that records nothing: the step is run anew each time."""
    return step


class GraphRecorder:
    """CUDA graphs of one device. They share a pool of memory, so only one may run at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool = device, None

    def __call__(self, step: Step) -> Step:
        """Run the step a few times, then capture it. Raises RuntimeError for a step that cannot be captured."""
        with torch.cuda.device(self._device):
            beside, now = torch.cuda.Stream(), torch.cuda.current_stream()
            beside.wait_stream(now)
            with torch.cuda.stream(beside):
                for _ in range(_WARM):
                    step()
            now.wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                made = step()
            self._pool = self._pool or graph.pool()

        def replay() -> T:
            graph.replay()
            return made
        return replay


def recorder_for(device: torch.device) -> Recorder:
    """The recorder of a device."""
    return GraphRecorder(device) if device.type == 'cuda' else again


def free_bytes(device: torch.device) -> int | None:
    """Memory of a CUDA device that is free or kept for new tensors, bytes; None for other devices."""
    if device.type != 'cuda':
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def check_room(free: int | None, needed: int, what: str) -> None:
    """Raises `CrossSpecError` where a device has less than ``needed`` bytes free for ``what``."""
    if free is not None and needed > free:
        raise CrossSpecError(f'{what} need {needed // _MB} MB on the device, {free // _MB} MB are free: use a smaller '
                             'dtype, fewer max_windows, fewer frames or a smaller model')


class Reader:
    """The one way back from a device: a small result a pass, into pinned memory where the device is a CUDA one."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pinned = device, device.type == 'cuda'
        self._back: torch.Tensor | None = None

    def __call__(self, result: torch.Tensor) -> np.ndarray:
        """A float32 tensor (m, r) of the device on the host, to be used before the next call; waits for the device."""
        if not self._pinned:
            return result.cpu().numpy()
        if self._back is None or self._back.shape[1:] != result.shape[1:] or len(self._back) < len(result):
            self._back = torch.empty(result.shape, dtype=torch.float32, pin_memory=True)
        back = self._back[:len(result)]
        back.copy_(result, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return back.numpy()
