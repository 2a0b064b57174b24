"""Adapters from the drafter's states to the verifier's: cosine, acceptance and tokens a pass beside each other; and
pupils that see with the drafter's eyes or with the verifier's."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter_ns
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.experiment import (
    ENOUGH_STEPS, FAILS, HOLDS, OPEN, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.low_rank import RANK, with_low_rank
from crossspec_ros.experiments.pupil_methods import Method
from crossspec_ros.experiments.pupil_methods import trained as trained_pupil
from crossspec_ros.experiments.pupils import (
    Batch, judged_lessons, learn, newest_frame, newest_look, rows_of, taught_lessons)
from crossspec_ros.experiments.states import FINAL, Places, apply_ridge, places, ridge, said_right
from crossspec_ros.models.drafter import EventDrafter
from crossspec_ros.models.targets import TransformersTarget

_BATCH, _RATE, _TEMPERATURE = 256, 2e-3, 0.07
_NONE, _LINEAR, _FUSED, _LORA = 'none', 'linear', 'fused', 'lora'
_OWN, _SAME = 'pupil, own eyes', 'pupil, same eyes'
ADAPTERS = (_LINEAR, 'mlp', 'contrastive', 'distilled', _FUSED, _LORA)
PUPILS = {_OWN: newest_look, _SAME: newest_frame}
KINDS = (_NONE, *ADAPTERS, *PUPILS)


class _Mlp(nn.Module):
    """A hidden layer, twice as wide as what comes out."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(narrow), nn.Linear(narrow, 2 * wide), nn.GELU(),
                                  nn.Linear(2 * wide, wide))

    def forward(self, hidden: Tensor) -> Tensor:
        """(P, d) -> (P, D)."""
        return self.body(hidden)


def squared(made: Tensor, true: Tensor, words: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean squared difference of states."""
    return F.mse_loss(made, true)


def contrastive(made: Tensor, true: Tensor, words: Callable[[Tensor], Tensor]) -> Tensor:
    """InfoNCE (1807.03748): of all places of the batch the right one is the nearest."""
    near = F.normalize(made, dim=-1) @ F.normalize(true, dim=-1).T / _TEMPERATURE
    return F.cross_entropy(near, torch.arange(len(made)))


def distilled(made: Tensor, true: Tensor, words: Callable[[Tensor], Tensor]) -> Tensor:
    """KL of the words that the states say."""
    return F.kl_div(words(made).log_softmax(-1), words(true).softmax(-1), reduction='batchmean')


_LOSSES = {'mlp': squared, 'contrastive': contrastive, 'distilled': distilled, _FUSED: squared}


def _mlp(narrow: int, wide: int, seed: int) -> _Mlp:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Mlp(narrow, wide)


def trained(kind: str, taught: Places, target: TransformersTarget, steps: int, seed: int) -> Callable[[Tensor], Tensor]:
    """An adapter (P, d) -> (P, D), ``fused`` one of (P, (L + 1) d). Contrastive states have no length: they get the
    mean one of the verifier's."""
    hidden, true = inputs_of(kind, taught), taught.states[FINAL]
    if kind == _LINEAR:
        weights = ridge(hidden, true)
        return lambda hidden: apply_ridge(weights, hidden)
    weight = target.adapter.head.weight.detach().float().cpu()
    draw, model = torch.Generator().manual_seed(seed), _mlp(hidden.shape[1], true.shape[1], seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    for _ in range(steps):
        chosen = torch.randint(len(true), (_BATCH,), generator=draw)
        loss = _LOSSES[kind](model(hidden[chosen].clone()), true[chosen].clone(), lambda states: states @ weight.T)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    length = true.norm(dim=-1).mean() if kind == 'contrastive' else None

    @torch.inference_mode()
    def adapter(hidden: Tensor) -> Tensor:
        made = model(hidden)
        return made if length is None else F.normalize(made, dim=-1) * length
    return adapter


@cache
def _taught(lab: Lab) -> Places:
    """Made once for all parts."""
    return places(lab, lab.taught())


def _seen(lab: Lab, pace: str, drafter: EventDrafter) -> Places:
    return _judged_places(lab, pace) if drafter is lab.drafter else places(lab, lab.windows(pace), drafter)


@cache
def _judged_places(lab: Lab, pace: str) -> Places:
    return places(lab, lab.windows(pace))


def inputs_of(kind: str, found: Places) -> Tensor:
    """The drafter's states that an adapter of the kind reads."""
    return found.fused if kind == _FUSED else found.hidden


def trained_low_rank(lab: Lab, steps: int, seed: int) -> tuple[EventDrafter, Callable[[Tensor], Tensor]]:
    """The drafter with low-rank updates, and the MLP adapter that learned with them by the same loss as without."""
    taught, place = taught_lessons(lab), lab.place(FINAL)
    drafter, learning = with_low_rank(lab.drafter, seed)
    model = _mlp(drafter.config.dim, taught[0].states.shape[-1], seed)

    def loss(batch: Batch, _: float) -> Tensor:
        hidden = batch.places(drafter.continue_from(batch.visual, batch.rows))
        return F.mse_loss(model(hidden), batch.states[:, place])
    learn([*learning, *model.parameters()], taught, loss, steps, torch.Generator().manual_seed(seed))

    @torch.inference_mode()
    def adapter(hidden: Tensor) -> Tensor:
        return model(hidden)
    return drafter.eval(), adapter


@dataclass(frozen=True)
class Alignment(Experiment):
    """A kind of adapter or of pupil a part, a training of it a seed."""

    def parts(self, settings: Settings) -> tuple[str, ...]:
        return tuple(f'{kind}/{seed}' for kind in KINDS
                     for seed in range(1 if kind in (_NONE, _LINEAR) else settings.seeds))

    def measure(self, settings: Settings, part: str, lab: Lab) -> dict[str, Any]:
        kind, seed = part.split('/')
        if kind in PUPILS:
            view = PUPILS[kind]
            pupil = trained_pupil(lab, taught_lessons(lab, view), Method(view=view), settings.steps, int(seed))
            return {pace: [row | {'cosine': None, 'adapter_ms': None}
                           for row in rows_of(pupil, judged_lessons(lab, pace, view))] for pace in settings.paces}
        drafter, adapter = lab.drafter, None
        if kind == _LORA:
            drafter, adapter = trained_low_rank(lab, settings.steps, int(seed))
        elif kind != _NONE:
            adapter = trained(kind, _taught(lab), lab.target, 4 * settings.steps, int(seed))
        return {pace: _judged(lab, kind, _seen(lab, pace, drafter), adapter) for pace in settings.paces}

    def conclude(self, settings: Settings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, told = [], {}, {}
        for pace in settings.paces:
            rows: dict[str, list] = {}
            for part, each in found.items():
                rows.setdefault(part.split('/')[0], []).extend(each[pace])
            told[pace] = rows
            tables.append(_table(pace, rows, settings))
            series[pace] = [point(kind, ratio(each, 'tokens', 'passes')) for kind, each in rows.items()]
        verdict, measured, advice = _concluded(told[settings.paces[0]])
        return Outcome(tuple(tables), measured, OPEN if settings.steps < ENOUGH_STEPS else verdict, advice,
                       Plot('bars', 'Tokens a pass by adapter', 'tokens a pass, 95% over drives', '', series, 1.0))


def _judged(lab: Lab, kind: str, judged: Places, adapter: Callable[[Tensor], Tensor] | None) -> list[dict[str, Any]]:
    """Rows by window; without an adapter the drafter's own words."""
    begun_ns = perf_counter_ns()
    made = None if adapter is None else adapter(inputs_of(kind, judged))
    spent_ms = (perf_counter_ns() - begun_ns) / 1e6 / len(judged.token_ids)
    if made is None:
        with torch.inference_mode():
            rows = lab.drafter.rows_of(judged.token_ids.tolist())
            right, cosine = lab.drafter.logits(judged.hidden).argmax(-1) == torch.tensor(rows), None
    else:
        right = said_right(lab, made, judged.token_ids)
        cosine = F.cosine_similarity(made, judged.states[FINAL], dim=-1)
    cosines = [None] * len(judged.drives) if cosine is None else judged.by_window(cosine)
    return [chain_row(drive, each.tolist()) | {'cosine': None if near is None else float(near.sum()),
                                               'adapter_ms': None if made is None else spent_ms}
            for drive, each, near in zip(judged.drives, judged.by_window(right), cosines)]


def _table(pace: str, rows: Mapping[str, list], settings: Settings) -> Table:
    def told(kind: str, each: list) -> tuple:
        first = each[0]
        return (kind, None if first['cosine'] is None else ratio(each, 'cosine', 'tokens', 3),
                ratio(each, 'right', 'tokens', 3), ratio(each, 'tokens', 'passes'),
                None if first['adapter_ms'] is None else Value(1000 * first['adapter_ms'], digits=1))
    return Table(
        f'Adapters, {pace}: {len(rows[_NONE])} windows',
        ('adapter', 'cosine to the verifier\'s states', 'right a token', 'tau, with the bonus', 'us a token here'),
        tuple(told(kind, each) for kind, each in rows.items()),
        'None: the drafter\'s own output matrix. Fused: an MLP that reads what goes into the drafter\'s first layer '
        f'and what comes out of each. LoRA: updates of rank {RANK} of the linear layers of the drafter\'s decoder, '
        'learned with the MLP by the squared difference that it learns by alone, in a quarter of its steps of eight '
        f'whole answers instead of {_BATCH} places; they are part of the weights when it drafts. Pupils: a decoder of '
        f'the drafter\'s size learns the verifier\'s law from nothing in {settings.steps} '
        f'steps on {settings.taught} windows, after the drafter\'s visual tokens of the events, or after those of the '
        'verifier of the newest frame through a learned projection (MASSV, Spec-LLaVA); drafts of the latter begin '
        'when that frame is encoded. Right a token: share of places at which it says the verifier\'s token after the '
        'true ones. Tau: the rest of the caption is drafted after each verdict.')


def _concluded(rows: Mapping[str, list]) -> tuple[str, str, str]:
    """Verdict, what was measured and what follows."""
    taus = {kind: ratio(each, 'tokens', 'passes') for kind, each in rows.items()}
    near, right = ({kind: ratio(rows[kind], name, 'tokens', 3) for kind in ADAPTERS} for name in ('cosine', 'right'))
    nearest, farthest = (choose(ADAPTERS, key=lambda kind: near[kind].value) for choose in (max, min))
    holds = (right[nearest].low or 0.0) > (right[farthest].high or 1.0)
    eyes = over(rows[_SAME], rows[_OWN], 'tokens', 'passes')
    measured = (f'cosines of {near[nearest]} ({nearest}) and {near[farthest]} ({farthest}) go with {right[nearest]} '
                f'and {right[farthest]} right tokens, {taus[nearest]} and {taus[farthest]} tokens a pass; without an '
                f'adapter the drafter gives {taus[_NONE]}. A pupil with the verifier\'s eyes gives {taus[_SAME]}, '
                f'{eyes} more than one with the drafter\'s.')
    best = max(ADAPTERS, key=lambda kind: taus[kind].value)
    gain = over(rows[best], rows[_NONE], 'tokens', 'passes')
    advice = ('A nearer state is a better drafter here. ' if holds
              else 'Judge a drafter by accepted tokens, never by cosine. ')
    advice += (f'The adapter {best} adds {gain} tokens a pass.' if (gain.low or 0.0) > 0 else
               'One that was trained on the verifier\'s own words (`crossspec learn`) needs no adapter.')
    if (eyes.low or 0.0) > 0:
        advice += ' The newest frame tells more than its events, to a drafter that can wait for it.'
    elif eyes.high is not None and eyes.high < 0:
        advice += ' The events tell a drafter more than the newest frame does.'
    return HOLDS if holds else FAILS, measured, advice


EXPERIMENT = Alignment(
    name='alignment', title='Aligning the drafter with the verifier',
    source='adapters L1-L5, L5F, B1, LoRA; 2505.10526, 2509.11961',
    claim='the nearer the drafter\'s states are to the verifier\'s (cosine .76-.91), the more is accepted',
    measures=f'Adapters of {len(ADAPTERS)} kinds map the event drafter\'s states to the verifier\'s last ones, which '
             'its output matrix turns into words, and pupils learn its words with their own eyes or with the '
             'verifier\'s: cosine, share of right tokens and tokens a pass on unseen drives.',
    quick=Settings(**QUICK))
