"""From the name of an acceptance rule to the rule the passes call, and what each of them keeps of the target."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.acceptance import Accepted, accept_greedy, accept_gumbel, accept_ranked
from crossspec_ros.speculation.lossy import LOSSY_RULES
from crossspec_ros.speculation.ranking import Ranking
from crossspec_ros.speculation.rejection import accept_rejection
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.speculation.target import Judged
from crossspec_ros.speculation.tree import TokenTree

RULES = ('greedy', 'gumbel', 'rejection', *LOSSY_RULES)

Accept = Callable[[TokenTree, torch.Tensor, int, int], Accepted]
"""Tree, logits (n + 1, V), window id, position of the next token -> accepted nodes and emitted tokens."""


@dataclass(frozen=True)
class Rule:
    """An acceptance rule. ``keeps`` says what of the target it leaves as it is.

    'tokens': the answer follows from frames, prompt and seed alone, so decoding without drafts gives the same and an
    audit can judge it. 'distribution': answers are drawn as the target draws them, but which one hangs on the drafts.
    'nothing': lossy. ``rank`` does what ``accept`` does, from a ranking in place of the logits, where the highest ones
    are all that a rule looks at.
    """

    name: str
    keeps: str
    accept: Accept
    rank: Callable[[TokenTree, Ranking, int, int], Accepted] | None = None

    def decide(self, tree: TokenTree, judged: Judged, window_id: int, position: int) -> Accepted:
        """Nodes accepted and tokens emitted, from the target's own ranking where there is one and it is enough."""
        if self.rank is not None and judged.best is not None:
            return self.rank(tree, judged.best, window_id, position)
        return self.accept(tree, judged.logits, window_id, position)


def make_rule(config: EngineConfig) -> Rule:
    """The acceptance rule that the settings name. Raises `CrossSpecError` for an unknown name or bad sampling."""
    if config.acceptance not in RULES:
        raise CrossSpecError(f'acceptance must be one of {", ".join(RULES)}, got {config.acceptance!r}')
    if config.acceptance == 'greedy':
        return Rule('greedy', 'tokens', lambda tree, logits, window_id, position: accept_greedy(tree, logits),
                    lambda tree, best, window_id, position: accept_ranked(tree, best))
    if not config.temperature > 0:
        raise CrossSpecError(f'temperature must be > 0 for {config.acceptance}, got {config.temperature}')
    if config.top_k < 0 or not 0 < config.top_p <= 1:
        raise CrossSpecError(f'top_k must be >= 0 and top_p in (0, 1], got {config.top_k} and {config.top_p}')
    sampling = dict(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
    if config.acceptance == 'gumbel':
        return Rule('gumbel', 'tokens', lambda tree, logits, window_id, position: accept_gumbel(
            tree, logits, seed=config.seed, window_id=window_id, position=position, **sampling))
    if config.acceptance == 'rejection':
        return Rule('rejection', 'distribution', lambda tree, logits, window_id, position: accept_rejection(
            tree, logits, _generator(config.seed, window_id, position), **sampling))
    lossy = LOSSY_RULES[config.acceptance]
    return Rule(config.acceptance, 'nothing', lambda tree, logits, window_id, position: lossy(
        tree, logits, temperature=config.temperature))


def _generator(seed: int, window_id: int, position: int) -> torch.Generator:
    """One stream of random numbers a pass, so that a window's caption can be made again from the same trees."""
    mixed = hash((seed, window_id, position)) & (2**63 - 1)
    return torch.Generator().manual_seed(mixed)
