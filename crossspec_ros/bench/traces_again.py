"""What it costs a drafter to have another vocabulary than the verifier, replayed on recorded captions.

The same words are drafted three times: in the verifier's tokens, as a drafter of its vocabulary would send them; as
text that has been through the drafter's tokens, which the verifier tokenises again; and as text that the drafter itself
tokenises again, with the end of the caption. Whose words: those of the recorded drafter, the caption before, the
caption itself, which no drafter can better, and the caption with each eighth word wrong (`with slips`). The drafter of
the last goes on from verdicts where their tokens are its own or tokenised again by itself; where the verifier does that
it cannot.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

from crossspec_ros.bench.traces import Again, Layout, Row, replay
from crossspec_ros.models.drafters.retold import FolderWords, Words, retell

Ids = tuple[int, ...]
_SLIP_EVERY, _SLIP = 8, 'something'


@dataclass(frozen=True)
class _Speaker:
    """Text that a drafter says of a clip from the start, and whether that ends the caption; ``rest``: what it says
    after a committed text, where it goes on from verdicts."""

    said: Callable[[int], tuple[str, bool]]
    rest: Callable[[int, str], str] | None = None


def measure_again(rows: Sequence[Row], layout: Layout, target: Path, drafters: Sequence[Path], *,
                  captions: int) -> dict[str, Any]:
    """Tokens a pass by whose words they are, and for each drafter's tokenizer how often and at what cost tokens change.

    ``target`` and ``drafters`` are folders of tokenizers. Raises `CrossSpecError` where one cannot be read.
    """
    words = FolderWords(target)
    others = {str(folder): FolderWords(folder) for folder in drafters}

    known: dict[tuple[Ids, ...], float] = {}

    def tau(said: Sequence[Ids], again: Again | None = None) -> float:
        if again is not None:
            return replayed(said, again)
        if tuple(said) not in known:                                # most drafts come back as they were
            known[tuple(said)] = replayed(said)
        return known[tuple(said)]

    def replayed(said: Sequence[Ids], again: Again | None = None) -> float:
        drafted = [replace(row, draft=draft) for row, draft in zip(rows, said, strict=True)]
        return replay(drafted, ('drafts',), layout, captions=captions,
                      again=again).statistics['mean_acceptance_length']

    return {name: _figures(speaker, len(rows), words, others, tau)
            for name, speaker in _speakers(rows, words).items()}


def _speakers(rows: Sequence[Row], words: Words) -> dict[str, _Speaker]:
    @lru_cache(maxsize=4 * len(rows))
    def text_of(ids: Ids) -> tuple[str, bool]:
        return words.decode(ids), bool(ids) and ids[-1] == words.eos_id

    def slipped(clip: int) -> tuple[str, bool]:
        text, complete = text_of(rows[clip].target)
        return _slip(text), complete

    return {
        'recorded drafter': _Speaker(lambda clip: text_of(rows[clip].draft)),
        'caption before': _Speaker(lambda clip: text_of(rows[clip - 1].target) if clip else ('', False)),
        'caption itself': _Speaker(lambda clip: text_of(rows[clip].target)),
        'with slips': _Speaker(slipped, lambda clip, before: _slip(text_of(rows[clip].target)[0][len(before):])),
    }


def _slip(text: str) -> str:
    """A text with each eighth of its words wrong."""
    parts = re.split(r'(\s+)', text)                                 # words and what is between them, in turn
    for place in range(2 * _SLIP_EVERY - 2, len(parts), 2 * _SLIP_EVERY):
        parts[place] = _SLIP
    return ''.join(parts)


def _figures(speaker: _Speaker, clips: int, words: Words, others: Mapping[str, Words],
             tau: Callable[..., float]) -> dict[str, Any]:
    own = [retell(words, *_whole(speaker, clip)) for clip in range(clips)]
    figures: dict[str, Any] = {'same_tokenizer': tau(own, _going_on(speaker, words, words)), 'by_tokenizer': {}}
    for folder, other in others.items():
        retold = [retell(words, *_whole(speaker, clip, other)) for clip in range(clips)]
        unended = [retell(words, _whole(speaker, clip, other)[0]) for clip in range(clips)]
        same = [made == draft for made, draft in zip(retold, own, strict=True) if draft]
        figures['by_tokenizer'][folder] = {
            'verifier_tokenises': tau(unended), 'drafter_tokenises': tau(retold, _going_on(speaker, words, other)),
            'drafts_unchanged': fmean(same) if same else 1.0}
    return figures


def _whole(speaker: _Speaker, clip: int, other: Words | None = None) -> tuple[str, str, bool]:
    """Text from the start (through the tokens of ``other``), nothing before it, and whether it is complete."""
    text, complete = speaker.said(clip)
    return text if other is None else other.decode(other.encode(text)), '', complete


def _going_on(speaker: _Speaker, words: Words, other: Words) -> Again | None:
    """What the speaker says after committed tokens of ``words``, said in tokens of ``other``."""
    if speaker.rest is None:
        return None

    def again(clip: int, committed: Ids) -> Ids:
        if committed[-1] == words.eos_id:
            return ()
        before = words.decode(committed)
        text = other.decode(other.encode(before + speaker.rest(clip, before)))
        return retell(words, text, before, speaker.said(clip)[1])
    return again


def table(figures: Mapping[str, Any]) -> list[str]:
    """The figures as lines for people."""
    lines = ['  a drafter of another vocabulary: tokens per pass with the same words',
             f'    {"whose words":<18}{"same vocabulary":>17}{"verifier tokenises":>20}{"drafter tokenises":>19}'
             f'{"unchanged":>11}']
    for speaker, found in figures.items():
        for folder, each in found['by_tokenizer'].items():
            lines.append(f'    {speaker:<18}{found["same_tokenizer"]:>17.2f}{each["verifier_tokenises"]:>20.2f}'
                         f'{each["drafter_tokenises"]:>19.2f}{each["drafts_unchanged"]:>11.1%}  {Path(folder).name}')
    return lines
