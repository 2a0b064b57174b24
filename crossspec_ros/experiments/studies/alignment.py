"""Adapters from the drafter's states to the verifier's: cosine, acceptance and tokens a pass beside each other."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.intervals import point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.states import FINAL, Places, apply_ridge, places, ridge, said_right
from crossspec_ros.models.targets import TransformersTarget

_BATCH, _RATE, _TEMPERATURE = 256, 2e-3, 0.07
_NONE = 'none'
KINDS = (_NONE, 'linear', 'mlp', 'contrastive', 'distilled')


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


_LOSSES = {'mlp': squared, 'contrastive': contrastive, 'distilled': distilled}


def trained(kind: str, taught: Places, target: TransformersTarget, steps: int, seed: int) -> Callable[[Tensor], Tensor]:
    """An adapter (P, d) -> (P, D). Contrastive states have no length: they get the mean one of the verifier's."""
    true = taught.states[FINAL]
    if kind == 'linear':
        weights = ridge(taught.hidden, true)
        return lambda hidden: apply_ridge(weights, hidden)
    weight = target.adapter.head.weight.detach().float().cpu()
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Mlp(taught.hidden.shape[1], true.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    for _ in range(steps):
        chosen = torch.randint(len(true), (_BATCH,), generator=draw)
        loss = _LOSSES[kind](model(taught.hidden[chosen].clone()), true[chosen].clone(),
                             lambda states: states @ weight.T)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    length = true.norm(dim=-1).mean() if kind == 'contrastive' else None

    @torch.inference_mode()
    def adapter(hidden: Tensor) -> Tensor:
        made = model(hidden)
        return made if length is None else F.normalize(made, dim=-1) * length
    return adapter


@dataclass(frozen=True)
class Alignment(Experiment):
    """A kind of adapter a part, a training of it a seed."""

    def parts(self, settings: Settings) -> tuple[str, ...]:
        return tuple(f'{kind}/{seed}' for kind in KINDS
                     for seed in range(1 if kind in (_NONE, 'linear') else settings.seeds))

    def measure(self, settings: Settings, part: str, lab: Lab) -> dict[str, Any]:
        kind, seed = part.split('/')
        adapter = None
        if kind != _NONE:
            adapter = trained(kind, places(lab, lab.taught()), lab.target, 4 * settings.steps, int(seed))
        return {pace: self._judged(lab, places(lab, lab.windows(pace)), adapter) for pace in settings.paces}

    @staticmethod
    def _judged(lab: Lab, judged: Places, adapter: Callable[[Tensor], Tensor] | None) -> list[dict[str, Any]]:
        """Rows by window; without an adapter the drafter's own words."""
        true = judged.states[FINAL]
        begun_ns = perf_counter_ns()
        made = None if adapter is None else adapter(judged.hidden)
        spent_ms = (perf_counter_ns() - begun_ns) / 1e6 / len(judged.token_ids)
        if made is None:
            with torch.inference_mode():
                drafter, rows = lab.drafter, lab.drafter.rows_of(judged.token_ids.tolist())
                right = drafter.logits(judged.hidden).argmax(-1) == torch.tensor(rows)
            cosine = None
        else:
            right, cosine = said_right(lab, made, judged.token_ids), F.cosine_similarity(made, true, dim=-1)
        cosines = [None] * len(judged.drives) if cosine is None else judged.by_window(cosine)
        return [chain_row(drive, each.tolist()) | {'cosine': None if near is None else float(near.sum()),
                                                   'adapter_ms': spent_ms}
                for drive, each, near in zip(judged.drives, judged.by_window(right), cosines)]

    def conclude(self, settings: Settings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, told = [], {}, {}
        for pace in settings.paces:
            rows: dict[str, list] = {}
            for part, each in found.items():
                rows.setdefault(part.split('/')[0], []).extend(each[pace])
            told[pace] = {kind: (None if each[0]['cosine'] is None else ratio(each, 'cosine', 'tokens', 3),
                                 ratio(each, 'right', 'tokens', 3), ratio(each, 'tokens', 'passes'),
                                 None if kind == _NONE else Value(1000 * each[0]['adapter_ms'], digits=1))
                          for kind, each in rows.items()}
            tables.append(Table(
                f'Adapters, {pace}: {len(next(iter(found.values()))[pace])} windows',
                ('adapter', 'cosine to the verifier\'s states', 'right a token', 'tau, with the bonus',
                 'us a token here'),
                tuple((kind, *values) for kind, values in told[pace].items()),
                'None: the drafter\'s own output matrix. Right a token: share of places at which it says the '
                'verifier\'s token after the true ones. Tau: the rest of the caption is drafted after each verdict.'))
            series[pace] = [point(kind, values[2]) for kind, values in told[pace].items()]
        mine = told[settings.paces[0]]
        adapters = {kind: values for kind, values in mine.items() if kind != _NONE}
        nearest = max(adapters, key=lambda kind: adapters[kind][0].value)
        farthest = min(adapters, key=lambda kind: adapters[kind][0].value)
        verdict = HOLDS if (adapters[nearest][1].low or 0.0) > (adapters[farthest][1].high or 1.0) else FAILS
        return Outcome(
            tuple(tables), f'cosines of {adapters[nearest][0]} ({nearest}) and {adapters[farthest][0]} ({farthest}) go '
            f'with {adapters[nearest][1]} and {adapters[farthest][1]} right tokens, {adapters[nearest][2]} and '
            f'{adapters[farthest][2]} tokens a pass; without an adapter the drafter gives {mine[_NONE][2]}.', verdict,
            'Judge a drafter by accepted tokens, never by cosine; one that was trained on the verifier\'s own words '
            '(`crossspec learn`) needs no adapter.',
            Plot('bars', 'Tokens a pass by adapter', 'tokens a pass, 95% over drives', '', series, 1.0))


EXPERIMENT = Alignment(
    name='alignment', title='Aligning the drafter\'s states with the verifier\'s', source='adapters L1-L5, B1',
    claim='the nearer the drafter\'s states are to the verifier\'s (cosine .76-.91), the more is accepted',
    measures='Adapters of four kinds map the event drafter\'s states to the verifier\'s last ones, which its output '
             'matrix turns into words: cosine, share of right tokens and tokens a pass on unseen drives.',
    quick=Settings(**QUICK))
