"""What one thread leaves for another."""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')


class Mailbox(Generic[T]):
    """Room for one value that any thread puts in and any thread takes out; nothing is lost or taken twice between them.

    A value put where one waits replaces it, or is joined with it by ``join(waiting, new)``, which is called with the
    lock held and must be quick. Values are never changed in place: who takes one owns it.
    """

    def __init__(self, join: Callable[[T, T], T] | None = None) -> None:
        self._join = join
        self._lock = threading.Lock()
        self._value: T | None = None

    def put(self, value: T) -> None:
        """Leave a value; None is no value."""
        with self._lock:
            waiting = self._value
            self._value = value if waiting is None or self._join is None else self._join(waiting, value)

    def take(self) -> T | None:
        """Take what waits, or None."""
        with self._lock:
            value, self._value = self._value, None
            return value

    def peek(self) -> T | None:
        """What waits, left where it is; another thread may take it at any time."""
        with self._lock:
            return self._value
