"""Lossy acceptance rules with a threshold of one's own, as rules of the engine."""
from __future__ import annotations

from functools import partial

from crossspec_ros.speculation.lossy import LOSSY_RULES
from crossspec_ros.speculation.rules import Rule

THRESHOLDS = {'deferral': 'alpha', 'fuzzy': 'tolerance', 'typical': 'epsilon'}
"""The threshold of each lossy rule: the higher (typical: the lower), the more is accepted."""


def lossy_rule(name: str, threshold: float | None = None) -> Rule:
    """A lossy rule; its own threshold where none is given."""
    accept = LOSSY_RULES[name] if threshold is None else partial(LOSSY_RULES[name], **{THRESHOLDS[name]: threshold})
    return Rule(name, 'nothing', lambda tree, logits, window_id, position: accept(tree, logits))
