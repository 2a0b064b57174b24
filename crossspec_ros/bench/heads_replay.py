"""Recorded windows for `crossspec bench heads`, and decoding them again without the target.

Decoding is lossless, so what the target says is known once it has said it, and so are the states from which it said
each token: they depend on the frames and the tokens before, on no draft. A window is therefore answered once by the
target; each mixture of sources then decodes it again from the record, with the cost curve measured here for the time
of the forwards. Left out: what the target would have ranked after rejected nodes (recycling learns from accepted ones
only). Letters: T tokens, K states of a token, D width, n nodes.
"""
from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from crossspec_ros.bench.decode import make_windows
from crossspec_ros.bench.decode_schemes import Window
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.heads.recording import AnswerRecorder
from crossspec_ros.speculation.age import pass_tokens
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.inbox import Admission
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.ranking import ranked
from crossspec_ros.speculation.replay import KnownAnswer
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.sources.base import DraftSource, Opening
from crossspec_ros.speculation.sources.heads import Head, HeadSource
from crossspec_ros.speculation.tree import PREFIX
from crossspec_ros.speculation.types import Draft, prompt_key
from crossspec_ros.speculation.worth import Worth

if TYPE_CHECKING:
    from crossspec_ros.models.drafter import EventDrafter
    from crossspec_ros.models.targets import TransformersTarget

_TRANSPORT_MS = 2.0              # a draft on its way between two processes of one machine
_RANKS = 4
ALWAYS = 1 << 40
"""Offers of a head before its worth is judged: it is asked in any case."""

Redraft = Callable[['Recorded', Sequence[int]], Draft | None]
"""What a drafter says of a window after the committed tokens; None: nothing new."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A window: ``token_ids`` of its answer with the end token, ``states`` float32 (T, K, D), what was rehearsed, and
    the event drafter's drafts: begun before the newest frame, and at the window's end."""

    drive: str
    window_id: int
    token_ids: tuple[int, ...]
    states: torch.Tensor
    rehearsed: tuple[int, ...]
    early: Draft | None
    late: Draft | None


@dataclass(frozen=True)
class Told:
    """What a replayed window took: passes, tokens, and the modelled age of its caption, of it ``head_ms`` in heads and
    sources of other packages. ``trees``: nodes checked in each pass; ``accepted``: how many of all were right."""

    drive: str
    passes: int
    tokens: int
    age_ms: float
    head_ms: float = 0.0
    trees: tuple[int, ...] = ()
    accepted: int = 0


def record_drive(target: TransformersTarget, drafter: EventDrafter | None, layers: Sequence[int], *, seed: int,
                 pace: str, windows: int, first_id: int, prompt: str, rehearse: bool = True,
                 proven: bool = False) -> list[Recorded]:
    """A drive's windows, each answered once by the target with rehearsals and drafts, as it would be live.

    ``proven``: each is decoded without drafts too. Raises `CrossSpecError` where that says other tokens.
    """
    recorder, found = AnswerRecorder(target, layers), []
    for window in make_windows(windows, seed, first_id, prompt, drafter, pace):
        drafts = [] if window.early is None else [window.early]
        answer = recorder.record(window.window_id, window.frames, prompt, drafts, rehearse=rehearse)
        if proven:
            _prove(target, window, prompt, answer.token_ids)
        found.append(Recorded(f'{pace}_{seed}', window.window_id, answer.token_ids, answer.states.float().cpu().clone(),
                              answer.rehearsed, window.early, window.late))
    return found


def _prove(target: TransformersTarget, window: Window, prompt: str, said: Sequence[int]) -> None:
    plain = tuple(target.generate(window.frames, prompt, EngineConfig().max_new_tokens))
    if plain != tuple(said)[:len(plain)] or len(said) - len(plain) not in (0, 1):
        raise CrossSpecError(f'window {window.window_id}: drafts changed what the verifier says; `crossspec model '
                             'check` tells whether it is served exactly')


class Replay:
    """Decodes recorded windows with a mixture of sources, as an engine of these settings (or default ones) would.
    """

    def __init__(self, target: TransformersTarget, layers: Sequence[int], costs_ms: dict[int, float],
                 encode_ms: float, prompt: str, height: int, width: int, config: EngineConfig | None = None) -> None:
        self._target, self._layers, self._encode_ms = target, tuple(layers), encode_ms
        self._costs, self._curve, self._config = costs_ms, CostCurve(costs_ms), config or EngineConfig()
        self._key = prompt_key(prompt)
        layout = target.layout(prompt, self._config.window_frames, height, width)
        self._fused, self._question = layout.last_tokens - 1, layout.question_ids

    def mixture(self, names: Sequence[str], heads: Sequence[Head], more: Sequence[DraftSource] = ()) -> Proposer:
        """A proposer of sources, heads and ``more`` that has learnt nothing yet; heads alone are always asked."""
        target = self._target
        sources = [HeadSource(head, target.vocab_size, worth=Worth() if names else Worth(trial=ALWAYS))
                   for head in heads]
        proposer = Proposer(ProposerConfig(tuple(names)), Admission.of(target), [*sources, *more])
        for count, cost_ms in self._costs.items():
            proposer.cost.measured(count, cost_ms)
        return proposer

    def run(self, names: Sequence[str], heads: Sequence[Head], windows: Sequence[Recorded],
            redraft: Redraft | None = None) -> list[Told]:
        """All windows in a row, with one memory, as a vehicle would meet them; ``redraft``: what the drafter says after
        each verdict."""
        return self.through(self.mixture(names, heads), names, windows, redraft)

    def through(self, proposer: Proposer, names: Sequence[str], windows: Sequence[Recorded],
                redraft: Redraft | None = None) -> list[Told]:
        """The same with a proposer of one's own, whose statistics can be asked for afterwards."""
        return [self._window(proposer, names, window, redraft) for window in windows]

    def _window(self, proposer: Proposer, names: Sequence[str], window: Recorded, redraft: Redraft | None) -> Told:
        proposer.begin(Opening(window.window_id, self._key, self._question,
                               window.rehearsed if 'rehearsal' in names else ()))
        drafts = [(0.0, window.early), (window.late.compute_ms + _TRANSPORT_MS, window.late)] \
            if window.late is not None and 'drafts' in names else []
        committed: list[int] = []
        age_ms, begun_ms = self._encode_ms, _spent_ms(proposer)
        trees: list[int] = []
        accepted = 0
        while len(committed) < len(window.token_ids):
            while drafts and drafts[0][0] <= age_ms:
                proposer.inbox.offer(drafts.pop(0)[1])
            spent_ms = _spent_ms(proposer)
            outcome = self._passed(proposer, window, committed)
            age_ms += outcome.verify_ms + proposer.config.node_ms * len(outcome.tree)
            committed += outcome.emitted
            proposer.observe(outcome, committed)
            age_ms += _spent_ms(proposer) - spent_ms
            trees.append(len(outcome.tree))
            accepted += len(outcome.nodes)
            again = redraft(window, committed) if redraft is not None and 'drafts' in names else None
            if again is not None:                               # it was busy with the one before until that was there
                begun = max([age_ms + _TRANSPORT_MS, *(at_ms - _TRANSPORT_MS for at_ms, _ in drafts)])
                drafts.append((begun + again.compute_ms + _TRANSPORT_MS, again))
        proposer.finish(committed)
        assert tuple(committed) == window.token_ids, 'drafts must not change what the target says'
        return Told(window.drive, len(trees), len(committed), age_ms, _spent_ms(proposer) - begun_ms, tuple(trees),
                    accepted)

    def _passed(self, proposer: Proposer, window: Recorded, committed: Sequence[int]) -> PassOutcome:
        """The pass that the target would have made."""
        first, done = not committed, len(committed)
        most, fused = (self._config.first_nodes, self._fused) if first else (self._config.max_nodes, 0)
        tree = proposer.propose(tuple(committed), most, fused_tokens=fused,
                                max_depth=max(self._config.max_new_tokens - done - 1, 1))
        known = KnownAnswer(window.token_ids, window.states, self._layers)
        new_tokens = pass_tokens(len(tree), fused + 1 if first else 0)
        outcome = known.outcome(tree, done, new_tokens=new_tokens, verify_ms=self._curve(new_tokens))
        rows = [0, *(node + 1 for node in outcome.nodes)][:len(outcome.emitted)]
        read = (committed[-1] if committed else PREFIX, *(tree.token_ids[node] for node in outcome.nodes))
        return replace(outcome, read=read[:len(outcome.emitted)], topk=self._ranking(outcome.states[rows]))

    @torch.inference_mode()
    def _ranking(self, states: torch.Tensor) -> tuple[tuple[int, ...], ...]:
        target = self._target
        logits = target.adapter.head(states.to(target.device, target.dtype)).float().cpu()
        return tuple(map(tuple, ranked(logits, _RANKS)[1].tolist()))


def _spent_ms(proposer: Proposer) -> float:
    """What its sources have taken for drafts so far, where they measure it."""
    return sum(source.spent_ms for source in proposer.sources)


# -- on disk -----------------------------------------------------------------------------------------------------------

def save_drive(path: Path, key: str, windows: Sequence[Recorded]) -> None:
    """Write a drive's record, whole or not at all."""
    arrays: dict[str, np.ndarray] = {'key': np.array(key), 'count': np.array(len(windows))}
    for number, window in enumerate(windows):
        arrays |= {f'{number}_ids': np.array(window.token_ids), f'{number}_rehearsed': np.array(window.rehearsed, int),
                   f'{number}_states': window.states.numpy().astype(np.float16)}
        for name, draft in (('early', window.early), ('late', window.late)):
            if draft is not None:
                arrays |= {f'{number}_{name}': np.array(draft.token_ids, int),
                           f'{number}_{name}_weights': np.array(draft.weights, int),
                           f'{number}_{name}_ms': np.array(draft.compute_ms)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    try:
        with part.open('wb') as handle:
            np.savez(handle, **arrays)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CrossSpecError(f'cannot write {path} ({error.strerror or error}): free some space, or leave out --record'
                             ) from error


def load_drive(path: Path, key: str, first_id: int, prompt: str, tokenizer_key: str) -> list[Recorded]:
    """A record that was saved. Raises `CrossSpecError` for one that is broken, or of another verifier or question."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        found, count = str(arrays['key']), int(arrays['count'])
        windows = [_loaded(arrays, number, path.stem, first_id + number, prompt, tokenizer_key)
                   for number in range(count)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CrossSpecError(f'cannot read the recorded drive {path} ({error}): delete it') from error
    if found != key:
        raise CrossSpecError(f'{path} must be recorded with {key}, got {found}: name another folder with --record')
    return windows


def _loaded(arrays: dict[str, np.ndarray], number: int, drive: str, window_id: int, prompt: str,
            tokenizer_key: str) -> Recorded:
    drafts = [None if f'{number}_{name}' not in arrays else
              Draft(window_id, window_id * 10**9, revision, prompt_key(prompt), tokenizer_key, '',
                    tuple(arrays[f'{number}_{name}'].tolist()), (), tuple(arrays[f'{number}_{name}_weights'].tolist()),
                    compute_ms=float(arrays[f'{number}_{name}_ms']))
              for revision, name in enumerate(('early', 'late'))]
    return Recorded(drive, window_id, tuple(arrays[f'{number}_ids'].tolist()),
                    torch.from_numpy(arrays[f'{number}_states'].astype(np.float32)),
                    tuple(arrays[f'{number}_rehearsed'].tolist()), *drafts)
