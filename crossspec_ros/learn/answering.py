"""The verifier's answers to every window of the drives, decoded by the engine as the graph does it, and kept.

The engine's answers are those of the verifier alone whatever was drafted, so its own memory makes the answers cheap.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from crossspec_ros.config import WindowConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.drives import DriveReader, DriveWindow, Split, expected, open_drive
from crossspec_ros.learn.settings import LearnConfig
from crossspec_ros.learn.store import Answer, Learned, Store, count_part
from crossspec_ros.models.heads.recording import AnswerRecorder, as_stored
from crossspec_ros.speculation.drafter import VoxelGrid
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.target import Target

PART = 16                        # windows of a part: what a kill may lose
_JPEG_WIDTH = 320


class Answerer:
    """Asks the engine every prompt about a window."""

    def __init__(self, target: Target, config: LearnConfig, layers: Sequence[int] = ()) -> None:
        """``layers``: whose states are kept of each token (none: no states)."""
        settings = EngineConfig(window_frames=WindowConfig().window_frames, max_new_tokens=config.max_new_tokens)
        self._recorder = AnswerRecorder(target, layers, settings, config.likely)
        self._config, self._asked = config, 0

    @property
    def engine(self) -> CaptionEngine:
        """What decodes."""
        return self._recorder.engine

    def costs(self) -> dict[int, float]:
        """Milliseconds of a forward by its new tokens; measured, so to be asked for while nothing else runs."""
        return self.engine.warm_up(self._config.prompts[0])

    def answer(self, window: DriveWindow) -> Learned:
        """A window's answers. Raises CrossSpecError for frames that the target cannot take."""
        answers = tuple(self._answer(window, prompt) for prompt in self._config.prompts)
        jpeg = _jpeg(window.frames[-1]) if window.held else b''
        return Learned(window.window_id, window.end_ns, window.looks.astype(np.float16), answers, jpeg)

    def _answer(self, window: DriveWindow, prompt: str) -> Answer:
        self._asked += 1
        said = self._recorder.record(self._asked, window.frames, prompt, stamps_ns=window.stamps_ns)
        return Answer(np.array(said.token_ids, np.int32), said.likely.cpu().numpy().astype(np.int32),
                      said.log_probs.half().cpu().numpy(), None if said.states is None else as_stored(said.states))


def _jpeg(rgb: np.ndarray) -> bytes:
    height, width = rgb.shape[:2]
    if width > _JPEG_WIDTH:
        rgb = cv2.resize(rgb, (_JPEG_WIDTH, max(1, height * _JPEG_WIDTH // width)), interpolation=cv2.INTER_AREA)
    return cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def look_at_drives(config: LearnConfig) -> list[Split]:
    """The splits of all drives, before anything is read. Raises CrossSpecError as `open_drive` does."""
    splits = []
    for number in range(len(config.bags)):
        source, split = open_drive(config, number)
        source.close()
        splits.append(split)
    return splits


def count_windows(config: LearnConfig, splits: list[Split]) -> int:
    """About how many windows will be answered."""
    return sum(sum(expected(config, split)) for split in splits)


def answer_drives(config: LearnConfig, answerer: Answerer, store: Store, view: VoxelGrid,
                  advance: Callable[[float], None] = lambda count: None) -> Counter[str]:
    """Answer what is not answered yet, drive by drive; returns what could not be used, by cause.

    ``advance`` is told of windows that are done, those of before included. What is answered is kept whatever happens.
    Raises CrossSpecError where the disk fills, and where no window can be answered.
    """
    lost = Counter(store.noted('lost') or {})
    for number, uri in enumerate(config.bags):
        if store.noted(f'drive-{number:03d}') is not None:
            advance(_answered(store, number))
            continue
        source, split = open_drive(config, number)
        try:
            after = store.last(number)
            advance(_answered(store, number))
            reader = DriveReader(config, split, view, after)
            waiting: list[Learned] = []
            try:
                for window in reader.windows(source):
                    try:
                        waiting.append(answerer.answer(window))
                    except CrossSpecError as error:
                        reader.counts['window_refused'] += 1
                        if reader.counts['window_refused'] > PART and not store.parts(number):
                            raise CrossSpecError(f'no window of {uri} can be answered: {error}') from error
                    advance(1)
                    if len(waiting) == PART:
                        store.add(number, waiting)
                        waiting = []
            finally:
                if waiting:
                    store.add(number, waiting)
            lost.update(reader.counts)
            store.note('lost', lost)
            store.note(f'drive-{number:03d}', {'windows': _answered(store, number)})
        finally:
            source.close()
    return lost


def _answered(store: Store, number: int) -> int:
    return sum(map(count_part, store.parts(number)))
