"""Caption memory as a draft source: one memory a prompt."""
from __future__ import annotations

from collections.abc import Sequence

from crossspec_ros.speculation.memory import CaptionMemory
from crossspec_ros.speculation.sources.base import DraftSource, Opening, Step


class Recall(DraftSource):
    """Proposes what verified captions of the same prompt said in the same context.

    State: a state of the memory's automaton. The least recently used prompt is forgotten beyond ``max_prompts``.
    """

    name = 'memory'

    def __init__(
        self, captions: int = 256, *, growth: float = 1.03, escape: float = 0.15, max_prompts: int = 4,
    ) -> None:
        self._settings = {'captions': captions, 'growth': growth, 'escape': escape}
        self._max_prompts = max_prompts
        self._memories: dict[str, CaptionMemory] = {}
        self._memory = CaptionMemory(**self._settings)

    def begin(self, opening: Opening) -> None:
        """Take this prompt's memory."""
        memory = self._memories.pop(opening.prompt_key, None)
        self._memory = CaptionMemory(**self._settings) if memory is None else memory
        self._memories[opening.prompt_key] = self._memory
        while len(self._memories) > self._max_prompts:
            del self._memories[next(iter(self._memories))]

    def start(self, committed: Sequence[int]) -> int | None:
        """State of the longest remembered context that the committed tokens end with."""
        return self._memory.start(committed) if len(self._memory) else None

    def step(self, state: int) -> Sequence[Step]:
        """Tokens that followed this context, blended over its shorter ones."""
        return self._memory.followers(state)

    def finish(self, token_ids: Sequence[int]) -> None:
        """Remember the caption."""
        self._memory.add(token_ids)

    def reset(self) -> None:
        """Forget all prompts."""
        self._memories.clear()
        self._memory = CaptionMemory(**self._settings)

    def sizes(self) -> dict[str, int]:
        """Captions and states, those of all prompts together."""
        return {'memory_prompts': len(self._memories),
                'memory_captions': sum(map(len, self._memories.values())),
                'memory_states': sum(memory.states for memory in self._memories.values())}
