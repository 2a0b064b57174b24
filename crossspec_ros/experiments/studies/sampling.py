"""The law of sampled drafts: exact rules enumerated against the target's distribution, then at work on the pair.

Every decision that a rule may take is followed, with its probability, on random pairs of a small vocabulary; nothing
is drawn. Then the verifier samples captions from drafts that are drawn from the event drafter's law. Block
verification: Sun et al. 2403.10444. Letters: V vocabulary.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch

from crossspec_ros.experiments.drawn_drafts import Asked, Sampler, looked_at
from crossspec_ros.experiments.experiment import (
    FAILS, HOLDS, IN_PART, QUICK, Experiment, Outcome, Plot, Settings, Table, Value)
from crossspec_ros.experiments.intervals import over, point, ratio
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.experiments.sampled_rules import Path, Rule, by_own_sample, by_spectr, by_token, by_traversal

Laws = dict[Path, np.ndarray]
_EXACT = 1e-9


class _Enumerated:
    """Chance that follows a script and tells where it had a choice."""

    def __init__(self, script: Sequence[int]) -> None:
        self._script, self._at = script, 0
        self.probability, self.choices = 1.0, 0

    def _next(self, weights: Sequence[float]) -> int:
        if self._at == len(self._script):
            self.choices = len(weights)
            raise StopIteration
        chosen = self._script[self._at]
        self._at += 1
        self.probability *= weights[chosen]
        return chosen

    def accept(self, probability: float) -> bool:
        return self._next((probability, 1.0 - probability)) == 0 if 0 < probability < 1 else probability >= 1

    def sample(self, probs: torch.Tensor) -> int:
        return self._next(probs.tolist())


def outcomes(decide: Callable[[_Enumerated], Path]) -> Iterator[tuple[float, Path]]:
    """(probability, tokens emitted) of every way that a rule may go."""
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        script = waiting.pop()
        chance = _Enumerated(script)
        try:
            emitted = decide(chance)
        except StopIteration:
            waiting += [(*script, choice) for choice in range(chance.choices)]
            continue
        if chance.probability > 0:
            yield chance.probability, emitted


def random_laws(seed: int, temperature: float, vocab: int, depth: int, apart: float) -> tuple[Laws, Laws]:
    """Target's and drafter's laws after every prefix; the drafter's logits are the target's and noise."""
    random = np.random.default_rng(seed)
    target, draft = {}, {}
    for length in range(depth + 1):
        for prefix in product(range(vocab), repeat=length):
            logits = random.normal(size=vocab) * 1.5
            for laws, scores in ((target, logits), (draft, logits + apart * random.normal(size=vocab))):
                exp = np.exp((scores - scores.max()) / temperature)
                laws[prefix] = exp / exp.sum()
    return target, draft


@dataclass(frozen=True)
class Way:
    """A rule and the chains that it is given; ``mistake``: a greedy chain, scored as if it were drawn."""

    rule: Rule
    chains: int = 1
    mistake: bool = False

    def outcomes(self, target: Laws, draft: Laws, depth: int) -> Iterator[tuple[float, Path]]:
        """Of all drafts and decisions together."""
        drawn = [(_greedy(draft, depth), 1.0)] if self.mistake else list(_drawn(draft, depth))
        for some in product(drawn, repeat=self.chains):
            chains, share = [chain for chain, _ in some], float(np.prod([chance for _, chance in some]))
            for probability, emitted in outcomes(lambda decisions: self.rule(
                    chains, draft.__getitem__, target.__getitem__, decisions)):
                yield share * probability, emitted


def _greedy(draft: Laws, depth: int) -> Path:
    tokens: Path = ()
    while len(tokens) < depth:
        tokens = (*tokens, int(draft[tokens].argmax()))
    return tokens


def _drawn(draft: Laws, depth: int) -> Iterator[tuple[Path, float]]:
    for tokens in product(range(len(draft[()])), repeat=depth):
        yield tokens, float(np.prod([draft[tokens[:place]][token] for place, token in enumerate(tokens)]))


_TOKEN, _BLOCK, _TREE = 'token by token', 'block verification', 'two chains, token by token'
_SPECTR, _TRAVERSAL, _SAME = 'two chains, SpecTr', 'two chains, traversal', 'two chains, the target\'s own sample'
WAYS = {_TOKEN: Way(by_token), _BLOCK: Way(by_traversal), _TREE: Way(by_token, 2), _SPECTR: Way(by_spectr, 2),
        _TRAVERSAL: Way(by_traversal, 2), _SAME: Way(by_own_sample, 2),
        'mistake: greedy draft scored as drawn': Way(by_token, mistake=True)}
_AGAINST = {_BLOCK: _TOKEN, _SPECTR: _TREE, _TRAVERSAL: _TREE, _SAME: _TREE}
_DRAWN = 'drawn'


def judged(way: Way, target: Laws, draft: Laws, depth: int) -> tuple[float, float]:
    """(expected tokens a pass, total variation of the law of the first ``depth`` + 1 tokens from the target's)."""
    tokens, law = 0.0, defaultdict(float)
    for probability, emitted in way.outcomes(target, draft, depth):
        tokens += probability * len(emitted)
        law[emitted] += probability
    away = 0.0
    for path in product(range(len(target[()])), repeat=depth + 1):
        after = 1.0                                    # the target goes on by itself after what a pass emitted
        said = law[path]
        for place in range(depth, 0, -1):
            after *= target[path[:place]][path[place]]
            said += law[path[:place]] * after
        away += abs(said - after * target[()][path[0]])
    return tokens, float(away) / 2


@dataclass(frozen=True)
class SamplingSettings(Settings):
    """``pairs`` random pairs of ``vocab`` tokens; chains of ``depth``, of ``tree_depth`` where there are two. ``live``
    windows of each drive are sampled by the verifier, from chains of ``live_depth`` tokens, at ``live_temperatures``.
    """

    temperatures: tuple[float, ...] = (0.7, 1.0)
    pairs: int = 40
    vocab: int = 4
    depth: int = 3
    tree_depth: int = 2
    apart: float = 1.0
    live: int = 4
    live_depth: int = 6
    live_temperatures: tuple[float, ...] = (0.7, 1.0, 2.0)

    def depth_of(self, way: Way) -> int:
        """Of the chains that are enumerated."""
        return self.depth if way.chains == 1 else self.tree_depth


@dataclass(frozen=True)
class Sampling(Experiment):
    """Enumeration of the exact rules, and captions sampled by them."""

    def parts(self, settings: SamplingSettings) -> tuple[str, ...]:
        return (*(f'{temperature:g}' for temperature in settings.temperatures),
                *(f'{_DRAWN}/{pace}/{drive}' for pace in settings.paces for drive in range(settings.drives)))

    def measure(self, settings: SamplingSettings, part: str, lab: Lab) -> dict[str, Any]:
        if part.startswith(_DRAWN):
            _, pace, drive = part.split('/')
            return _sampled(settings, pace, int(drive), lab)
        rows: dict[str, list] = {name: [] for name in WAYS}
        for pair in range(settings.pairs):
            for name, way in WAYS.items():
                depth = settings.depth_of(way)
                laws = random_laws(settings.seed + pair, float(part), settings.vocab, settings.depth, settings.apart)
                tokens, away = judged(way, *laws, depth)
                assert way.mistake or away < _EXACT, f'{name} must keep the law, it is {away} away'
                rows[name].append({'drive': str(pair), 'tokens': tokens, 'passes': 1, 'away': away})
        return rows

    def conclude(self, settings: SamplingSettings, found: Mapping[str, dict[str, Any]]) -> Outcome:
        temperatures = [f'{temperature:g}' for temperature in settings.temperatures]
        sampled = _together({part: rows for part, rows in found.items() if part.startswith(_DRAWN)})
        series, gains = {}, {}
        for part in temperatures:
            for name, each in found[part].items():
                series.setdefault(name, []).append(point(f'enumerated, T = {part}', ratio(each, 'tokens', 'passes', 3)))
            gains[part] = over(found[part][_BLOCK], found[part][_TOKEN], 'tokens', 'passes', 3)
        for label, rules in sampled.items():
            for name, each in rules.items():
                series[name].append(point(label, ratio(each, 'tokens', 'passes')))
        share = {part: _share(found[part], _BLOCK) for part in temperatures}
        told = ' and '.join(f'{share[part]:.1f}% at T = {part}' for part in temperatures)
        trees = ' and '.join(f'{_share(found[part], _TRAVERSAL):.1f}% and {_share(found[part], _SPECTR):.1f}% at T = '
                             f'{part}' for part in temperatures)
        live = '; '.join(f'{label}: traversal {ratio(rules[_TRAVERSAL], "tokens", "passes")}, SpecTr '
                         f'{ratio(rules[_SPECTR], "tokens", "passes")}, token by token '
                         f'{ratio(rules[_TREE], "tokens", "passes")}' for label, rules in sampled.items())
        verdict = HOLDS if min(share.values()) >= 5 else IN_PART if min(gain.low or gain.value
                                                                        for gain in gains.values()) > 0 else FAILS
        return Outcome((_enumerated_table(settings, {part: found[part] for part in temperatures}),
                        *(_sampled_table(label, rules) for label, rules in sampled.items())),
                       f'block verification emits {told} more than the token rule, of two chains traversal and SpecTr '
                       f'{trees} more than it; the law of every exact rule is the target\'s to 1e-9. On the event '
                       f'drafter\'s drawn drafts, tokens a pass of two chains: {live}.', verdict,
                       'Sample by `decode.acceptance: gumbel`, which makes drafts and no drafts say the same; a rule '
                       'that scores greedy drafts as if drawn changes what the verifier says.',
                       Plot('bars', 'Tokens a pass by rule', 'tokens a pass', '', series, 1.0))


def _sampled(settings: SamplingSettings, pace: str, drive: int, lab: Lab) -> dict[str, Any]:
    """Tokens and passes of captions sampled by each exact rule, by temperature."""
    rows: dict[str, dict[str, list]] = {}
    for window, look in looked_at(lab, pace, drive, settings.live):
        sampler = Sampler(lab, window, look)
        for temperature in settings.live_temperatures:
            for name, way in WAYS.items():
                if not way.mistake:
                    asked = Asked(way.rule, way.chains, settings.live_depth, temperature)
                    told = sampler.caption(asked, settings.seed + window.window_id)
                    rows.setdefault(f'{temperature:g}', {}).setdefault(name, []).append(
                        {'drive': f'{pace}_{drive}', 'tokens': len(told.token_ids), 'passes': len(told.likeliest),
                         'likeliest': sum(told.likeliest)})
        sampler.close()
    return rows


def _together(found: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, list]]:
    """Rows of all drives: by pace and temperature, then by rule."""
    told: dict[str, dict[str, list]] = {}
    for part, temperatures in found.items():
        for temperature, rules in temperatures.items():
            into = told.setdefault(f'{part.split("/")[1]}, T = {temperature}', {})
            for name, rows in rules.items():
                into.setdefault(name, []).extend(rows)
    return told


def _share(rules: Mapping[str, list], name: str) -> float:
    """Tokens a pass over the token rule's on the same chains, %."""
    return 100 * (ratio(rules[name], 'tokens', 'passes').value / ratio(rules[_AGAINST[name]], 'tokens', 'passes').value
                  - 1)


def _enumerated_table(settings: SamplingSettings, found: Mapping[str, dict[str, list]]) -> Table:
    rows = []
    for part, rules in found.items():
        for name, each in rules.items():
            worst = max(row['away'] for row in each)
            rows.append((f'T = {part}: {name}', str(settings.depth_of(WAYS[name])), ratio(each, 'tokens', 'passes', 3),
                         over(each, rules[_AGAINST[name]], 'tokens', 'passes', 3) if name in _AGAINST else None,
                         Value(worst, digits=3) if worst > _EXACT else 'none'))
    return Table(f'Tokens a pass and distance from the target\'s law, {settings.pairs} random pairs of '
                 f'{settings.vocab} tokens, enumerated',
                 ('rule', 'tokens of a chain', 'tokens a pass', 'over token by token', 'law away'), tuple(rows),
                 'Law away: the largest total variation of the joint law of all tokens that a pass may emit, over all '
                 'pairs. Over token by token: on the same chains. SpecTr goes on with all chains that agree, the token '
                 'rule with the accepted one.')


def _sampled_table(label: str, rules: Mapping[str, list]) -> Table:
    windows = len(next(iter(rules.values())))
    return Table(f'Captions sampled by the verifier from drawn drafts, {label}: {windows} windows',
                 ('rule', 'tokens a pass, with the bonus', 'over token by token', 'likeliest token, probability'),
                 tuple((name, ratio(each, 'tokens', 'passes'), over(each, rules[_AGAINST[name]], 'tokens', 'passes')
                        if name in _AGAINST else None, ratio(each, 'likeliest', 'passes', 3))
                       for name, each in rules.items()),
                 'Chains are drawn from the event drafter\'s law at the same temperature; each rule samples a caption '
                 'of its own. Likeliest token: the verifier\'s, after the committed words; where it is near 1 all '
                 'rules agree. At T = 2 captions make no sense any more; it is shown to tell the rules apart.')


EXPERIMENT = Sampling(
    name='sampling', title='The law of sampled drafts', source='2211.17192, 2403.10444, 2505.12398, 2310.15141',
    claim='exact rules keep the target\'s law; block verification accepts 5-8% more, traversal of trees 2-6%',
    measures='Every decision that a rule may take is enumerated on random pairs of target and drafter: the expected '
             'tokens a pass, and how far the law of what is said is from the target\'s. Then the verifier samples '
             'captions from drafts that are drawn from the event drafter\'s law.', lossless=False,
    full=SamplingSettings(), quick=SamplingSettings(
        **QUICK, pairs=6, vocab=3, live=1, live_temperatures=(1.0, 2.0)))
