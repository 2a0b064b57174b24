"""What the rooms exchange about captions: drafts, verdicts and captions, as frozen values free of ROS."""
from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

_FNV_OFFSET, _FNV_PRIME, _U64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def prefix_hash(token_ids: Sequence[int]) -> int:
    """FNV-1a, 64 bits, over the ids as little-endian uint32: names a committed prefix across processes and hosts."""
    value = _FNV_OFFSET
    for token in token_ids:
        for byte in int(token).to_bytes(4, 'little'):
            value = ((value ^ byte) * _FNV_PRIME) & _U64
    return value


def prompt_key(prompt: str) -> str:
    """Names a question across processes and hosts: SHA-256 of its text without space around it, 16 hex digits."""
    return hashlib.sha256(prompt.strip().encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Draft:
    """A speculative caption of one window, or a revision of one.

    ``token_ids`` continue the prefix of ``base_length`` tokens whose ``prefix_hash`` is ``base_hash`` (0 tokens: the
    caption's start). ``parents[i]`` is the node before node ``i`` (-1: the prefix; always < i); empty means a chain.
    ``weights`` are unnormalised positive integers by node for siblings to be compared; empty means certain.
    ``text`` is the whole speculative caption as a person reads it. ``trained_for`` is the key of the verifier's
    checkpoint that the drafter learned from (empty: not said), ``other_verifier`` whether that is not the one it hears.
    """

    window_id: int
    window_end_ns: int
    revision: int
    prompt_key: str
    tokenizer_key: str
    text: str
    token_ids: tuple[int, ...]
    parents: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    base_length: int = 0
    base_hash: int = prefix_hash(())
    source: str = 'event_drafter'
    events_used: int = 0
    compute_ms: float = 0.0
    trained_for: str = ''
    other_verifier: bool = False


class Stage(enum.IntEnum):
    """How far a caption is; the values are those of the message."""

    DRAFT = 0
    PARTIAL = 1
    FINAL = 2
    RETRACTED = 3
    STILL_VALID = 4


class Mode(str, enum.Enum):
    """Which of the two halves a caption came from."""

    CROSS_MODAL = 'cross_modal'
    VERIFIER_ONLY = 'verifier_only'
    DRAFT_ONLY = 'draft_only'


class Opening(enum.IntEnum):
    """Why a window is opened where the scene decides; the values are those of the message."""

    NONE = 0
    FIRST = 1
    CHANGE = 2
    SETTLED = 3
    GRID = 4
    CEILING = 5


@dataclass(frozen=True)
class SceneChange:
    """What the events say of a frame slot: whether the scene changed, and whether the window that ends here is opened.

    ``activity`` and ``threshold`` are 0 to 1; ``reference_id`` is the window opened last, this one included. Of a
    window opened for a change ``scene_id`` is the slot that the new scene began with, and no frame before it is shown.
    """

    window_id: int
    window_end_ns: int
    activity: float
    threshold: float
    changed: bool
    reason: Opening
    reference_id: int
    scene_id: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a target pass committed: drafters roll back to it and go on. The keys are those of the target."""

    window_id: int
    window_end_ns: int
    committed: tuple[int, ...]
    committed_hash: int
    target_passes: int
    final: bool
    accepted: dict[str, int] = field(default_factory=dict)
    drafted: dict[str, int] = field(default_factory=dict)
    tokenizer_key: str = ''
    verifier_key: str = ''


@dataclass(frozen=True)
class Caption:
    """The text of a window at some stage. ``stable_length`` characters of ``text`` will not change any more.

    ``drafted`` and ``accepted`` count draft tokens; ``stage_ms`` are compute times by stage (encode, prefill, propose,
    verify, commit, total); ``answer_ms`` is from the newest frame (or the call) to this caption. ``lossless``: token
    for token what the target would have said alone; ``exact``: forwards of other shapes would have decided no token
    otherwise (float32, or certified); ``near_ties`` counts tokens of which that could be doubted. ``words_age_ms``: of
    words that still hold (STILL_VALID), how long before this window's end the one that they are of ended.
    """

    window_id: int
    window_end_ns: int
    stage: Stage
    text: str
    stable_length: int
    token_ids: tuple[int, ...]
    mode: Mode
    lossless: bool
    drafted: int = 0
    accepted: int = 0
    target_passes: int = 0
    frame_stamps_ns: tuple[int, ...] = ()
    stage_ms: dict[str, float] = field(default_factory=dict)
    answer_ms: float = 0.0
    acceptance_rule: str = 'greedy'
    exact: bool = True
    near_ties: int = 0
    words_age_ms: float = 0.0
