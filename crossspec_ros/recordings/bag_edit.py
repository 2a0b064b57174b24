"""Bags put together so that a half one never looks whole: written beside their name, moved there when complete."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import yaml

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader, BagWriter

PARTIAL = '.partial'
_INFO = 'rosbag2_bagfile_information'


def partial_path(out: Path) -> Path:
    """Where a bag is written until it is whole."""
    return out.with_name(out.name + PARTIAL)


def check_out(out: Path) -> None:
    """Raise CrossSpecError when a bag cannot be made at ``out``."""
    if out.exists():
        raise CrossSpecError(f'{out} exists; choose another name or remove it first')
    if not out.parent.is_dir():
        raise CrossSpecError(f'the folder {out.parent} does not exist; make it first')
    if not os.access(out.parent, os.W_OK):
        raise CrossSpecError(f'the folder {out.parent} is not writable; choose another place')


def finish(segments: Sequence[Path], out: Path) -> None:
    """One bag at ``out`` of the files of ``segments``, bags in the order of time inside ``partial_path(out)``.

    The last step is a rename of the folder: before it there is no bag, after it there is a whole one.
    """
    partial = partial_path(out)
    infos = [yaml.safe_load((segment / 'metadata.yaml').read_text('utf-8'))[_INFO] for segment in segments]
    whole = partial / 'whole'
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    suffix = '.mcap' if infos[0]['storage_identifier'] == 'mcap' else '.db3'
    names = [f'{out.name}_{number}{suffix}' for number in range(len(segments))]
    for segment, info, name in zip(segments, infos, names, strict=True):
        # A link leaves the segment where it is: stopped here, the next run can do this again.
        os.link(segment / info['relative_file_paths'][0], whole / name)
    text = yaml.safe_dump({_INFO: _merged(infos, names)}, sort_keys=False)
    (whole / 'metadata.yaml').write_text(text, 'utf-8')
    os.rename(whole, out)
    shutil.rmtree(partial)


def _merged(infos: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The metadata of bags that follow each other, as one."""
    spans = [(info['starting_time']['nanoseconds_since_epoch'],
              info['starting_time']['nanoseconds_since_epoch'] + info['duration']['nanoseconds'])
             for info in infos if info['message_count']]
    start_ns, end_ns = (min(s for s, _ in spans), max(e for _, e in spans)) if spans else (0, 0)
    topics: dict[str, Any] = {}
    for info in infos:
        for topic in info['topics_with_message_count']:
            known = topics.setdefault(topic['topic_metadata']['name'], {**topic, 'message_count': 0})
            known['message_count'] += topic['message_count']
    files = [{**info['files'][0], 'path': name} for info, name in zip(infos, names, strict=True)]
    return {**infos[0], 'relative_file_paths': list(names), 'files': files,
            'starting_time': {'nanoseconds_since_epoch': start_ns}, 'duration': {'nanoseconds': end_ns - start_ns},
            'message_count': sum(info['message_count'] for info in infos),
            'topics_with_message_count': list(topics.values())}


def cut(path: str | Path, out: str | Path, *, start_s: float = 0.0, end_s: float | None = None,
        topics: Collection[str] | None = None, storage: str = 'mcap',
        advance: Callable[[int], None] = lambda count: None) -> int:
    """Copy the messages recorded from ``start_s`` up to ``end_s`` seconds after the bag's start, byte for byte.

    Returns how many. What cannot be copied (topics that are not CDR) is told in a line; ROS 1 messages become CDR.
    Raises CrossSpecError on a broken bag, times that leave nothing, and an ``out`` that exists.
    """
    out = Path(out)
    check_out(out)
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise CrossSpecError(f'the cut must begin at >= 0 s and end after its start, got {start_s} to {end_s} s')
    with BagReader(path) as bag:
        start_ns = bag.start_ns + round(start_s * 1e9)
        stop_ns = None if end_s is None else bag.start_ns + round(end_s * 1e9)
        segment = partial_path(out) / 'segment'
        shutil.rmtree(partial_path(out), ignore_errors=True)
        copied = 0
        try:
            with BagWriter(segment, storage) as writer:
                writer.types_from(bag)
                for name, info in bag.topics.items():
                    if info.readable and (topics is None or name in topics):
                        writer.add_topic(name, info.type)
                # All topics by name rather than None: what of them is left out is told.
                asked = list(bag.topics) if topics is None else topics
                for message in bag.messages(asked, start_ns=start_ns, stop_ns=stop_ns, decode=False):
                    writer.write_cdr(message.topic, message.type, message.log_ns, message.cdr)
                    copied += 1
                    advance(1)
            if not copied:
                raise CrossSpecError(f'bag {path} has no message from {start_s} to {end_s} s; it is '
                                     f'{(bag.end_ns - bag.start_ns) / 1e9:.3f} s long')
            finish([segment], out)
        except BaseException:
            shutil.rmtree(partial_path(out), ignore_errors=True)
            raise
    return copied
