"""Compiled kernels: one fixed signature each, compiled on demand, cached on disk where any folder can be written.

A plain ``numba.njit`` compiles again for every new combination of argument types, in the middle of the stream: a
read-only payload is enough. A ``Kernel`` accepts exactly one signature (read-only inputs included), so nothing
compiles after ``warm_up``.
"""
from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import types as nbt

_LOG = logging.getLogger(__name__)
_LOCK = threading.Lock()
_KERNELS: list[Kernel] = []


def read_only(dtype: Any) -> nbt.Array:
    """Type of a one-dimensional contiguous input; arrays that can be written are accepted too."""
    return nbt.Array(dtype, 1, 'C', readonly=True)


def writable(dtype: Any) -> nbt.Array:
    """Type of a one-dimensional contiguous output."""
    return nbt.Array(dtype, 1, 'C')


class Kernel:
    """A function with one signature, compiled (or loaded from the cache) at the first use of ``compiled``."""

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self.name = function.__qualname__
        self._function = function
        self._signature = signature
        self._dispatcher: Callable[..., Any] | None = None      # owns the machine code
        self._compiled: Callable[..., Any] | None = None

    @property
    def compiled(self) -> Callable[..., Any]:
        """The machine code; keep it in a local variable inside loops."""
        if self._compiled is None:
            with _LOCK:
                if self._compiled is None:
                    self._dispatcher = _compile(self._function, self._signature)
                    self._compiled = _direct(self._dispatcher)
        return self._compiled

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorator: make a ``Kernel`` of a function that takes and returns what ``signature`` says."""

    def decorate(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, signature)
        _KERNELS.append(made)
        return made

    return decorate


def compile_all() -> float:
    """Compile or load every kernel defined so far; returns the time it took, ms."""
    started_ns = time.perf_counter_ns()
    for each in list(_KERNELS):
        each.compiled  # noqa: B018  (the property compiles)
    return (time.perf_counter_ns() - started_ns) / 1e6


def _compile(function: Callable[..., Any], signature: Any) -> Callable[..., Any]:
    """njit with the best cache to be had: beside the module, the user's, a private temporary folder, none."""
    for folder in (None, _private_folder()):
        if folder is None or numba.config.CACHE_DIR:
            try:
                return numba.njit(signature, cache=True)(function)
            except (RuntimeError, OSError) as error:            # numba: "no locator available" in a read-only install
                _LOG.debug('no cache for %s: %s', function.__qualname__, error)
                continue
        numba.config.CACHE_DIR = str(folder)
        try:
            return numba.njit(signature, cache=True)(function)
        except (RuntimeError, OSError) as error:
            _LOG.debug('no cache for %s in %s: %s', function.__qualname__, folder, error)
        finally:
            numba.config.CACHE_DIR = ''
    _LOG.warning('%s is compiled anew at every start: no folder for its cache can be written; set NUMBA_CACHE_DIR',
                 function.__qualname__)
    return numba.njit(signature)(function)


def _direct(dispatcher: Any) -> Callable[..., Any]:
    """The machine code of a dispatcher with one signature.

    Called without looking up the types of the arguments again, a third of the time of a call; it still refuses an
    argument that is not what the signature says.
    """
    (only,) = dispatcher.overloads.values()
    return only.entry_point


def _private_folder() -> Path | None:
    """A temporary folder that only this user can write: cached machine code is loaded and run from it."""
    uid = os.getuid() if hasattr(os, 'getuid') else 0
    folder = Path(tempfile.gettempdir()) / f'crossspec-numba-{uid}'
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077
    return folder if private else None
