"""The inbox of drafts: the newest two of each drafter for each window, taken or refused when they come.

Any number of drafters may draft for a window. Each is a draft source of its own, by the name its drafts carry, so that
its worth is measured and its tokens are counted apart from those of the others.
"""
from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import index

from crossspec_ros.speculation.drafter import SOURCE_PATTERN
from crossspec_ros.speculation.sources.foreign import ForeignDraft, Hypothesis
from crossspec_ros.speculation.sources.plugged import Surroundings
from crossspec_ros.speculation.target import Target
from crossspec_ros.speculation.tree import tree_fault, vocabulary_fault
from crossspec_ros.speculation.types import Draft, prefix_hash

Tokenize = Callable[[str], Sequence[int]]

_REMEMBERED = 64                 # windows of which it is known whether any drafter spoke in time


@dataclass(frozen=True)
class Admission:
    """Which drafts may go through the target, and how many are held.

    ``tokenize`` (text -> ids) lets drafts of another tokenizer in; without it they are refused.
    """

    vocab_size: int | None = None
    tokenizer_key: str | None = None
    banned_ids: frozenset[int] = field(default_factory=frozenset)
    tokenize: Tokenize | None = None
    max_nodes: int = 512
    windows_ahead: int = 8
    max_drafters: int = 8
    eos_ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, target: Target) -> Admission:
        """What this target can take."""
        return cls(target.vocab_size, target.tokenizer_key, frozenset(target.banned_ids), target.encode_text,
                   eos_ids=tuple(target.eos_ids))

    def surroundings(self) -> Surroundings:
        """What sources of other packages are told of it."""
        return Surroundings('', self.vocab_size, self.banned_ids, self.eos_ids, self.tokenizer_key, self.tokenize)

    def check(self, draft: Draft) -> Hypothesis | str:
        """What may be used of a draft, or the cause of refusal."""
        if not _typed(draft):
            return 'malformed'
        if self.tokenizer_key is not None and draft.tokenizer_key != self.tokenizer_key:
            if self.tokenize is None:
                return 'tokenizer'
            tokens = tuple(int(token) for token in self.tokenize(draft.text))[:self.max_nodes]
            draft = replace(draft, token_ids=tokens, parents=(), weights=(), base_length=0, base_hash=prefix_hash(()))
        if tree_fault(draft.token_ids, draft.parents, draft.weights, max_nodes=self.max_nodes) is not None:
            return 'malformed'
        if draft.base_length < 0 or (draft.base_length == 0 and draft.base_hash != prefix_hash(())):
            return 'malformed'
        if vocabulary_fault(draft.token_ids, self.vocab_size, self.banned_ids) is not None:
            return 'vocabulary'
        return Hypothesis.of(draft)


def _typed(draft: Draft) -> bool:
    """Whether the fields hold what their types say: whole numbers, and text that a tokenizer can take."""
    try:
        for part in (draft.token_ids, draft.parents, draft.weights):
            deque(map(index, part), maxlen=0)
        for number in (draft.window_id, draft.revision, draft.base_length, draft.base_hash):
            index(number)
        for text in (draft.text, draft.source, draft.prompt_key, draft.tokenizer_key):
            str.encode(text)
    except (TypeError, UnicodeEncodeError):
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Held:
    revision: int
    prompt_key: str
    hypothesis: Hypothesis
    before: Hypothesis | None = None     # the drafter's last draft but one of this window and question

    def usable(self, committed: Sequence[int]) -> Hypothesis | None:
        """The newest that holds the committed text; where none does, the newest that extends its start."""
        drafts = [each for each in (self.hypothesis, self.before) if each is not None and each.extends(committed)]
        return next((each for each in drafts if not each.along(committed)[1]), drafts[0] if drafts else None)


class Inbox:
    """Drafts by (window, drafter). `offer` may be called by any thread at any time, all else by the engine's thread.

    ``reserved`` are names that no drafter may bear: those of the engine's own sources.
    """

    def __init__(self, admission: Admission, reserved: Collection[str] = ()) -> None:
        self._admission, self._reserved = admission, frozenset(reserved)
        self._lock = threading.Lock()
        self._sources: dict[str, ForeignDraft] = {}
        self.refusals: Counter[str] = Counter()
        self._forget()

    def _forget(self) -> None:
        self._held: dict[tuple[int, str], _Held] = {}
        self._drafted: OrderedDict[int, None] = OrderedDict()
        self._window_id: int | None = None
        self._prompt_key: str | None = None
        self._committed: tuple[int, ...] = ()
        self.taken = 0

    @property
    def sources(self) -> tuple[ForeignDraft, ...]:
        """One source a drafter that was ever heard, in the order in which they were; never fewer than before."""
        return tuple(self._sources.values())

    def offer(self, draft: Draft) -> str | None:
        """Take a draft. None: taken, else the cause of refusal, which is counted too.

        ``malformed``, ``vocabulary``, ``tokenizer``, ``source`` (no name for a drafter, or too many drafters),
        ``foreign_prompt``, ``foreign_window`` (too far ahead), ``late`` (its window is over), ``stale`` (an older
        revision, or not an extension of the committed prefix).
        """
        checked = self._admission.check(draft)
        with self._lock:
            cause = checked if isinstance(checked, str) else self._refusal(draft, checked)
            if cause is None:
                self._take(draft, checked)
            self.refusals['taken' if cause is None else cause] += 1
        return cause

    def _refusal(self, draft: Draft, checked: Hypothesis) -> str | None:
        current, ahead = self._window_id, self._admission.windows_ahead
        name, window_id = draft.source, draft.window_id
        if name not in self._sources and (re.fullmatch(SOURCE_PATTERN, name) is None or name in self._reserved
                                          or len(self._sources) >= self._admission.max_drafters):
            return 'source'
        if current is not None and window_id < current:
            return 'late'
        if current is None and window_id < self._oldest_of_newest(ahead):
            return 'late'
        if current is not None and window_id > current + ahead:
            return 'foreign_window'
        if current == window_id:
            if draft.prompt_key != self._prompt_key:
                return 'foreign_prompt'
            if not checked.extends(self._committed):
                return 'stale'
        held = self._held.get((window_id, name))
        return 'stale' if held is not None and draft.revision <= held.revision else None

    def _oldest_of_newest(self, count: int) -> int:
        """The oldest of so many newest windows that are held; 0 while there are fewer."""
        windows = sorted({held for held, _ in self._held})
        return windows[-count] if len(windows) >= count else 0

    def _take(self, draft: Draft, checked: Hypothesis) -> None:
        held = self._held.get((draft.window_id, draft.source))
        before = held.hypothesis if held is not None and held.prompt_key == draft.prompt_key else None
        self._held[draft.window_id, draft.source] = _Held(draft.revision, draft.prompt_key, checked, before)
        if self._window_id is None:
            oldest = self._oldest_of_newest(self._admission.windows_ahead)
            for key in [key for key in self._held if key[0] < oldest]:
                del self._held[key]
                self.refusals['late'] += 1
        self.taken += 1
        self._drafted[draft.window_id] = None
        while len(self._drafted) > _REMEMBERED:
            self._drafted.popitem(last=False)
        if draft.source not in self._sources:
            self._sources[draft.source] = ForeignDraft(draft.source, partial(self._newest, draft.source))

    def _newest(self, name: str, committed: Sequence[int]) -> Hypothesis | None:
        with self._lock:
            held = self._held.get((self._window_id, name))
        return held.usable(committed) if held is not None and held.prompt_key == self._prompt_key else None

    def begin(self, window_id: int, prompt_key: str) -> None:
        """A window's caption starts: drafts of windows before it are late from now on."""
        with self._lock:
            self._window_id, self._prompt_key, self._committed = window_id, prompt_key, ()
            self._held = {key: held for key, held in self._held.items() if key[0] >= window_id}

    def commit(self, committed: Sequence[int]) -> None:
        """So much of the caption stands: a draft that departs from it is stale from now on."""
        with self._lock:
            self._committed = tuple(committed)

    def finish(self) -> None:
        """The window's caption is complete: its drafts are used up."""
        with self._lock:
            self._held = {key: held for key, held in self._held.items() if key[0] != self._window_id}

    def drafted(self, window_id: int) -> bool:
        """Whether a draft of this window was taken (of the last windows; False for those long gone)."""
        with self._lock:
            return window_id in self._drafted

    def reset(self) -> None:
        """Forget every draft and count; the drafters stay known."""
        with self._lock:
            self._forget()
            self.refusals = Counter()

    def sizes(self) -> dict[str, int]:
        """Drafts that wait, and windows that are remembered."""
        with self._lock:
            return {'waiting_drafts': len(self._held), 'drafted_windows': len(self._drafted)}
