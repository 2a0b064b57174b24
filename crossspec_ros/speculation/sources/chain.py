"""Sources that are one known sequence, followed where it agrees with the text: previous caption, rehearsal, prompt."""
from __future__ import annotations

from collections.abc import Sequence

from crossspec_ros.speculation.sources.base import DraftSource, HitTable, Opening, Step

_MATCH_PRIORS = (0.5, 0.3, 0.45, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


def align(sequence: Sequence[int], committed: Sequence[int], max_match: int = 8) -> tuple[int, int]:
    """Where ``sequence`` goes on after ``committed``: (index of the next token, length of the match).

    The longest suffix of ``committed`` found in ``sequence`` wins; among equals the one nearest to the same place in
    the text. (0, 0) for an empty prefix, (-1, 0) where not even the last token occurs.
    """
    if not committed:
        return (0, 0) if sequence else (-1, 0)
    here, last = len(committed), committed[-1]
    best, best_key = -1, (0, 0)
    for index, token in enumerate(sequence):
        if token != last:
            continue
        match = 1
        while match < max_match and match <= index and match < here:
            if sequence[index - match] != committed[-1 - match]:
                break
            match += 1
        key = (match, -abs(index + 1 - here))
        if best < 0 or key > best_key:
            best, best_key = index + 1, key
    return best, best_key[0]


class ChainSource(DraftSource):
    """Follows one sequence from the place where it agrees with the committed prefix.

    State: (index into the sequence, tokens matched so far). After a mismatch the next pass aligns it again, so that an
    inserted or replaced word costs one token and not the rest of the caption.
    """

    def __init__(self, name: str, *, min_match: int = 1) -> None:
        self.name = name
        self._min_match = min_match
        self._sequence: tuple[int, ...] = ()
        self._hits = HitTable(_MATCH_PRIORS)

    def start(self, committed: Sequence[int]) -> tuple[int, int] | None:
        """Align the sequence with the committed prefix."""
        index, match = align(self._sequence, committed)
        if index < 0 or index >= len(self._sequence) or (committed and match < self._min_match):
            return None
        return index, match

    def step(self, state: tuple[int, int]) -> Sequence[Step]:
        """The one next token of the sequence."""
        index, match = state
        following = (index + 1, match + 1) if index + 1 < len(self._sequence) else None
        return ((self._sequence[index], self._hits.share(match), following),)

    def feedback(self, state: tuple[int, int], token: int) -> None:
        """Count the hit or miss at this match length."""
        index, match = state
        self._hits.add(match, self._sequence[index] == token)

    def reset(self) -> None:
        """Forget the sequence and what was measured."""
        self._sequence = ()
        self._hits.clear()

    def sizes(self) -> dict[str, int]:
        """Tokens of the sequence."""
        return {f'{self.name}_tokens': len(self._sequence)}


class PreviousCaption(ChainSource):
    """The last verified caption of the same prompt, re-aligned after each mismatch. Bounded to a few prompts."""

    def __init__(self, *, max_prompts: int = 16) -> None:
        super().__init__('previous')
        self._max_prompts = max_prompts
        self._captions: dict[str, tuple[int, ...]] = {}
        self._prompt_key = ''

    def begin(self, opening: Opening) -> None:
        """Take the last caption of this prompt."""
        self._prompt_key = opening.prompt_key
        self._sequence = self._captions.get(opening.prompt_key, ())

    def finish(self, token_ids: Sequence[int]) -> None:
        """Keep the caption for the next window of this prompt."""
        self._captions.pop(self._prompt_key, None)
        self._sequence = self._captions[self._prompt_key] = tuple(token_ids)
        while len(self._captions) > self._max_prompts:
            del self._captions[next(iter(self._captions))]

    def reset(self) -> None:
        """Forget the captions."""
        super().reset()
        self._captions.clear()

    def sizes(self) -> dict[str, int]:
        """One caption a prompt."""
        return {'previous_captions': len(self._captions)}


class Rehearsal(ChainSource):
    """What the target itself said about the frames so far, while it waited for the last ones."""

    def __init__(self) -> None:
        super().__init__('rehearsal')

    def begin(self, opening: Opening) -> None:
        """The old window's rehearsal is worth nothing now."""
        self._sequence = opening.rehearsed

    def finish(self, token_ids: Sequence[int]) -> None:
        """The same at the caption's end."""
        self._sequence = ()

    def rehearsed(self, token_ids: Sequence[int]) -> None:
        """Tokens of the rehearsed caption, from its start."""
        self._sequence = tuple(token_ids)


class PromptLookup(ChainSource):
    """Continues the text as the prompt did after the same words (prompt lookup decoding, Saxena 2023)."""

    def __init__(self, *, min_match: int = 2) -> None:
        super().__init__('prompt', min_match=min_match)

    def begin(self, opening: Opening) -> None:
        """Take the question's text tokens, without visual placeholders."""
        self._sequence = opening.question_ids

    def start(self, committed: Sequence[int]) -> tuple[int, int] | None:
        """A prompt says nothing about how a caption begins."""
        return super().start(committed) if committed else None
