"""``crossspec replay BAG``: play a recording over DDS, or straight through the core with ``--no-dds``."""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.replay import ReplayMessage, Source, iter_messages
from crossspec_ros.recordings.sources import open_source, role_of

if TYPE_CHECKING:
    from crossspec_ros.pipeline.direct import DirectReplay


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = subparsers.add_parser('replay', help='play a recording, over DDS or straight through the core')
    parser.add_argument('bag', help='a bag (folder, .mcap, .db3), the folder of a DSEC sequence, or world:SEED')
    parser.add_argument('--start', type=float, default=0.0, metavar='S', help='start, s into the recording (0)')
    parser.add_argument('--seconds', type=float, default=0.0, metavar='S', help='length, s (0: to the end)')
    parser.add_argument('--rate', type=float, default=1.0, metavar='R', help='recorded seconds a second, over DDS (1)')
    parser.add_argument('--loop', action='store_true', help='begin again at the end, until interrupted')
    parser.add_argument('--no-dds', action='store_true',
                        help='caption it in this process, by stamps alone: every run gives the same captions')
    direct = parser.add_argument_group('with --no-dds')
    direct.add_argument('--out', type=Path, metavar='FILE', help='write drafts and captions here, a JSON object a line')
    direct.add_argument('--json', action='store_true', help='print captions, counts and compute times as JSON')
    direct.add_argument('--prompt', default='', help='the question (the built-in pair\'s own)')
    direct.add_argument('--model', default='builtin', help='verifier: builtin, a checkpoint folder or a hub id')
    direct.add_argument('--drafter', default='builtin', metavar='MODEL',
                        help='drafter: builtin, a checkpoint folder, or none')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Play it."""
    source = open_source(args.bag)
    try:
        if not args.no_dds:
            if next(iter_messages(source, args.start, args.seconds), None) is None:
                raise CrossSpecError(f'{args.bag} has no message from {args.start} s on')
            return run_over_dds(args)
        if source.end_ns is None and not args.seconds:
            raise CrossSpecError(f'{args.bag} has no end: say how much of it with --seconds')
        while True:
            run_direct(args, source)
            if not args.loop:
                return 0
    finally:
        source.close()


def run_over_dds(args: argparse.Namespace) -> int:
    """Become the player node: signals and the exit code are its own."""
    from crossspec_ros.graph import declare, node_environment
    # What is no path is the name of a source: world:SEED, load:RATE, or one that another package has.
    uri = str(Path(args.bag).absolute()) if Path(args.bag).exists() else args.bag
    values = {'rate': args.rate, 'loop': args.loop, 'start_s': args.start, 'seconds': args.seconds}
    # On the topics of the graph that ``crossspec up`` starts, so that the two find each other.
    command = next(spec for spec in declare({'bag': uri}, {'player': values}) if spec.name == 'player').command()
    sys.stdout.flush()
    os.execve(command[0], command, node_environment())


def run_direct(args: argparse.Namespace, source: Source) -> None:
    """Caption the recording in this process and tell what came of it."""
    digest = hashlib.sha256()
    lines: list[dict[str, Any]] = []
    with _lines_to(args.out) as write:
        def on_line(line: dict[str, Any]) -> None:
            text = json.dumps(line, ensure_ascii=False, sort_keys=True) + '\n'
            digest.update(text.encode())
            write(text)
            if args.json:
                lines.append(line)
            elif line['kind'] == 'caption':
                print(f'{line["window_end_ns"] / 1e9:.3f} {line["text"]}', flush=True)
        replay = build_direct(args, source, on_line)
        replay.run(_shown(source, args))
    report = {'source': source.name, 'mode': replay.mode.value, 'windows': len(replay.windows),
              'drafts': replay.drafts, 'captions': replay.captions, 'dropped': dict(replay.dropped),
              'sha256': digest.hexdigest(), 'compute_ms': replay.times.table()}
    if args.json:
        print(json.dumps({**report, 'lines': lines}, indent=2, ensure_ascii=False))
    else:
        print_report(report)


def build_direct(args: argparse.Namespace, source: Source, on_line: Callable[[dict[str, Any]], None]) -> DirectReplay:
    """The parts of the pipeline that the recording has something for, with the models asked for."""
    from crossspec_ros.config import DrafterConfig, VerifierConfig, make
    from crossspec_ros.pipeline.building import build_drafting, build_verifying
    from crossspec_ros.pipeline.direct import DirectReplay
    roles = {role_of(type_name) for type_name in source.topics.values()}
    drafting = verifying = None
    if 'events' in roles and args.drafter != 'none':
        drafting = build_drafting(make(DrafterConfig, {'model.path': args.drafter}), args.prompt)
    if roles & {'image', 'compressed'}:
        # Nothing is skipped and nothing is given up: that would depend on how fast the machine is.
        config = make(VerifierConfig, {'model.path': args.model, 'decode.timeout_ms': 3_600_000.0})
        verifying, _ = build_verifying(config, args.prompt, newest_wins=False)
    if drafting is None and verifying is None:
        raise CrossSpecError(f'{source.name} has nothing to caption: its topics are {", ".join(source.topics)}')
    return DirectReplay(drafting, verifying, DrafterConfig().grid(), on_line)


def _shown(source: Source, args: argparse.Namespace) -> Iterator[ReplayMessage]:
    """The messages, with a bar for the recorded time."""
    end_ns = source.start_ns + round((args.start + args.seconds) * 1e9) if args.seconds else source.end_ns
    begin_ns = source.start_ns + round(args.start * 1e9)
    with progress_bar('replaying', max(0, (end_ns or 0) - begin_ns) / 1e9, 's') as advance:
        last_ns = begin_ns
        for message in iter_messages(source, args.start, args.seconds):
            advance((message.due_ns - last_ns) / 1e9)
            last_ns = message.due_ns
            yield message


@contextmanager
def _lines_to(path: Path | None) -> Iterator[Callable[[str], None]]:
    if path is None:
        yield lambda text: None
        return
    try:
        file = path.open('w', encoding='utf-8')
    except OSError as error:
        raise CrossSpecError(f'{path} cannot be written: {error.strerror}') from error
    with file:
        yield lambda text: (file.write(text), None)[1]


def print_report(report: dict[str, Any]) -> None:
    """Counts, and the table of compute times."""
    dropped = ', '.join(f'{cause} {count}' for cause, count in report['dropped'].items()) or 'none'
    print(f'{report["windows"]} windows, {report["drafts"]} drafts, {report["captions"]} captions ({report["mode"]}); '
          f'dropped: {dropped}')
    print(f'sha256 of drafts and captions: {report["sha256"]}')
    columns = ('mean', 'p50', 'p95', 'p99', 'max')
    print(f'{"compute time, ms":<24}{"count":>8}' + ''.join(f'{name:>10}' for name in columns))
    for name, row in report['compute_ms'].items():
        print(f'{name:<24}{row["count"]:>8}' + ''.join(f'{row[column]:>10.2f}' for column in columns))
