"""Exact rules for drafts that are drawn at random, each a function of drawn chains, laws and chance.

The package's own token by token rejection (`speculation.rejection`), traversal verification and SpecTr, which may
accept more of the same drafts, and the target's own sample, which the package decodes by. All keep the target's
distribution; a test enumerates chance. Letters: n nodes, V vocabulary.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from crossspec_ros.speculation.rejection import Chance, accept_tree
from crossspec_ros.speculation.tree import PREFIX

Path = tuple[int, ...]
Law = Callable[[Path], np.ndarray]
"""The distribution, float64 (V,), after these tokens of a draft."""
Rule = Callable[[Sequence[Path], Law, Law, Chance], Path]
"""(chains drawn independently, law they were drawn from, the target's law, chance) -> accepted tokens and one more."""
_HALVINGS = 60


def by_token(chains: Sequence[Path], draft: Law, target: Law, chance: Chance) -> Path:
    """Rejection node by node from the root, siblings in turn: what is below a rejected node is lost."""
    tokens, parents, laws, rows = _tree(chains, draft, target)
    return accept_tree(tokens, parents, [torch.from_numpy(law) for law in laws], torch.from_numpy(rows), chance).emitted


def by_traversal(chains: Sequence[Path], draft: Law, target: Law, chance: Chance) -> Path:
    """Traversal verification; on one chain it is block verification (2403.10444). See `Traversal`."""
    return Traversal(*_tree(chains, draft, target), chance).accept()


def by_own_sample(chains: Sequence[Path], draft: Law, target: Law, chance: Chance) -> Path:
    """The target's own tokens, as far as a chain says them: what seeded Gumbel noise does (2408.07978)."""
    prefix: Path = ()
    while True:
        token = chance.sample(torch.from_numpy(target(prefix)))
        prefix = (*prefix, token)
        if not any(chain[:len(prefix)] == prefix for chain in chains):
            return prefix


def by_spectr(chains: Sequence[Path], draft: Law, target: Law, chance: Chance) -> Path:
    """SpecTr with the sequential choice K-SEQ (2310.15141).

    At each place the tokens of the chains that agree with what was accepted are tried in turn, each with
    min(1, target / (rho draft)), rho the least that keeps the distribution.
    """
    prefix: Path = ()
    alive = [chain for chain in chains if chain]
    while alive:
        drawn_from, wanted = draft(prefix), target(prefix)
        rho = least_rho(drawn_from, wanted, len(alive))
        for chain in alive:
            token = chain[len(prefix)]
            if chance.accept(min(1.0, float(wanted[token]) / (rho * float(drawn_from[token])))):
                break
        else:
            return *prefix, chance.sample(torch.from_numpy(_missed(drawn_from, wanted, rho, len(alive))))
        prefix = (*prefix, token)
        alive = [chain for chain in alive if chain[:len(prefix)] == prefix and len(chain) > len(prefix)]
    return *prefix, chance.sample(torch.from_numpy(target(prefix)))


def _tree(chains: Sequence[Path], draft: Law, target: Law
          ) -> tuple[list[int], list[int], list[np.ndarray], np.ndarray]:
    """Tokens, parents, the law each was drawn from, and the target's laws (n + 1, V) of chains side by side."""
    tokens: list[int] = []
    parents: list[int] = []
    laws, rows = [], [target(())]
    for chain in chains:
        parent = PREFIX
        for place, token in enumerate(chain):
            laws.append(draft(chain[:place]))
            rows.append(target(chain[:place + 1]))
            parents.append(parent)
            parent = len(tokens)
            tokens.append(token)
    return tokens, parents, laws, np.array(rows)


class Traversal:
    """Traversal verification (2505.12398, algorithm 3): leaves first, each with the rate of its whole path.

    A rejected leaf leaves its parent a residual distribution and another rate; a node without children is a leaf.
    """

    def __init__(self, token_ids: Sequence[int], parents: Sequence[int], draft_probs: Sequence[np.ndarray],
                 target_probs: np.ndarray, chance: Chance) -> None:
        """``draft_probs``: of each node the distribution (V,) that it was drawn from, its elders rejected;
        ``target_probs`` (n + 1, V): row 0 after the prefix, row i + 1 after node i."""
        self._tokens, self._parents, self._drawn_from, self._chance = token_ids, parents, draft_probs, chance
        self._left = {node: target_probs[node + 1] for node in range(PREFIX, len(token_ids))}
        self._children: dict[int, list[int]] = {}
        for node, parent in enumerate(parents):
            self._children.setdefault(parent, []).append(node)

    def accept(self) -> Path:
        """The tokens of the accepted path and one more."""
        node, said = self._visit(PREFIX, 1.0), []
        last = self._chance.sample(torch.from_numpy(self._left[node]))
        while node != PREFIX:
            said.append(self._tokens[node])
            node = self._parents[node]
        return *reversed(said), last

    def _visit(self, node: int, rate: float) -> int | None:
        """The deepest accepted node at or below ``node``, whose path stands at ``rate``; None: not even itself."""
        for child in self._children.get(node, ()):
            token, drawn_from = self._tokens[child], self._drawn_from[child]
            found = self._visit(child, min(1.0, rate * float(self._left[node][token]) / float(drawn_from[token])))
            if found is not None:
                return found
            left = np.maximum(rate * self._left[node] - drawn_from, 0.0)
            total = float(left.sum())
            if total > 0:
                self._left[node] = left / total
            if node != PREFIX:
                rate = total / (total + 1.0 - rate) if total > 0 else 0.0
        return node if node == PREFIX or self._chance.accept(rate) else None


def least_rho(drawn_from: np.ndarray, wanted: np.ndarray, count: int) -> float:
    """The least rho in [1, count] at which ``count`` tries accept no token more often than the target says it:
    1 - (1 - b)^count <= rho b, b the chance that a try is accepted."""
    return _least_rho(drawn_from.tobytes(), wanted.tobytes(), count) if count > 1 else 1.0


@lru_cache(maxsize=256)
def _least_rho(drawn_from_bytes: bytes, wanted_bytes: bytes, count: int) -> float:
    drawn_from, wanted = np.frombuffer(drawn_from_bytes), np.frombuffer(wanted_bytes)
    low, high = 1.0, float(count)
    for _ in range(_HALVINGS):
        rho = (low + high) / 2
        hit = _hit(drawn_from, wanted, rho)
        low, high = (low, rho) if 1.0 - (1.0 - hit) ** count <= rho * hit else (rho, high)
    return high


def _hit(drawn_from: np.ndarray, wanted: np.ndarray, rho: float) -> float:
    return min(1.0, float(np.minimum(drawn_from, wanted / rho).sum()))


def _missed(drawn_from: np.ndarray, wanted: np.ndarray, rho: float, count: int) -> np.ndarray:
    """What the target says beyond what ``count`` tries accept, (V,)."""
    hit = _hit(drawn_from, wanted, rho)
    tries = (1.0 - (1.0 - hit) ** count) / hit if hit > 0 else float(count)
    left = np.maximum(wanted - np.minimum(drawn_from, wanted / rho) * tries, 0.0)
    total = left.sum()
    return left / total if total > 0 else wanted
