"""An adapter for any class: what it has to know it learns from what the model's own ``generate`` hands its decoder.

One frame at a time is changed, and the rows that change with it are that frame's. So groups of frames, text between
them, features for the first layers, positions and masks come from the model itself, and no class is named here. What
does not fit - rows whose number depends on what is seen, states that cannot be cut back, arguments that nobody can
make again - is refused in one sentence.

Shape letters: T tokens, W row width, A rows of positions.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.targets.adapters.base import Parts, Plan
from crossspec_ros.models.targets.adapters.processed import ProcessedAdapter, noise
from crossspec_ros.models.targets.decoding import NO_TREE, MaskKind, Placement, tree_mask
from crossspec_ros.models.targets.packing import RowFormat
from crossspec_ros.models.targets.watching import Seen, Watcher, changed, runs_of
from crossspec_ros.speculation.target import Abilities, Layout

_QUESTION = 'What is happening?'
_SIZE = (96, 128)                         # px of the frames that are used to learn
_GROUPS = ((4, (1, 2)), (8, (4,)))        # so many frames tell groups of so many apart
_CLOSE = 1e-3                             # of the largest value: rows that are the same but for rounding


class GenericAdapter(ProcessedAdapter):
    """Learns when it is made; raises `CrossSpecError` for a class that cannot be served."""

    template = '{video}\n{question}\n'

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._watch = Watcher(self.model, self.language_model, self.head)
        self._whole = False                            # all frames of a window are one group
        self._placed = False                           # a group's rows depend on its place
        self._learn()

    # -- what is learnt once ----------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _learn(self) -> None:
        said = self._watch.answer(self.inputs(_QUESTION, noise(2, *_SIZE)), 2)
        self._refuse(said.seen[0])
        self.bare = _close(said.raw, said.logits)
        features = said.seen[0].features
        self.rows = RowFormat(self.rows.width, len(features[1]) if features else 0)
        for count, units in _GROUPS:
            frames = noise(count, *_SIZE)
            inputs = self.inputs(_QUESTION, frames)
            seen = self._watch.prefill(inputs)
            touched = self._touched(frames, inputs, seen)
            unit = next((unit for unit in units if _grouped(touched, unit)), 0)
            if unit:
                break
        self.group_frames, self._whole, notes = unit or 1, not unit, []
        if self._whole:
            notes.append('rows of a frame depend on the other frames of the window: nothing is encoded before the last')
        if self._learn_masks(seen, len(frames) // self.group_frames):
            self._whole = True
            notes.append('the decoder lets rows of a frame see later frames: nothing is prefilled before the last')
        self.style = replace(self.style, axes=seen.axes, features=seen.form or self.style.features)
        if not self._whole:
            self._placed = self._depends_on_place(frames, inputs, seen, touched)
            if self._placed:
                notes.append('rows of a frame depend on its place in the window: windows share no frames')
        self.abilities = Abilities(frame_cache=not self._whole and not self._placed, anticipatory=not self._whole,
                                   notes=tuple(notes))

    @staticmethod
    def _refuse(seen: Seen) -> None:
        if seen.recurrent:
            raise CrossSpecError('keys and values must be such that rejected tokens can be cut off again, the cache '
                                 f'has {", ".join(seen.recurrent)}; recurrent models cannot be served')
        if seen.more:
            raise CrossSpecError(f'the decoder must be handed embeddings, positions and masks only, it is also handed '
                                 f'{", ".join(seen.more)}, which cannot be made for drafts')

    def _touched(self, frames: list[np.ndarray], inputs: dict[str, torch.Tensor],
                 seen: Seen) -> list[frozenset[int]]:
        """Rows that change with each frame. Raises `CrossSpecError` where their number depends on what is seen."""
        base, others, touched = self._pack(seen), noise(len(frames), *_SIZE, seed=1), []
        for slot, other in enumerate(others):
            rows = self._pack(self._see(_QUESTION, [*frames[:slot], other, *frames[slot + 1:]]))
            if rows.shape != base.shape:
                raise CrossSpecError('the number of rows must not depend on what frames show, it does: nothing can be '
                                     'laid out before the last frame')
            touched.append(frozenset(torch.nonzero(changed(rows, base))[:, 0].tolist()))
        still = self.inputs(_QUESTION, [frames[0]] * len(frames))
        if still['input_ids'].shape != inputs['input_ids'].shape:
            raise CrossSpecError('the number of rows must not depend on what frames show, a still scene gives '
                                 f'{still["input_ids"].shape[1]}, a moving one {inputs["input_ids"].shape[1]}')
        if not all(touched):
            raise CrossSpecError('every frame must have rows, the processor leaves frames out: give it fewer')
        return touched

    def _depends_on_place(self, frames: list[np.ndarray], inputs: dict[str, torch.Tensor], seen: Seen,
                          touched: Sequence[frozenset[int]]) -> bool:
        unit, base = self.group_frames, self._pack(seen)
        turned = self._pack(self._see(_QUESTION, [*frames[unit:], *frames[:unit]]))
        if turned.shape != base.shape or unit == len(frames):
            return True
        return not _close(base[sorted(touched[0])], turned[sorted(touched[-1])])

    def _learn_masks(self, seen: Seen, groups: int) -> bool:
        """Set how layers see a prompt of so many groups; True where rows of one see those of a later one."""
        if not seen.masks:
            return False
        count, mixed, kinds = len(seen.embeddings), False, {}
        causal, index = tree_mask(0, count, NO_TREE, count)
        known, flags = dict(self.style.kinds), _ahead(seen).cpu()
        for name, mask in seen.masks.items():
            given = _given(mask, count)
            kind = known.get(name, next(iter(known.values())))
            choices = [MaskKind(window, blocks, cut) for window in (kind.window, 0) for blocks in ('', 'runs', 'all')
                       for cut in (False, True)]
            found = next((one for one in choices if torch.equal(
                self.style.mask(one, causal, index, 0, flags), given)), None)
            if found is None:
                raise CrossSpecError('the decoder must see causally, in windows, or in blocks of frames, its mask'
                                     f'{f" {name}" if name else ""} is another')
            if found.blocks:
                self.rows = replace(self.rows, flags=True)
                mixed = mixed or found.blocks == 'all' or _runs(flags) < groups
            kinds[name] = found
        for name in set(known) - set(kinds) if '' not in kinds else ():
            kinds[name] = known[name]
        self.style = replace(self.style, kinds=MappingProxyType(kinds))
        return mixed

    # -- prompts and frames -----------------------------------------------------------------------------------------

    def layout(self, prompt: str, frames: int, height: int, width: int) -> Layout:
        """The prompt as the model lays it out for frames of noise of this size."""
        unit = frames if self._whole else self.group_frames
        if not self._whole:
            self.check_count(frames)
        first = noise(frames, height, width)
        inputs = self.inputs(prompt, first)
        ids = inputs['input_ids'][0]
        said = self._watch.answer(inputs, 3)
        seen = said.seen[0]
        rows = self._pack(seen)
        other = self._pack(self._see(prompt, [255 - frame for frame in first]))
        if rows.shape != other.shape or len(rows) != len(ids):
            raise CrossSpecError('the number of rows must not depend on what frames show, it does')
        moving = torch.nonzero(changed(rows, other))[:, 0].tolist()
        runs = ((moving[0], moving[-1] + 1),) if self._whole else runs_of(moving, frames // unit)
        runs = _spread(runs, rows[:, -1] if self.rows.flags else None, self._whole)
        if runs[-1][1] == len(ids) and moving[-1] + 1 < len(ids):
            raise CrossSpecError('rows of frames must not see the question after them, in this decoder they do: '
                                 'nothing can be prefilled before it')
        single = None
        if not self._whole and not self._placed and len(runs) > 1:
            single = self._single(prompt, first[:unit], rows[runs[0][0]:runs[0][1]])
        plan = Plan(prompt, (height, width), _placement(said.seen), runs, single=single)
        return self.cut(ids.tolist(), rows, unit, plan)

    def _single(self, prompt: str, frames: list[np.ndarray], rows: torch.Tensor) -> tuple[int, tuple[int, int]] | None:
        """Length and run of a prompt that shows a group alone, where its rows are those in the clip; else None."""
        try:
            alone = self._pack(self._see(prompt, frames))
            other = self._pack(self._see(prompt, [255 - frame for frame in frames]))
        except CrossSpecError:                         # the prompt is one for a whole clip
            return None
        moving = torch.nonzero(changed(alone, other))[:, 0].tolist() if alone.shape == other.shape else []
        if not moving:
            return None
        run, = _spread(((moving[0], moving[-1] + 1),), alone[:, -1] if self.rows.flags else None)
        return (len(alone), run) if _close(alone[run[0]:run[1]], rows) else None

    def encode(self, layout: Layout, group: int, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Rows of a group: alone in a prompt, or at its place in a clip of its own frames, where that matters."""
        self.check_size(layout, frames)
        frames = list(frames)
        plan: Plan = layout.private
        if plan.single is not None:
            inputs, (expected, (first, end)) = self.inputs(plan.prompt, frames), plan.single
            if not _blank(inputs):
                return self._rows(self._watch.prefill(inputs), expected)[first:end].clone()
        clip = noise(sum(one.frames for one in layout.groups), *plan.size) if plan.single else frames * len(plan.runs)
        start = layout.groups[group].first                 # in a clip, since some models drop a picture of nothing
        clip[start:start + len(frames)] = frames
        first, end = plan.runs[group]
        return self._rows(self._see(plan.prompt, clip), layout.length)[first:end].clone()

    def encode_all(self, layout: Layout, frames: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Rows of every group from one look at the whole window."""
        self.check_size(layout, frames)
        rows = self._rows(self._see(layout.private.prompt, list(frames)), layout.length)
        return [rows[first:end].clone() for first, end in layout.private.runs]

    def _rows(self, seen: Seen, expected: int) -> torch.Tensor:
        if len(seen.embeddings) != expected:
            raise CrossSpecError(f'frames must give {expected} rows of the prompt, got {len(seen.embeddings)}: the '
                                 'processor drops frames that show nothing; leave them out')
        return self._pack(seen)

    def _see(self, prompt: str, frames: Sequence[np.ndarray]) -> Seen:
        return self._watch.prefill(self.inputs(prompt, frames))

    def _pack(self, seen: Seen) -> torch.Tensor:
        """Rows (T, W) of a prompt."""
        return self.rows.prompt(seen.embeddings, seen.features, _ahead(seen) if self.rows.flags else None)


def _grouped(touched: Sequence[frozenset[int]], unit: int) -> bool:
    """True where frames share rows within groups of ``unit``, and groups, in their order, share none."""
    groups = [touched[slot:slot + unit] for slot in range(0, len(touched), unit)]
    alike = all(rows == group[0] for group in groups for rows in group)
    ordered = all(max(one[0]) < min(next_one[0]) for one, next_one in zip(groups, groups[1:]))
    return alike and ordered and len(touched) > unit and len({len(group[0]) for group in groups}) == 1


def _blank(inputs: dict[str, torch.Tensor]) -> bool:
    """True where a picture's pixels are all zero."""
    pixels = [value for name, value in inputs.items() if name.startswith('pixel_values') and value.ndim >= 4]
    return any(not bool(value.flatten(0, -4).flatten(1).any(1).all()) for value in pixels)


def _spread(runs: Sequence[tuple[int, int]], flags: torch.Tensor | None,
            whole: bool = False) -> tuple[tuple[int, int], ...]:
    """Runs that also hold the rows of their blocks: those flagged beside them, or (``whole``) all flagged rows."""
    if flags is None or not bool((flags > 0).any()):
        return tuple(runs)
    marked = torch.nonzero(flags > 0)[:, 0].tolist()
    if whole:
        return ((min(runs[0][0], marked[0]), max(runs[0][1], marked[-1] + 1)),)
    known, spread = set(marked), []
    for first, end in runs:
        while first - 1 in known:
            first -= 1
        while end in known:
            end += 1
        spread.append((first, end))
    return tuple(spread)


def _runs(flags: torch.Tensor) -> int:
    """How many runs of flagged rows there are."""
    return int((flags & ~torch.cat([flags.new_zeros(1), flags[:-1]])).sum())


def _given(mask: torch.Tensor, count: int) -> torch.Tensor:
    """Who sees whom, bool (count, count), of a mask (1, 1, T, L) of bools or of summands."""
    mask = mask[0, 0, :, :count].cpu()
    return mask if mask.dtype == torch.bool else mask >= 0


def _ahead(seen: Seen) -> torch.Tensor:
    """Rows that see later ones or are seen by earlier ones, bool (T,)."""
    count = len(seen.embeddings)
    ahead = torch.zeros(count, dtype=torch.bool)
    for mask in seen.masks.values():
        later = _given(mask, count).triu(1)
        ahead |= later.any(0) | later.any(1)
    return ahead.to(seen.embeddings.device)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """True where rows are the same but for rounding."""
    if one.shape != other.shape:
        return False
    loose = _CLOSE if one.dtype == torch.float32 else 50 * _CLOSE
    return bool((one - other).abs().max() <= loose * other.abs().max())


def _placement(seen: Sequence[Seen]) -> Placement | None:
    """Where the rows of the prompt, seen first, and those of the answer stand. None where row k stands at k.

    Raises `CrossSpecError` where positions of the answer do not count on by one.
    """
    table = seen[0].positions
    if table is None:
        return None
    count = table.shape[1]
    after = [one.positions[:, -1:].cpu() - (count + step) if one.positions is not None else torch.zeros(1, 1).long()
             for step, one in enumerate(seen[1:])]
    if any(not torch.equal(shift, after[0]) for shift in after):
        raise CrossSpecError('positions of the answer must count on by one, they do not')
    table = table.cpu()
    if not seen[0].axes and torch.equal(table[0], torch.arange(count)) and not after[0].any():
        return None
    return Placement(table, after[0].expand(table.shape[0], 1))
