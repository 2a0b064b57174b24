"""What experiments share: the pair, windows answered once and kept, and decoding them again with any sources.

Letters: T tokens, K states of a token, D width, C, H, W the drafter's voxel grid.
"""
from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from crossspec_ros.bench.decode import drafter_for, make_windows
from crossspec_ros.bench.decode_schemes import Outcome, Speculation, Window
from crossspec_ros.bench.drafts import Drawer, Looker, Shape, load_looks
from crossspec_ros.bench.heads import encode_ms
from crossspec_ros.bench.heads_replay import ALWAYS, Recorded, Replay, load_drive, record_drive, save_drive
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import Settings
from crossspec_ros.experiments.folder import RECORDS, read_json, write_json
from crossspec_ros.models.targets import TransformersTarget, load_target
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.speculation.engine import CaptionEngine
from crossspec_ros.speculation.rules import Rule
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources import DRAFTS
from crossspec_ros.speculation.sources.base import DraftSource, Opening
from crossspec_ros.speculation.sources.heads import FINAL, Head, HeadSource
from crossspec_ros.speculation.worth import Worth
from crossspec_ros.train.states import FIRST_SEED
from crossspec_ros.world import Truth, World

if TYPE_CHECKING:
    from crossspec_ros.models.drafter import EventDrafter

SIZE = (240, 320)
_DRIVE = 24                        # windows of a drive that is learned from
_TAUGHT_SEED = FIRST_SEED + 50_000


@dataclass(frozen=True, eq=False)
class Seen:
    """An answered window and what the drafter was shown: before the newest frame, and of all events; (C, H, W) each."""

    window: Recorded
    looks: tuple[np.ndarray, np.ndarray]

    @property
    def look(self) -> np.ndarray:
        """Of all its events."""
        return self.looks[1]


@dataclass(frozen=True, eq=False)
class Shown:
    """An answered window, its frames as `bench.decode_schemes` takes them, and what is true of it."""

    window: Recorded
    frames: Window
    true: Truth

    @property
    def truth(self) -> str:
        """The true caption."""
        return self.true.caption

    @property
    def slots(self) -> dict[str, str]:
        """Its facts by name."""
        return self.true.slots

    @property
    def answers(self) -> dict[str, str]:
        """The true answer to each question."""
        return self.true.answers


class Lab:
    """The pair and the windows of some settings. ``out`` holds the records, which all experiments of it share."""

    def __init__(self, settings: Settings, out: Path) -> None:
        self.settings, self.records = settings, out / RECORDS

    @cached_property
    def target(self) -> TransformersTarget:
        """The verifier."""
        return load_target(self.settings.model)

    @cached_property
    def drafter(self) -> EventDrafter:
        """The event drafter. Raises CrossSpecError where it has another vocabulary."""
        return drafter_for(self.settings.drafter, self.target)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Of the verifier's decoder whose states are kept: what heads and early exits read, and the last ones."""
        count = int(self.target.adapter.text_config.num_hidden_layers)
        return (*sorted({min(1, count - 1), count // 4, count // 2}), FINAL)

    @cached_property
    def costs(self) -> dict[int, float]:
        """ms of a forward by new tokens, measured on this machine once for all experiments of the folder."""
        path = self.records / 'costs.json'
        if not path.is_file():
            measured = CaptionEngine(self.target).warm_up(self.settings.prompt, *SIZE)
            write_json(path, {'model': self.target.model_key, 'encode_ms': encode_ms(self.target, self.settings.prompt),
                              'forward_ms': measured})
        return {int(count): cost_ms for count, cost_ms in self._costs(path)['forward_ms'].items()}

    def _costs(self, path: Path) -> dict:
        found = read_json(path)
        if found.get('model') != self.target.model_key:
            raise CrossSpecError(f'{path} is of another verifier ({found.get("model")}): name another folder with '
                                 '--out')
        return found

    @cached_property
    def replay(self) -> Replay:
        """Decodes the windows again without the target, as an engine of default settings would."""
        return self.replay_as(EngineConfig())

    def replay_as(self, config: EngineConfig) -> Replay:
        """The same with other settings."""
        costs = self.costs
        return Replay(self.target, self.layers, costs, self._costs(self.records / 'costs.json')['encode_ms'],
                      self.settings.prompt, *SIZE, config)

    @cache
    def windows(self, pace: str) -> list[Seen]:
        """The windows that are measured, drive after drive.

        Raises CrossSpecError where one says other tokens without drafts.
        """
        settings = self.settings
        return self._drives(pace, settings.seed, settings.drives, settings.windows, rehearse=True)

    def recorded(self, pace: str) -> list[Recorded]:
        """The same without what the drafter saw."""
        return [seen.window for seen in self.windows(pace)]

    @cache
    def taught(self) -> list[Seen]:
        """Windows of other drives, brisk ones, to learn from."""
        count = self.settings.taught
        return self._drives('brisk', _TAUGHT_SEED, -(-count // _DRIVE), min(count, _DRIVE), rehearse=False)[:count]

    @cache
    def drawer(self, pace: str) -> tuple[Drawer, list[Recorded]]:
        """The event drafter at work on the windows, and the windows."""
        seen = self.windows(pace)
        looks = {each.window.window_id: each.looks for each in seen}
        drawer = Drawer(self.drafter, Shape(), self.settings.prompt, looks)
        return drawer, [drawer.take(each.window) for each in seen]

    def decoded(self, pace: str, names: Sequence[str], heads: Sequence[Head] = (), more: Sequence[DraftSource] = ()
                ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Rows and statistics (vLLM's names) of all windows decoded again with these sources; see `Replay`.

        The memory fills on the first drive, which is no row where there are others.
        """
        proposer = self.replay.mixture(names, heads, more)
        drawer, windows = self.drawer(pace) if DRAFTS in names else (None, self.recorded(pace))
        told = self.replay.through(proposer, names, windows, drawer and drawer.again().redraft)
        proposer.begin(Opening(0, ''))                                       # counts the passes of the last window
        first = told[0].drive
        counted = [one for one in told if one.drive != first] or told
        return [asdict(one) | {'drafted': sum(one.trees)} for one in counted], proposer.statistics()

    def live(self, pace: str, each: int, names: Sequence[str], heads: Sequence[Head] = (),
             more: Sequence[DraftSource] = (), rule: Rule | None = None, prompt: str = '', at_hand: bool = True
             ) -> list[Outcome]:
        """The first ``each`` windows of each drive decoded by the verifier itself with these sources, frame by frame as
        a vehicle brings them; ``prompt``: another question. ``at_hand``: the event drafter's whole draft is there from
        the start, so that nothing hangs on how busy the machine is; else when it was made.

        Raises CrossSpecError where a window says other tokens than without drafts; not with a lossy ``rule``.
        """
        sources = [HeadSource(head, self.target.vocab_size, worth=Worth() if names else Worth(trial=ALWAYS))
                   for head in heads]
        scheme = Speculation(self.target, EngineConfig(), names, rehearse='rehearsal' in names,
                             drafts=DRAFTS in names and not prompt, more=[*sources, *more])
        if rule is not None:
            scheme.engine.use_rule(rule)
        for tokens, cost_ms in self.costs.items():
            scheme.engine.proposer.cost.measured(tokens, cost_ms)
        outcomes = []
        for shown in self.shown(pace, each):
            asked = replace(shown.frames, prompt=prompt or self.settings.prompt)
            if at_hand:
                asked = replace(asked, early=asked.late, late=None)
            outcomes.append(scheme.run(asked))
            if rule is None and outcomes[-1].tokens != self._plain(shown, prompt):
                raise CrossSpecError(f'window {asked.window_id} of {pace}: {", ".join(names) or "no sources"} and '
                                     f'{len(sources) + len(more)} more changed what the verifier says')
        return outcomes

    def _plain(self, shown: Shown, prompt: str) -> tuple[int, ...]:
        """What the verifier says without drafts; `windows` are compared with that as they are answered."""
        if prompt:
            return self.without_end(self.target.generate(shown.frames.frames, prompt, EngineConfig().max_new_tokens))
        return self.without_end(shown.window.token_ids)

    def without_end(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """An answer as captions have it."""
        return tuple(token_ids[:-1] if token_ids and token_ids[-1] in self.target.eos_ids else token_ids)

    @cache
    def shown(self, pace: str, each: int) -> list[Shown]:
        """The first ``each`` of the windows of each drive with their frames and what is true of them."""
        settings, found = self.settings, []
        recorded = self.recorded(pace)
        for drive in range(settings.drives):
            first = drive * settings.windows
            made = make_windows(min(each, settings.windows), settings.seed + drive, first + 1, settings.prompt, None,
                                pace)
            world = World(settings.seed + drive, pace=pace)
            for place, (frames, window) in enumerate(zip(made, recorded[first:])):
                truth = world.truth(float(place + 2))
                found.append(Shown(window, replace(frames, early=window.early, late=window.late), truth))
        return found

    def _drives(self, pace: str, seed: int, drives: int, windows: int, *, rehearse: bool) -> list[Seen]:
        key = f'{self.target.model_key} {self.layers} {self.settings.drafter} {self.settings.prompt} {rehearse}'
        found: list[Seen] = []
        for drive in range(drives):
            name = f'{pace}_{seed + drive}_{windows}_{zlib.crc32(key.encode()):08x}'
            found += self._drive(key, name, pace, seed + drive, windows, len(found) + 1, rehearse)
        return found

    def _drive(self, key: str, name: str, pace: str, seed: int, windows: int, first_id: int, rehearse: bool
               ) -> list[Seen]:
        path, shown, prompt = self.records / f'{name}.npz', self.records / f'{name}.looks.npz', self.settings.prompt
        if path.is_file() and shown.is_file():
            recorded, looks = load_drive(path, key, first_id, prompt, self.target.tokenizer_key), load_looks(shown)
        else:
            looker = Looker(self.drafter)
            recorded = record_drive(self.target, looker, self.layers, seed=seed, pace=pace, windows=windows,
                                    first_id=first_id, prompt=prompt, rehearse=rehearse, proven=rehearse)
            looks = looker.seen
            save_drive(path, key, recorded)
            write_atomic(shown, lambda part: _save_looks(part, looks))
        return [Seen(window, pair) for window, pair in zip(recorded, zip(looks[::2], looks[1::2]), strict=True)]

    def place(self, layer: int) -> int:
        """Where the states of a layer stand among those that are kept."""
        return self.layers.index(layer)

    @torch.inference_mode()
    def words(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (..., V) float32 that the verifier's output matrix makes of last states (..., D)."""
        return self.target.adapter.head(states.to(self.target.device, self.target.dtype)).float().cpu()


def _save_looks(path: Path, looks: Sequence[np.ndarray]) -> None:
    with path.open('wb') as handle:
        np.savez_compressed(handle, *looks)
