"""Losses to learn the verifier's words by: divergences, filters and gates, on the drafter's decoder."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.experiment import (
    ENOUGH_STEPS, FAILS, HOLDS, IN_PART, OPEN, QUICK, Experiment, Outcome, Plot, Settings, Table)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab, Seen
from crossspec_ros.experiments.states import FINAL, drafter_states, visual_tokens
from crossspec_ros.learn.losses import LOSSES, accepted_places, learnable_places
from crossspec_ros.models.drafter import EventDrafter

_BATCH, _RATE, _LIKELY, _SHARE = 8, 2e-3, 8, 0.6
_HARD = 'hard labels'
METHODS = {_HARD: ('', ''), 'forward KL (DistillSpec)': ('forward_kl', ''), 'reverse KL': ('reverse_kl', ''),
           'total variation': ('total_variation', ''), 'forward KL, filtered (AdaSPEC)': ('forward_kl', 'filter'),
           'forward KL, gated (SpecKD)': ('forward_kl', 'gate')}


@dataclass(frozen=True, eq=False)
class _Lesson:
    """A window: visual tokens (1, S, d), rows of question and answer (T,), where the answer's places begin, the tokens'
    rows (T',), and the verifier's likely tokens with their probabilities (T', K)."""

    visual: Tensor
    rows: Tensor
    first: int
    said: Tensor
    likely: Tensor
    probs: Tensor


def lessons(lab: Lab, seen: Sequence[Seen]) -> list[_Lesson]:
    """What there is to learn; the verifier's law is that of its last states."""
    drafter, question, made = lab.drafter, lab.drafter.question_ids(lab.settings.prompt), []
    for each in seen:
        ids = each.window.token_ids
        best = lab.words(each.window.states[:, lab.place(FINAL)]).softmax(-1).topk(_LIKELY)
        likely = torch.tensor([drafter.rows_of(tokens) for tokens in best.indices.tolist()])
        made.append(_Lesson(visual_tokens(drafter, each).clone(), torch.tensor(drafter.rows_of([*question, *ids[:-1]])),
                            len(question) - 1, torch.tensor(drafter.rows_of(ids)), likely, best.values.clone()))
    return made


def pupil_of(drafter: EventDrafter, seed: int) -> EventDrafter:
    """The drafter's eyes with a decoder and words that know nothing."""
    pupil = deepcopy(drafter).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = EventDrafter(drafter.config, drafter.tokenizer)
    for part in ('layers', 'norm', 'embed'):
        getattr(pupil, part).load_state_dict(getattr(fresh, part).state_dict())
    return pupil


def _place_losses(drafter: EventDrafter, lesson: _Lesson, loss: str) -> tuple[Tensor, Tensor]:
    """Loss of each place (T',) and its logits."""
    logits = drafter.logits(drafter.continue_from(lesson.visual, lesson.rows[None])[0, lesson.first:])
    if not loss:
        return torch.nn.functional.cross_entropy(logits, lesson.said, reduction='none'), logits
    return LOSSES[loss](logits, lesson.likely, lesson.probs), logits


def trained(lab: Lab, taught: Sequence[_Lesson], method: str, steps: int, seed: int) -> EventDrafter:
    """A pupil after so many steps; the built-in drafter is the reference of the filter."""
    loss, choice = METHODS[method]
    pupil, draw = pupil_of(lab.drafter, seed), torch.Generator().manual_seed(seed)
    learning = [weight for part in ('layers', 'norm', 'embed') for weight in getattr(pupil, part).parameters()]
    optimiser = torch.optim.AdamW(learning, lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        for index in torch.randint(len(taught), (_BATCH,), generator=draw).tolist():
            lesson = taught[index]
            each, logits = _place_losses(pupil, lesson, loss)
            kept = torch.ones(len(each), dtype=torch.bool)
            if choice == 'filter':
                with torch.no_grad():
                    kept = learnable_places(each.detach(), _place_losses(lab.drafter, lesson, loss)[0], _SHARE)
            elif choice == 'gate':
                kept = accepted_places(logits.detach(), lesson.likely, lesson.probs,
                                       torch.rand(len(each), generator=draw))
            if kept.any():
                (each[kept].mean() / _BATCH).backward()
        optimiser.step()
        schedule.step()
    return pupil.eval()


@dataclass(frozen=True)
class Losses(Experiment):
    """A method and seed a part."""

    def parts(self, settings: Settings) -> tuple[str, ...]:
        return tuple(f'{method}/{seed}' for method in METHODS for seed in range(settings.seeds))

    def measure(self, settings: Settings, part: str, lab: Lab) -> dict[str, Any]:
        method, seed = part.rsplit('/', 1)
        pupil = trained(lab, lessons(lab, lab.taught()), method, settings.steps, int(seed))
        return {pace: [self._row(pupil, seen, settings.prompt) for seen in lab.windows(pace)]
                for pace in settings.paces}

    @staticmethod
    @torch.inference_mode()
    def _row(pupil: EventDrafter, seen: Seen, prompt: str) -> dict[str, Any]:
        said = pupil.logits(drafter_states(pupil, seen, prompt)).argmax(-1)
        return chain_row(seen.window.drive, (said == torch.tensor(pupil.rows_of(seen.window.token_ids))).tolist())

    def conclude(self, settings: Settings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, gains = [], {}, {}
        for pace in settings.paces:
            rows: dict[str, list] = {}
            for part, each in found.items():
                rows.setdefault(part.rsplit('/', 1)[0], []).extend(each[pace])
            gains[pace] = {method: over(each, rows[_HARD], 'right', 'tokens', 3) for method, each in rows.items()
                           if method != _HARD}
            tables.append(Table(
                f'{settings.taught} windows, {settings.steps} steps, {settings.seeds} trainings, judged on '
                f'{len(next(iter(found.values()))[pace])} {pace} ones',
                ('learned by', 'right a token', 'over hard labels', 'tau, with the bonus'),
                tuple((method, ratio(each, 'right', 'tokens', 3), gains[pace].get(method),
                       ratio(each, 'tokens', 'passes')) for method, each in rows.items()),
                'Hard labels: the verifier\'s tokens alone. The decoder learns from nothing, the eyes stay. Off '
                'policy: along the verifier\'s text; on policy needs forwards of the verifier along the drafter\'s.'))
            series[pace] = [point(method, ratio(each, 'right', 'tokens', 3)) for method, each in rows.items()]
        mine = gains[settings.paces[0]]
        best = max(mine, key=lambda method: mine[method].value)
        hard = ratio([row for part, each in found.items() if part.startswith(_HARD) for row in each[settings.paces[0]]],
                     'right', 'tokens', 3)
        share = 100 * mine[best].value / hard.value
        sure = (mine[best].low or 0.0) > 0
        return Outcome(
            tuple(tables), f'the best loss, {best}, is right at {mine[best]} more of the places than hard labels '
            f'({hard}), {share:+.0f}%{"" if sure else ", which chance explains"}, after {settings.steps} steps on '
            f'{settings.taught} windows.',
            OPEN if settings.steps < ENOUGH_STEPS else HOLDS if sure and share >= 10 else IN_PART if sure else FAILS,
            'Learn by the verifier\'s distribution (`--loss` of `crossspec learn`), but expect more from more drives '
            'than from another loss.', Plot('bars', 'Right tokens by loss', 'share of places', '', series))


EXPERIMENT = Losses(
    name='losses', title='What a drafter should learn by', source='2310.08461, 2510.19779, 2510.24021',
    claim='drafters that were distilled are 10-45% faster; a filter (AdaSPEC) raises acceptance by up to 15%',
    measures='The drafter\'s decoder learns the same windows from nothing by six losses: share of right tokens and '
             'tokens a pass on unseen drives.', quick=Settings(**QUICK))
