"""Questions of a local copy of the field's data, answered by the verifier with drafts and without."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from crossspec_ros.bench.decode_schemes import Speculation, Window
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import Table
from crossspec_ros.experiments.intervals import Rows, ratio, statistic
from crossspec_ros.experiments.lab import Lab
from crossspec_ros.recordings.quality.answers import right
from crossspec_ros.recordings.quality.items import QualityItem
from crossspec_ros.recordings.quality.opening import open_quality_data
from crossspec_ros.speculation.settings import EngineConfig

_SOURCES = ('memory', 'previous', 'recycling', 'prompt')


@dataclass(frozen=True)
class Asked:
    """Rows by question, the layout of the data, and what was left out by cause."""

    rows: list[dict[str, Any]]
    layout: str
    left_out: dict[str, int]


def question_of(item: QualityItem, otherwise: str) -> str:
    """What the verifier is asked: the choices under the question, each with its letter."""
    if not item.choices:
        return item.question or otherwise
    lines = [f'{ascii_uppercase[place]}. {choice}' for place, choice in enumerate(item.choices)]
    return '\n'.join([item.question, *lines, 'Answer with the letter of the right choice.'])


def ask_all(lab: Lab, folder: str, most: int) -> Asked:
    """The first ``most`` items that have frames.

    Raises CrossSpecError for data that cannot be read, and where drafts change an answer.
    """
    data, rows, left_out = open_quality_data(folder), [], Counter[str]()
    config = EngineConfig()
    scheme = Speculation(lab.target, config, _SOURCES)
    for item in data:
        if item.frames is None:
            left_out['without frames'] += 1
            continue
        if len(rows) >= most:
            break
        frames, question = item.frames.frames(config.window_frames), question_of(item, lab.settings.prompt)
        alone = lab.without_end(lab.target.generate(frames, question, config.max_new_tokens))
        told = scheme.run(Window(len(rows) + 1, frames, question))
        if told.tokens != alone:
            raise CrossSpecError(f'{item.item_id}: drafts changed what the verifier answers')
        judged = right(lab.target.decode(told.tokens).strip(), item)
        rows.append({'drive': item.drive, 'split': item.split, 'known': int(judged is not None),
                     'right': int(bool(judged)), 'passes': told.passes, 'tokens': told.emitted,
                     'age_ms': told.age_ms})
    if not rows:
        raise CrossSpecError(f'data {folder} ({data.layout}) must have clips with frames, all are without')
    return Asked(rows, data.layout, dict(left_out + data.left_out))


def table_of(rows: Rows, layout: str, left_out: dict[str, int]) -> Table:
    """A row a split, and one for all."""
    splits = {split: [row for row in rows if row['split'] == split] for split in dict.fromkeys(
        row['split'] for row in rows)}
    lines = [(name or 'no split', str(len(each)), ratio(each, 'right', 'known'), ratio(each, 'tokens', 'passes'),
              statistic(each, 'age_ms', digits=0)) for name, each in ({'all': rows} | splits).items()]
    causes = ', '.join(f'{cause}: {count}' for cause, count in left_out.items() if count)
    return Table(f'Questions of {layout} data', ('split', 'questions', 'right', 'tau, with the bonus', 'age here, ms'),
                 tuple(lines), 'Right: of the questions whose answer is known, by its text or letter. With drafts the '
                 f'same tokens as without, asserted.{f" Left out: {causes}." if causes else ""}')
