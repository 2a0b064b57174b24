"""What it costs a drafter to have another vocabulary than the verifier, replayed on recorded captions.

The same words are drafted three times: in the verifier's tokens, as a drafter of its vocabulary would send them; as
text that has been through the drafter's tokens, which the verifier tokenises again; and as text that the drafter itself
tokenises again, with the end of the caption. Whose words: those of the recorded drafter, the caption before, and the
caption itself, which no drafter can better.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from crossspec_ros.bench.traces import Layout, Row, replay
from crossspec_ros.models.drafters.retold import FolderWords, Words, retell

Ids = tuple[int, ...]
_SPEAKERS: Mapping[str, Callable[[Row, Row | None], Ids]] = {
    'recorded drafter': lambda row, before: row.draft,
    'caption before': lambda row, before: () if before is None else before.target,
    'caption itself': lambda row, before: row.target,
}


def measure_again(rows: Sequence[Row], layout: Layout, target: Path, drafters: Sequence[Path], *,
                  captions: int) -> dict[str, Any]:
    """Tokens a pass by whose words they are, and for each drafter's tokenizer how often and at what cost tokens change.

    ``target`` and ``drafters`` are folders of tokenizers. Raises `CrossSpecError` where one cannot be read.
    """
    words = FolderWords(target)
    others = {str(folder): FolderWords(folder) for folder in drafters}
    return {speaker: _speaker(rows, [said(row, before) for row, before in zip(rows, (None, *rows))], layout, words,
                              others, captions) for speaker, said in _SPEAKERS.items()}


def _speaker(rows: Sequence[Row], drafts: Sequence[Ids], layout: Layout, words: Words, others: Mapping[str, Words],
             captions: int) -> dict[str, Any]:
    def tau(said: Sequence[Ids]) -> float:
        drafted = [replace(row, draft=draft) for row, draft in zip(rows, said, strict=True)]
        return replay(drafted, ('drafts',), layout, captions=captions).statistics['mean_acceptance_length']

    figures: dict[str, Any] = {'same_tokenizer': tau(drafts), 'by_tokenizer': {}}
    for folder, other in others.items():
        again = [_again(words, other, draft, end=False) for draft in drafts]
        retold = [_again(words, other, draft, end=True) for draft in drafts]
        same = [made == _without_end(words, draft) for made, draft in zip(again, drafts, strict=True) if draft]
        figures['by_tokenizer'][folder] = {
            'verifier_tokenises': tau(again), 'drafter_tokenises': tau(retold),
            'drafts_unchanged': fmean(same) if same else 1.0}
    return figures


def _again(words: Words, other: Words, draft: Ids, *, end: bool) -> Ids:
    """A draft said in another vocabulary and tokenised again, with its end token only where ``end`` says so."""
    text = other.decode(other.encode(words.decode(draft)))
    return retell(words, text, complete=end and draft != _without_end(words, draft))


def _without_end(words: Words, draft: Ids) -> Ids:
    return draft[:-1] if draft and draft[-1] == words.eos_id else draft


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
