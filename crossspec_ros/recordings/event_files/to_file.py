"""Events of a bag or of a file written in another format; whole under its name, or not there at all."""
from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Events
from crossspec_ros.recordings.bag_edit import check_out, partial_path
from crossspec_ros.recordings.event_files.bag_events import BagEvents
from crossspec_ros.recordings.event_files.dat import trigger_path
from crossspec_ros.recordings.event_files.opening import make_writer
from crossspec_ros.recordings.event_files.piece import EventFile, Piece
from crossspec_ros.recordings.event_files.pictures import as_png
from crossspec_ros.recordings.event_files.raw import RawFile, RawWriter


@dataclass
class Exported:
    """What was written; ``dropped`` counts what could not be read, ``left_out`` what the format has no place for."""

    events: int = 0
    triggers: int = 0
    monitors: int = 0
    pictures: int = 0
    as_it_is: bool = False
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def write_file(source: EventFile, out: str | Path, name: str, *, offset_ns: int = 0, pictures: Path | None = None,
               advance: Callable[[float], None] = lambda events: None) -> Exported:
    """Write a format of ``FORMATS``; ``offset_ns`` is added to every time. The words of evt3 are written as they are
    where nothing is added. ``pictures`` is a new folder for the pictures and ``times.txt`` (us).

    Raises CrossSpecError where ``out`` exists or the format cannot hold these events.
    """
    out = Path(out)
    check_out(out)
    partial = partial_file(out.with_suffix('.aedat4') if name == 'aedat4' else out)
    partial.unlink(missing_ok=True)
    if pictures is not None:
        check_out(pictures)
    triggers, triggers_partial = trigger_path(out), partial_file(trigger_path(out))
    first = next(source.frames(), None) if name == 'aedat4' else None
    shape = None if first is None else first.rgb().shape
    done = Exported()
    try:
        writer = make_writer(partial, name, source.width, source.height, header=source.header,
                             offset_ns=source.offset_ns,
                             triggers=triggers_partial, picture_size=shape and (shape[1], shape[0]))
        as_they_are = name == 'evt3' and not offset_ns and (
            isinstance(source, RawFile) and source.format == 'evt3' or
            isinstance(source, BagEvents) and source.encoding == 'evt3')
        if as_they_are:
            _write_words(source, writer, done)
        else:
            for piece in source.pieces():
                writer.write(_moved(piece, offset_ns))
                _count(done, piece)
                advance(len(piece.events))
        if first is not None:
            for frame in source.frames():
                writer.write_picture(frame.stamp_ns - source.offset_ns + offset_ns, frame.rgb())
                done.pictures += 1
        writer.close()
        done.left_out.update({cause: count for cause, count in writer.left_out.items() if count})
        if pictures is not None:
            _write_pictures(source, pictures, done)
        done.dropped.update({cause: count for cause, count in source.dropped.items() if count})
        if triggers_partial.exists():
            os.replace(triggers_partial, triggers)
        os.replace(partial, out)
    except BaseException:
        partial.unlink(missing_ok=True)
        triggers_partial.unlink(missing_ok=True)
        raise
    return done


def partial_file(out: Path) -> Path:
    """Where a file is written until it is whole; its ending stays: dv-processing ends the process over another one."""
    return out.with_name(f'{out.stem}.partial{out.suffix}')


def _write_words(source: RawFile | BagEvents, writer: RawWriter, done: Exported) -> None:
    done.as_it_is = True
    payloads = source.payloads() if isinstance(source, BagEvents) else (part for part, _, _ in source.payloads(1 << 40))
    for payload in payloads:
        writer.write_payload(payload)
    for piece in source.pieces():
        _count(done, piece)


def _count(done: Exported, piece: Piece) -> None:
    done.events += len(piece.events)
    done.triggers += len(piece.triggers)
    done.monitors += len(piece.monitors)


def _moved(piece: Piece, offset_ns: int) -> Piece:
    """A piece at other times; raises CrossSpecError where one would be before 0."""
    if not offset_ns:
        return piece
    events, step = piece.events, np.array([offset_ns, 0, 0])
    moved = Piece(Events(events.t_ns + offset_ns, events.x, events.y, events.p, events.width, events.height),
                  piece.triggers + step, piece.monitors + step)
    columns = (moved.events.t_ns, moved.triggers[:, 0], moved.monitors[:, 0])
    earliest = [int(times.min()) for times in columns if len(times)]
    if earliest and min(earliest) < 0:
        raise CrossSpecError(f'offset must leave every time at >= 0 s, got {offset_ns / 1e9:g} s for an event at '
                             f'{(min(earliest) - offset_ns) / 1e9:.6f} s')
    return moved


def _write_pictures(source: EventFile, folder: Path, done: Exported) -> None:
    partial = partial_path(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    lines = []
    for number, frame in enumerate(source.frames()):
        frame = frame if frame.compressed else as_png(frame)
        suffix = 'jpg' if bytes(frame.data[:2]) == b'\xff\xd8' else 'png'
        name = f'{number:06d}.{suffix}'
        (partial / name).write_bytes(frame.data.tobytes())
        lines.append(f'{frame.stamp_ns // 1000} {name}\n')
    (partial / 'times.txt').write_text('# time in us, picture\n' + ''.join(lines), 'utf-8')
    os.rename(partial, folder)
    done.pictures = len(lines)
