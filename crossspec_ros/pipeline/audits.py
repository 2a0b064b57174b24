"""Windows decoded again without drafts, to prove that drafts changed nothing."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossspec_ros.pipeline.open_window import Answered
from crossspec_ros.scratch import Scratch
from crossspec_ros.speculation.engine import CaptionEngine


@dataclass(frozen=True)
class _Kept:
    window_id: int
    path: Path
    prompt: str
    token_ids: tuple[int, ...]
    nbytes: int


class Audit:
    """Keeps answered windows on disk, bounded in number and bytes, and decodes them again one by one when asked.

    ``checked`` and ``mismatched`` count; ``mismatches`` names the windows whose tokens differ. A window that had to be
    dropped for room counts in ``dropped``.
    """

    def __init__(self, keep_windows: int, keep_bytes: int) -> None:
        self._keep_windows, self._keep_bytes = keep_windows, keep_bytes
        self._bytes = 0
        self._folder: Scratch | None = None
        self._kept: deque[_Kept] = deque()
        self.checked = self.mismatched = self.dropped = 0
        self.mismatches: list[int] = []

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, answered: Answered) -> None:
        """Write a window's frames to disk for later; older ones may have to go. Raises OSError without room."""
        if self._folder is None:
            self._folder = Scratch('audit')
        path = self._folder.path / f'{answered.window_id}.npz'
        try:
            np.savez(path, *answered.frames)
        except OSError:
            path.unlink(missing_ok=True)                        # a part of it is of no use, and takes what room is left
            raise
        size = path.stat().st_size
        self._kept.append(_Kept(answered.window_id, path, answered.prompt, answered.token_ids, size))
        self._bytes += size
        while len(self._kept) > self._keep_windows or self._bytes > self._keep_bytes:
            self._forget_oldest()
            self.dropped += 1

    def check_next(self, engine: CaptionEngine) -> bool | None:
        """Decode the oldest kept window again: whether its tokens are the same; None where none is kept."""
        if not self._kept:
            return None
        kept = self._kept[0]
        with np.load(kept.path) as stored:
            frames = [stored[name] for name in stored.files]
        same = tuple(engine.audit(frames, kept.prompt, kept.window_id)) == kept.token_ids
        self._forget_oldest()
        self.checked += 1
        if not same:
            self.mismatched += 1
            self.mismatches = [*self.mismatches[-99:], kept.window_id]
        return same

    def _forget_oldest(self) -> None:
        kept = self._kept.popleft()
        self._bytes -= kept.nbytes
        kept.path.unlink(missing_ok=True)

    def statistics(self) -> dict[str, object]:
        """What was checked and what waits."""
        return {'checked': self.checked, 'mismatched': self.mismatched, 'pending': len(self._kept),
                'dropped': self.dropped, 'mismatches': list(self.mismatches)}

    def close(self) -> None:
        """Remove what is on disk."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None
        self._kept.clear()
        self._bytes = 0
