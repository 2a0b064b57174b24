"""What the drafter learns from: the verifier's own greedy answers, with the tokens it thought likely at every place.

Answers are found the way the package decodes: the true answer is a draft of all questions at once, and one forward of
the verifier tells whether its greedy answer is the same, token for token. Only clips where it is not are decoded.
Letters: N clips, B batch, F frames, S tokens of a frame, D width, T tokens of an answer, K likely tokens of a place.
"""
from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import VideoLlavaForConditionalGeneration

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.train.greedy import greedy_answers
from crossspec_ros.train.language_stage import Exchange, hidden_states, lay_out, prompt_parts
from crossspec_ros.train.team import Team
from crossspec_ros.train.tokenizer_training import VIDEO, answer_ids
from crossspec_ros.train.verifier_config import FRAMES, TOKENS_PER_FRAME

LIKELY = 8
_BATCH = 16


@dataclass(frozen=True)
class Answer:
    """Greedy ``token_ids`` int64 (T,) with the end token; ``likely`` int64 (T, K) holds the likeliest tokens of each
    place, best first, and ``probs`` float32 (T, K) their probabilities."""

    token_ids: NDArray[np.int64]
    likely: NDArray[np.int64]
    probs: NDArray[np.float32]

    @property
    def greedy(self) -> bool:
        """Whether every token is the likeliest one after those before it."""
        return bool((self.likely[:, 0] == self.token_ids).all())


@torch.inference_mode()
def forced_answers(model: VideoLlavaForConditionalGeneration, tokenizer: Tokenizer, features: Tensor,
                   texts: Sequence[dict[str, list[int]]]) -> list[dict[str, Answer]]:
    """What the verifier thinks of given answers (ids by question, B of them) to ``features`` (B, F, S, D), in one
    forward."""
    head = prompt_parts(tokenizer, '')[0]
    exchanges = [[Exchange(prompt_parts(tokenizer, question)[1], ids) for question, ids in row.items()]
                 for row in texts]
    layout = lay_out(head, tokenizer.token_to_id(VIDEO), np.arange(FRAMES * TOKENS_PER_FRAME), exchanges)
    hidden = hidden_states(model.model, features.flatten(1, 2).float(), layout, len(head) + FRAMES * TOKENS_PER_FRAME)
    probs, likely = torch.softmax(model.lm_head(hidden[layout.targets != -100]), -1).topk(LIKELY)
    answers: list[dict[str, Answer]] = []
    at = 0
    for row in texts:
        answers.append({})
        for question, ids in row.items():
            part = slice(at, at + len(ids))
            answers[-1][question] = Answer(np.array(ids), likely[part].numpy(), probs[part].numpy())
            at += len(ids)
    return answers


def verifier_answers(model: VideoLlavaForConditionalGeneration, tokenizer: Tokenizer, features: Tensor,
                     guesses: Sequence[dict[str, list[int]]]) -> list[dict[str, Answer]]:
    """The verifier's greedy answers to ``features`` (B, F, S, D), found sooner where ``guesses`` are right."""
    answers = forced_answers(model, tokenizer, features, guesses)
    wrong = [row for row, found in enumerate(answers) if not all(answer.greedy for answer in found.values())]
    if wrong:
        decoded = greedy_answers(model, tokenizer, features[wrong], list(guesses[0]))
        for row, found in zip(wrong, forced_answers(model, tokenizer, features[wrong], decoded), strict=True):
            answers[row] = found
    return answers


def collect_answers(model: VideoLlavaForConditionalGeneration, tokenizer: Tokenizer, features: np.ndarray,
                    truth: Sequence[dict[str, str]], rows: Sequence[int], folder: Path,
                    team: Team | None = None) -> Iterator[int]:
    """Write the verifier's answers to the clips ``rows`` of ``features`` (N, F, S, D) into ``folder``, a file for each
    batch; yields how many clips of this process's part are done.

    ``truth`` is the true answer to every question of every clip. Batches that are there already are kept.
    """
    team = team or Team()
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    for start in range(team.rank * _BATCH, len(rows), team.size * _BATCH):
        batch = list(rows[start:start + _BATCH])
        path = folder / f'{start:06d}.npz'
        if not path.is_file():
            guesses = [{question: answer_ids(tokenizer, text) for question, text in truth[row].items()}
                       for row in batch]
            found = verifier_answers(model, tokenizer, torch.from_numpy(features[batch]), guesses)
            write_atomic(path, lambda target: _save(target, batch, found))
        done += len(batch)
        yield done


def _save(path: Path, rows: Sequence[int], answers: Sequence[dict[str, Answer]]) -> None:
    flat = [answer for row in answers for answer in row.values()]
    with path.open('wb') as handle:
        np.savez(handle, rows=rows, questions=list(answers[0]), lengths=[len(answer.token_ids) for answer in flat],
                 token_ids=np.concatenate([answer.token_ids for answer in flat]).astype(np.int32),
                 likely=np.concatenate([answer.likely for answer in flat]).astype(np.int32),
                 probs=np.concatenate([answer.probs for answer in flat]).astype(np.float16))


def read_answers(folder: Path) -> dict[int, dict[str, Answer]]:
    """What ``collect_answers`` wrote, by clip and question; raises CrossSpecError where a file is missing or broken."""
    paths = sorted(folder.glob('*.npz'))
    if not paths:
        raise CrossSpecError(f'no answers of the verifier in {folder}: run the stage answers first')
    return {row: found for path in paths for row, found in _read(path).items()}


def _read(path: Path) -> dict[int, dict[str, Answer]]:
    try:
        with np.load(path) as stored:
            part = {name: stored[name] for name in stored.files}
        ends = np.cumsum(part['lengths'])
        questions = [str(question) for question in part['questions']]
        rows: dict[int, dict[str, Answer]] = {}
        for number, (end, length) in enumerate(zip(ends, part['lengths'], strict=True)):
            piece = slice(end - length, end)
            row = int(part['rows'][number // len(questions)])
            rows.setdefault(row, {})[questions[number % len(questions)]] = Answer(
                part['token_ids'][piece].astype(np.int64), part['likely'][piece].astype(np.int64),
                part['probs'][piece].astype(np.float32))
        return rows
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CrossSpecError(f'cannot read the verifier\'s answers {path} ({error}): delete the file and run '
                             f'the stage answers again') from error
