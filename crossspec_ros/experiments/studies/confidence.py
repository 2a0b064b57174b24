"""Drafts taken without asking: where a learned confidence is high, with the verifier from the first doubt on. Lossy."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from crossspec_ros.experiments.chains import chain_row
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.folder import read_json
from crossspec_ros.experiments.intervals import ratio, statistic
from crossspec_ros.experiments.lab import Lab, Shown
from crossspec_ros.experiments.states import FINAL, Places, apply_ridge, last_states, places, ridge
from crossspec_ros.experiments.studies.pruning import split_prompt
from crossspec_ros.experiments.unasked import (
    Confidence, HeldThreshold, features, lost_slots, own_probs, said_after, taken_unasked, threshold_for, told_apart)
from crossspec_ros.speculation.budget import CostCurve
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.world import SLOTS, parse_slots

_ASKED, _HELD, _PLACES = 'all asked', 'held', 'places'
_LEARNED, _OWN, _COSINE = 'learned', 'the drafter\'s own probability', 'cosine (oracle)'
_CLAIM, _FEW = 0.868, 0.02


@dataclass(frozen=True)
class ConfidenceSettings(Settings):
    """``live`` windows of each drive, drafts of which are taken above ``thresholds``, and above one that is moved to
    hold a share of ``rate`` wrong tokens."""

    live: int = 10
    thresholds: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
    rate: float = 0.02


@dataclass(frozen=True, eq=False)
class _Draft:
    """The drafter's caption of a window, how sure it is of each token, and the processor's time for it."""

    token_ids: tuple[int, ...]
    confidences: tuple[float, ...]
    compute_ms: float


@cache
def _taught(lab: Lab) -> tuple[Places, torch.Tensor, Confidence]:
    """Places to learn from, whether the drafter is right at each, and what learned it."""
    taught = places(lab, lab.taught())
    right = _right(lab, taught.hidden, taught.token_ids)
    return taught, right, Confidence(features(lab.drafter, taught.hidden), right)


@torch.inference_mode()
def _right(lab: Lab, hidden: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """Bool (P,): whether the drafter's states (P, d) say the tokens (P,)."""
    return lab.drafter.logits(hidden).argmax(-1) == torch.tensor(lab.drafter.rows_of(token_ids.tolist()))


@cache
def _draft(lab: Lab, pace: str, place: int) -> _Draft:
    """Of the newest events of a window that is shown."""
    seen = next(each for each in lab.windows(pace) if each.window is _shown(lab, pace)[place].window)
    draft = lab.drafter.draft(seen.look, prompt=lab.settings.prompt, max_tokens=EngineConfig().max_new_tokens - 1)
    chain = draft.token_ids
    if not chain:
        return _Draft((), (), draft.compute_ms)
    own = replace(seen, window=replace(seen.window, token_ids=chain))
    sure = _taught(lab)[2](features(lab.drafter, last_states(lab.drafter, own, lab.settings.prompt)))
    return _Draft(chain, tuple(sure.tolist()), draft.compute_ms)


def _shown(lab: Lab, pace: str) -> list[Shown]:
    return lab.shown(pace, lab.settings.live)


@cache
def said(lab: Lab, pace: str, place: int, taken: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The whole caption after ``taken``, and how many of these the verifier would not have said."""
    shown = _shown(lab, pace)[place]
    plain = shown.window.token_ids
    if taken == plain[:len(taken)]:
        return plain, 0                                   # it goes on as it would have alone
    prompt = split_prompt(lab.target, shown.frames.frames, lab.settings.prompt)
    answer, wrong = said_after(lab.target, prompt, taken, plain)
    return tuple(answer), wrong


@dataclass(frozen=True)
class ConfidenceStudy(Experiment):
    """A threshold a part; what confidences tell place by place is one of its own."""

    def parts(self, settings: ConfidenceSettings) -> tuple[str, ...]:
        rows = (_ASKED, *(f'{threshold:g}' for threshold in settings.thresholds), _HELD, _PLACES)
        return tuple(f'{pace}/{row}' for pace in settings.paces for row in rows)

    def measure(self, settings: ConfidenceSettings, part: str, lab: Lab) -> dict[str, Any]:
        pace, name = part.split('/')
        if name == _PLACES:
            return _by_place(lab, pace, settings.rate)
        held = HeldThreshold(settings.rate) if name == _HELD else None
        rows = []
        for place in range(len(_shown(lab, pace))):
            threshold = held.value if held else 2.0 if name == _ASKED else float(name)
            rows.append(_row(lab, pace, place, threshold))
            if held:
                held.judged(rows[-1]['taken'], rows[-1]['wrong'], bool(rows[-1]['alone']))
        return {'rows': rows, 'threshold': held.value if held else None, 'audits': held.audits if held else 0}

    def conclude(self, settings: ConfidenceSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        tables, series, told = [], {}, {}
        for pace in settings.paces:
            parts = {part.split('/')[1]: each for part, each in found.items() if part.startswith(f'{pace}/')}
            rows = {name: each['rows'] for name, each in parts.items() if name != _PLACES}
            told[pace] = rows
            tables += [_table(settings, pace, rows, parts[_HELD]), _places_table(pace, parts[_PLACES]['rows'])]
            points = [(ratio(each, 'taken', 'tokens').value, ratio(each, 'changed', 'windows')) for each in
                      (rows[name] for name in rows if name != _HELD)]
            series[pace] = [(share, value.value, value.low, value.high) for share, value in
                            sorted(points, key=lambda each: each[0])]
        verdict, measured, advice = _verdict(settings, told[settings.paces[0]],
                                             found[f'{settings.paces[0]}/{_PLACES}']['rows'])
        return Outcome(tuple(tables), measured, verdict, advice,
                       Plot('lines', 'What taking drafts unasked changes', 'share of tokens taken unasked',
                            'captions changed', series))


def _row(lab: Lab, pace: str, place: int, threshold: float) -> dict[str, Any]:
    """A window whose draft is taken up to the first doubt, and goes on with the verifier and the same drafter."""
    shown, draft, target = _shown(lab, pace)[place], _draft(lab, pace, place), lab.target
    taken = draft.token_ids[:taken_unasked(draft.confidences, threshold)]
    answer, wrong = said(lab, pace, place, taken)
    alone = bool(taken) and (taken[-1] in target.eos_ids or len(taken) == len(answer))
    plain, caption = (lab.without_end(each) for each in (shown.window.token_ids, answer))
    mine, own = parse_slots(target.decode(caption)), parse_slots(target.decode(plain))
    lost, won = lost_slots(mine, own, shown.slots)
    row = {'drive': shown.window.drive, 'windows': 1, 'tokens': len(answer), 'taken': len(taken), 'wrong': wrong,
           'alone': int(alone), 'changed': int(caption != plain), 'slots': len(SLOTS), 'lost': lost, 'won': won,
           'slots_right': sum(mine.get(name) == shown.slots[name] for name in SLOTS)}
    return row | _rest(lab, pace, place, answer, len(taken), alone)


def _rest(lab: Lab, pace: str, place: int, answer: Sequence[int], taken: int, alone: bool) -> dict[str, Any]:
    """Passes and tokens of what the verifier was asked for, and the modelled age of the caption, ms."""
    shown, draft_ms = _shown(lab, pace)[place], _draft(lab, pace, place).compute_ms
    if alone:
        return {'rest': 0, 'passes': 0, 'age_ms': draft_ms}
    seen = next(each for each in lab.windows(pace) if each.window is shown.window)
    own = replace(seen, window=replace(seen.window, token_ids=tuple(answer)))
    right = _right(lab, last_states(lab.drafter, own, lab.settings.prompt), torch.tensor(answer))
    chain = chain_row(shown.window.drive, right.tolist()[taken:])
    curve, costs = CostCurve(lab.costs), read_json(lab.records / 'costs.json')
    height, width = shown.frames.frames[0].shape[:2]
    newest = lab.target.layout(lab.settings.prompt, len(shown.frames.frames), height, width).last_tokens
    nodes = round(chain['drafted'] / max(chain['passes'], 1))
    age_ms = max(draft_ms, costs['encode_ms']) + curve(newest + taken + nodes) \
        + max(chain['passes'] - 1, 0) * curve(nodes + 1)
    return {'rest': len(answer) - taken, 'passes': chain['passes'], 'age_ms': age_ms}


def _by_place(lab: Lab, pace: str, rate: float) -> dict[str, Any]:
    """What each confidence tells along the verifier's own text; thresholds are those of ``rate`` where it learned."""
    taught, was_right, learned = _taught(lab)
    judged = places(lab, lab.windows(pace))
    right, weights = _right(lab, judged.hidden, judged.token_ids), ridge(taught.hidden, taught.states[FINAL])

    def scores(each: Places) -> dict[str, torch.Tensor]:
        return {_LEARNED: learned(features(lab.drafter, each.hidden)), _OWN: own_probs(lab.drafter, each.hidden),
                _COSINE: F.cosine_similarity(apply_ridge(weights, each.hidden), each.states[FINAL].float(), dim=-1)}
    before, told = scores(taught), {}
    for name, now in scores(judged).items():
        above = now >= threshold_for(before[name].tolist(), was_right.tolist(), rate)
        told[name] = {'apart': told_apart(now.tolist(), right.tolist()), 'rows': [
            {'drive': drive, 'places': len(taken), 'taken': int(taken.sum()), 'wrong': int((taken & ~good).sum())}
            for drive, taken, good in zip(judged.drives, judged.by_window(above), judged.by_window(right))]}
    return {'rows': told}


def _table(settings: ConfidenceSettings, pace: str, rows: Mapping[str, list], held: Mapping[str, Any]) -> Table:
    return Table(
        f'Drafts taken unasked (lossy), {pace}: {len(rows[_ASKED])} windows',
        ('confidence at least', 'tokens taken unasked', 'of them wrong', 'windows without the verifier',
         'captions changed', 'facts lost a window', 'facts right', 'tau of the rest', 'age, ms here (modelled)'),
        tuple((f'held at {settings.rate:.0%} wrong' if name == _HELD else name, ratio(each, 'taken', 'tokens'),
               ratio(each, 'wrong', 'taken', 3), ratio(each, 'alone', 'windows'), ratio(each, 'changed', 'windows'),
               ratio(each, 'lost', 'windows'), ratio(each, 'slots_right', 'slots', 3), ratio(each, 'rest', 'passes'),
               statistic(each, 'age_ms')) for name, each in rows.items()),
        'Confidence: logistic regression on the drafter\'s state, learned on other drives. From the first token below '
        'it the verifier goes on, with the same drafter. Wrong: what the verifier would not have said after the tokens '
        'before. Lost: facts that the verifier alone tells rightly and the caption does not. Held: the threshold moves '
        f'with the verdicts, and ended at {held["threshold"]:.3f}; {held["audits"]} windows without the verifier were '
        'read by it afterwards. Age: the median, by the cost curve of this machine; without the verifier that of the '
        'draft.')


def _places_table(pace: str, told: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        f'What a confidence tells, {pace}', ('confidence', 'right above wrong', 'places taken', 'of them wrong'),
        tuple((name, None if each['apart'] is None else Value(each['apart'], digits=3),
               ratio(each['rows'], 'taken', 'places', 3), ratio(each['rows'], 'wrong', 'taken', 3))
              for name, each in told.items()),
        'Place by place along the verifier\'s own text. Right above wrong: how often a right place has the higher '
        'confidence (area under the ROC curve). Taken: above the threshold that errs at the held rate where it was '
        'learned. The cosine of the drafter\'s states, mapped by least squares, to the verifier\'s needs the '
        'verifier\'s forward first: it saves nothing.')


def _verdict(settings: ConfidenceSettings, rows: Mapping[str, list], told: Mapping[str, Mapping[str, Any]]
             ) -> tuple[str, str, str]:
    """Verdict, what was measured and what follows."""
    figures = {name: [ratio(each, *of, 3) for of in (('taken', 'tokens'), ('changed', 'windows'), ('lost', 'slots'))]
               for name, each in rows.items() if name not in (_ASKED, _HELD)}
    enough = {name: each for name, each in figures.items() if each[0].value >= _CLAIM}
    name = min(enough, key=lambda each: enough[each][2].value) if enough else max(
        figures, key=lambda each: figures[each][0].value)
    share, changed, lost = figures[name]
    little = lost.value <= _FEW and changed.value <= _FEW
    verdict = HOLDS if enough and little else IN_PART if enough else FAILS
    held = ratio(rows[_HELD], 'wrong', 'taken', 3)
    ages = [statistic(rows[each], 'age_ms') for each in (name, _ASKED)]
    measured = (
        f'above {name}, {share} of the tokens are taken unasked, {100 * changed.value:.0f}% of the captions are no '
        f'longer the verifier\'s and {100 * lost.value:.1f}% of the facts are lost; the median age is {ages[0]} '
        f'instead of {ages[1]} ms (modelled). Held at {settings.rate:.0%}, {ratio(rows[_HELD], "taken", "tokens")} are '
        f'taken, of which {held or "none"} are wrong. ' + _oracle(told))
    advice = ('Where a caption may differ from the verifier\'s now and then, a learned confidence can stand in for it.'
              if verdict == HOLDS else
              'Let the verifier read every draft: what is taken unasked is lossy, and '
              f'{100 * changed.value:.0f}% changed captions are the price of {100 * share.value:.0f}% unasked tokens; '
              'show the draft as a preview instead.')
    return verdict, measured, advice


def _oracle(told: Mapping[str, Mapping[str, Any]]) -> str:
    shares = {name: ratio(each['rows'], 'taken', 'places', 3) for name, each in told.items()}
    return (f'Place by place the learned confidence takes {shares[_LEARNED]}, the drafter\'s own probability '
            f'{shares[_OWN]}, the cosine, which needs the verifier\'s states, {shares[_COSINE]}.')


EXPERIMENT = ConfidenceStudy(
    name='confidence', title='Drafts taken without asking', source='features accepted by cosine, with fall-back',
    claim='86.8% of the drafter\'s features are accepted by a threshold, the verifier falls in for the rest',
    measures='A confidence learned on the event drafter\'s own states decides which of its tokens are taken without '
             'the verifier, at several thresholds and at one moved by verdicts: tokens and windows that need no '
             'verifier, captions and facts that change, the age of a caption.', lossless=False,
    full=ConfidenceSettings(), quick=ConfidenceSettings(**QUICK, live=2, thresholds=(0.5, 0.9, 0.99)))
