"""Questions and answers in JSON beside videos, pictures or events: the forms that the field uses.

* MVBench: ``video``, ``question``, ``candidates``, ``answer`` (a text), ``start`` and ``end`` (s).
* Video-MME: ``videoID`` or ``video_id``, ``question``, ``options`` ("A. ..."), ``answer`` (a letter); or a video with
  its ``questions``.
* MSVD-QA: ``video_id`` (an int is vidINT of ``youtube_mapping.txt``) or ``video_name``, ``question``, ``answer``;
  answers may stand in ``*_a.json`` by ``question_id``.
* DSEC-QA, EventDrive and other instructions: ``event``, ``event_data``, ``image``, ``images``, ``video``, or
  ``sequence`` (of DSEC, with ``start`` and ``end`` in s), and ``conversations`` (human, gpt) or ``question`` and
  ``answer``.
"""
from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.quality.drives import dsec_part, dsec_split
from crossspec_ros.recordings.quality.finding import Finder
from crossspec_ros.recordings.quality.items import SPLITS, QualityItem

_FRAMES = ('video', 'video_path', 'videoID', 'video_id', 'video_name', 'images', 'image', 'frames', 'sequence')
_EVENTS = ('event_data', 'events', 'event', 'event_path', 'event_file')
_DRIVES = ('sequence', 'drive', 'videoID', 'video_id', 'video_name', 'video')
_CHOICES = ('candidates', 'options', 'choices')
_PLACEHOLDER = re.compile(r'\s*<(image|video|event)s?>\s*')
_LETTERED = re.compile(r'\s*\(?([A-Z])[.):]\s*(.*)', re.DOTALL)
# Where MVBench keeps the videos of each of its files.
_MVBENCH = {'action_sequence': 'star/Charades_v1_480', 'action_prediction': 'star/Charades_v1_480',
            'object_interaction': 'star/Charades_v1_480', 'action_antonym': 'ssv2_video',
            'fine_grained_action': 'Moments_in_Time_Raw/videos', 'unexpected_action': 'FunQA_test/test',
            'object_existence': 'clevrer/video_validation', 'moving_direction': 'clevrer/video_validation',
            'moving_count': 'clevrer/video_validation', 'moving_attribute': 'clevrer/video_validation',
            'counterfactual_inference': 'clevrer/video_validation', 'object_shuffle': 'perception/videos',
            'action_count': 'perception/videos', 'state_change': 'perception/videos',
            'character_order': 'perception/videos', 'action_localization': 'sta/sta_video',
            'scene_transition': 'scene_qa/video', 'fine_grained_pose': 'nturgbd', 'egocentric_navigation': 'vlnqa',
            'episodic_reasoning': 'tvqa/frames_fps3_hq'}

Entry = dict[str, Any]


def question_files(path: Path) -> list[Path]:
    """JSON files in a folder, in its folders and in theirs, by name; the path itself where it is one."""
    if path.is_file():
        return [path] if path.suffix in ('.json', '.jsonl') else []
    return sorted(file for depth in ('*', '*/*', '*/*/*') for suffix in ('.json', '.jsonl')
                  for file in path.glob(depth + suffix) if not file.name.startswith('.'))


def read_entries(path: Path) -> list[Entry]:
    """Objects of a file: of its list, of a list by name in its object, or one a line; none where it holds no such list.
    Raises CrossSpecError where it is no JSON."""
    try:
        text = path.read_text('utf-8')
        loaded = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == '.jsonl' \
            else json.loads(text)
    except (OSError, ValueError) as error:
        raise CrossSpecError(f'{path} cannot be read as JSON ({error}); copy it again') from error
    if isinstance(loaded, dict):
        loaded = next((value for value in loaded.values() if isinstance(value, list)), [loaded])
    if not isinstance(loaded, list):
        return []
    return [one for entry in loaded if isinstance(entry, dict) for one in _each(entry)]


def _each(entry: Entry) -> list[Entry]:
    """An entry, or one a question where it holds those of a video."""
    listed = entry.get('questions')
    if not isinstance(listed, list) or not all(isinstance(question, dict) for question in listed):
        return [entry]
    shared = {name: value for name, value in entry.items() if name != 'questions'}
    return [{**shared, **question} for question in listed]


def asks(entry: Entry) -> bool:
    """Whether an entry is a question of a form known here: about something that can be looked at."""
    asked = isinstance(entry.get('question'), str) or isinstance(entry.get('conversations'), list)
    return asked and any(name in entry for name in (*_FRAMES, *_EVENTS))


def form_of(entries: Sequence[Entry]) -> str:
    """Name of the form of a file's entries, by their first."""
    first = entries[0]
    if 'candidates' in first:
        return 'mvbench'
    if 'options' in first:
        return 'video-mme'
    return 'instructions' if 'conversations' in first or any(name in first for name in _EVENTS) else 'msvd-qa'


def question_items(files: Sequence[Path], finder: Finder, left_out: Counter[str]) -> Iterator[QualityItem]:
    """Items of all files. Entries that ask nothing, and those whose frames and events are not in the folder, are
    counted in ``left_out``."""
    answers = {entry['question_id']: entry['answer'] for path in files if path.stem.endswith('_a')
               for entry in read_entries(path) if 'question_id' in entry and 'answer' in entry}
    for path in files:
        if path.stem.endswith('_a'):
            continue
        for number, entry in enumerate(read_entries(path)):
            if not asks(entry):
                left_out['not_a_question'] += 1
                continue
            entry = entry if 'answer' in entry else {**entry, 'answer': answers.get(entry.get('question_id'))}
            yield from _items(path, number, entry, finder, left_out)


def _items(path: Path, number: int, entry: Entry, finder: Finder, left_out: Counter[str]) -> Iterator[QualityItem]:
    hint, bounds = _MVBENCH.get(path.stem, ''), (_seconds(entry.get('start')), _seconds(entry.get('end')))
    sequence = finder.sequence(_named(entry, ('sequence',)))
    frames, events = (None if sequence is None else dsec_part(sequence, *bounds)) or (
        finder.frames(_named(entry, _FRAMES), hint, *bounds), finder.events(_named(entry, _EVENTS)))
    if frames is None and events is None:
        left_out['not_in_the_folder'] += 1
        return
    drive = next((str(entry[name]) for name in _DRIVES if isinstance(entry.get(name), (str, int))),
                 _drive_of(_named(entry, (*_FRAMES, *_EVENTS))))
    split = entry['split'] if entry.get('split') in SPLITS else \
        (sequence is not None and dsec_split(sequence)) or _split_of(path)
    key = entry.get('question_id', entry.get('id', number))
    for turn, (question, answer) in enumerate(_asked(entry)):
        choices = _choices(entry)
        yield QualityItem(f'{path.stem}/{key}' + (f'/{turn}' if turn else ''), frames, events, question, choices,
                          _answers(answer, choices), split, drive)


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _named(entry: Entry, names: Sequence[str]) -> list[str]:
    """What an entry names under the first of these keys that it has."""
    for name in names:
        value = entry.get(name)
        listed = value if isinstance(value, list) else [value]
        if listed and all(isinstance(each, (str, int)) and not isinstance(each, bool) for each in listed):
            return [f'vid{each}' if isinstance(each, int) else each for each in listed]
    return []


def _drive_of(named: Sequence[str]) -> str:
    """The folder that the first file lies in, above those that are named for what is in them."""
    parts = [part for part in Path(named[0]).parts[:-1] if part not in ('image', 'images', 'event', 'events')]
    return parts[-1] if parts else Path(named[0]).stem


def _split_of(path: Path) -> str:
    """By the words in the name of a file, then of its folders."""
    for part in (path.stem, *reversed(path.parts[:-1])):
        words = set(re.split(r'[^a-z]+', part.lower()))
        for split in SPLITS:
            if split in words or (split == 'val' and 'validation' in words):
                return split
    return ''


def _asked(entry: Entry) -> Iterator[tuple[str, Any]]:
    """(question, answer) of an entry; of a conversation each turn."""
    if 'conversations' not in entry:
        yield _PLACEHOLDER.sub('', entry['question']).strip(), entry.get('answer', entry.get('answers'))
        return
    turns = [turn for turn in entry['conversations'] if isinstance(turn, dict)]
    for asked, said in zip(turns[::2], turns[1::2]):
        yield _PLACEHOLDER.sub('', str(asked.get('value', ''))).strip(), said.get('value')


def _choices(entry: Entry) -> tuple[str, ...] | None:
    listed = next((entry[name] for name in _CHOICES if isinstance(entry.get(name), list) and entry[name]), None)
    if listed is None:
        return None
    texts = [str(each).strip() for each in listed]
    matches = [_LETTERED.fullmatch(text) for text in texts]
    if all(matches) and [match[1] for match in matches] == [chr(ord('A') + at) for at in range(len(texts))]:
        return tuple(match[2].strip() for match in matches)
    return tuple(texts)


def _answers(answer: Any, choices: tuple[str, ...] | None) -> tuple[str, ...]:
    """Right answers as texts; a letter, or a letter and its text, become the text of the choice."""
    found = [str(each).strip() for each in (answer if isinstance(answer, list) else [answer]) if each is not None]
    if choices is None:
        return tuple(found)
    texts = []
    for text in found:
        match = _LETTERED.fullmatch(text if len(text) > 1 else f'{text}.')
        place = ord(match[1]) - ord('A') if match and text not in choices else -1
        texts.append(choices[place] if 0 <= place < len(choices) else text)
    return tuple(text for text in texts if text in choices)
