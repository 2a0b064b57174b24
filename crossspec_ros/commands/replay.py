"""``crossspec replay BAG``: play a recording over DDS, or straight through the core with ``--no-dds``."""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossspec_ros import shell
from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.commands.topic_options import add_topic_options, chosen_topics
from crossspec_ros.config import DrafterConfig, QualifierConfig, VerifierConfig, make
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.outlook import Passing, why_few, why_never_together, why_no_window, why_nothing
from crossspec_ros.recordings.replay import ReplayMessage, Source, iter_messages
from crossspec_ros.recordings.sources import BagSource, open_source, role_of
from crossspec_ros.view.safe import clean

if TYPE_CHECKING:
    from crossspec_ros.pipeline.direct import DirectReplay
    from crossspec_ros.timing.window import WindowGrid

EXIT_NOTHING = 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = subparsers.add_parser('replay', help='play a recording, over DDS or straight through the core')
    parser.add_argument('bag', help='a bag (folder, .mcap, .db3), the folder of a DSEC sequence, or world:SEED')
    parser.add_argument('--start', type=float, default=0.0, metavar='S', help='start, s into the recording (0)')
    parser.add_argument('--seconds', type=float, default=0.0, metavar='S', help='length, s (0: to the end)')
    parser.add_argument('--rate', type=float, default=1.0, metavar='R', help='recorded seconds a second, over DDS (1)')
    parser.add_argument('--loop', action='store_true', help='begin again at the end, until interrupted')
    add_topic_options(parser)
    parser.add_argument('--no-dds', action='store_true',
                        help='caption it in this process, by stamps alone: every run gives the same captions')
    direct = parser.add_argument_group('with --no-dds')
    direct.add_argument('--out', type=Path, metavar='FILE', help='write drafts and captions here, a JSON object a line')
    direct.add_argument('--json', action='store_true', help='print captions, counts and compute times as JSON')
    direct.add_argument('--prompt', default='', help='the question (the built-in pair\'s own)')
    direct.add_argument('--model', default='builtin', help='verifier: builtin, a checkpoint folder or a hub id')
    direct.add_argument('--drafter', default='builtin', metavar='MODEL',
                        help='drafter: builtin, a checkpoint folder, or none')
    direct.add_argument('--qualifier', default='', metavar='MODEL',
                        help='a third model between the two, which takes no time here: builtin, a checkpoint folder or '
                        'a hub id (default: none)')
    direct.add_argument('--frame-interval-ms', type=float, default=VerifierConfig().frame_interval_ms, metavar='MS',
                        help='time between the frames of a window, as window.frame_interval_ms (%(default)g)')
    direct.add_argument('--frame-grace-ms', type=float, default=VerifierConfig().frame_grace_ms, metavar='MS',
                        help='wait this long after its time for a frame, as frames.grace_ms (%(default)g)')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Play it; 1 where nothing came of it."""
    topics = chosen_topics(args, args.bag)
    source = open_source(args.bag, topics=topics)
    try:
        if not args.no_dds:                                     # the player tells the notes of the source
            if next(iter_messages(source, args.start, args.seconds), None) is None:
                raise CrossSpecError(f'{args.bag} has no message from {args.start} s on')
            forecast(source)
            return run_over_dds(args, topics)
        if source.end_ns is None and not args.seconds:
            raise CrossSpecError(f'{args.bag} has no end: say how much of it with --seconds')
        tell(source)
        while True:
            code = run_direct(args, source)
            if not args.loop or code:
                return code
    finally:
        source.close()


def tell(source: Source) -> None:
    """What was chosen of the recording, and what was found wrong with it and mended."""
    for note in getattr(source, 'notes', ()):
        print(f'crossspec: {source.name}: {note}', file=sys.stderr)


def forecast(source: Source) -> None:
    """Say beforehand where the images of a recording can fill no window of the usual grid, as who plays never learns
    what became of them."""
    if isinstance(source, BagSource) and (why := why_no_window(source.passing().images, VerifierConfig().grid())):
        print(f'crossspec: no captions from {source.name}, where the verifier is not told otherwise: {why}',
              file=sys.stderr)


def run_over_dds(args: argparse.Namespace, topics: Sequence[str] = ()) -> int:
    """Become the player node: signals and the exit code are its own."""
    from crossspec_ros.graph import declare, node_environment
    shell.settle()
    # What is no path is the name of a source: world:SEED, load:RATE, or one that another package has.
    uri = str(Path(args.bag).absolute()) if Path(args.bag).exists() else args.bag
    # Who starts the player by hand has started the others before, or wants to play without them.
    values = {'wait_for': '', 'rate': args.rate, 'loop': args.loop, 'start_s': args.start, 'seconds': args.seconds}
    if topics:
        values['topics'] = list(topics)
    # On the topics of the graph that ``crossspec up`` starts, so that the two find each other.
    command = next(spec for spec in declare({'bag': uri}, {'player': values}) if spec.name == 'player').command()
    sys.stdout.flush()
    os.execve(command[0], command, node_environment())


def run_direct(args: argparse.Namespace, source: Source) -> int:
    """Caption the recording in this process and tell what came of it; 1 where nothing did."""
    digest = hashlib.sha256()
    lines: list[dict[str, Any]] = []
    passing = Passing()
    with _lines_to(args.out) as write:
        def on_line(line: dict[str, Any]) -> None:
            text = json.dumps(line, ensure_ascii=False, sort_keys=True) + '\n'
            digest.update(text.encode())
            write(text)
            if args.json:
                lines.append(line)
            elif line['kind'] == 'caption':
                print(f'{line["window_end_ns"] / 1e9:.3f} {clean(line["text"])}', flush=True)
        replay = build_direct(args, source, on_line)
        replay.run(passing.watch(_shown(source, args)))
    for line in getattr(source, 'lost', list)():
        print(f'crossspec: {line}', file=sys.stderr)
    dropped = {**getattr(source, 'dropped', {}), **replay.lost()}
    reason = _reason(replay, passing, dropped, args)
    report = {'source': source.name, 'mode': replay.mode.value, 'windows': len(replay.windows),
              'drafts': replay.drafts, 'captions': replay.captions, 'dropped': dropped,
              'notes': list(getattr(source, 'notes', ())), 'reason': reason,
              'tau': replay.passes['tokens'] / replay.passes['passes'] if replay.passes['passes'] else None,
              'accepted': dict(replay.accepted), 'sha256': digest.hexdigest(), 'compute_ms': replay.times.table()}
    if args.json:
        print(json.dumps({**report, 'lines': lines}, indent=2, ensure_ascii=False))
    else:
        print_report(report)
    if reason is not None:
        print(f'crossspec: error: {reason}', file=sys.stderr)
        return EXIT_NOTHING
    for told in (why_never_together(passing, replay.drafted, replay.captioned),
                 why_few(passing.images, dropped.get('window_few_frames', 0), _grid(args))):
        if told:
            print(f'crossspec: {told}', file=sys.stderr)
    return 0


def _reason(replay: DirectReplay, passing: Passing, dropped: Mapping[str, int], args: argparse.Namespace) -> str | None:
    """Why nothing was made of what the recording was to be used for; None where something was."""
    made = replay.drafts if replay.mode.value == 'draft_only' else replay.captions
    return None if made else why_nothing(passing, dropped, _grid(args), args.frame_grace_ms)


def _grid(args: argparse.Namespace) -> WindowGrid:
    return make(DrafterConfig, {'window.frame_interval_ms': args.frame_interval_ms}).grid()


def build_direct(args: argparse.Namespace, source: Source, on_line: Callable[[dict[str, Any]], None]) -> DirectReplay:
    """The parts of the pipeline that the recording has something for, with the models asked for."""
    from crossspec_ros.pipeline.building import build_drafting, build_qualifying, build_verifying
    from crossspec_ros.pipeline.direct import DirectReplay
    roles = {role_of(type_name) for type_name in source.topics.values()}
    drafting = verifying = qualifying = None
    grid = {'window.frame_interval_ms': args.frame_interval_ms}
    if 'events' in roles and args.drafter != 'none':
        drafting = build_drafting(make(DrafterConfig, {'model.path': args.drafter, **grid}), args.prompt)
    if roles & {'image', 'compressed'}:
        # Nothing is skipped and nothing is given up: that would depend on how fast the machine is.
        config = make(VerifierConfig, {'model.path': args.model, 'decode.timeout_ms': 3_600_000.0,
                                       'frames.grace_ms': args.frame_grace_ms, **grid})
        verifying, _ = build_verifying(config, args.prompt, newest_wins=False)
        if args.qualifier:
            middle = make(QualifierConfig, {'model.path': args.qualifier, 'frames.grace_ms': args.frame_grace_ms,
                                            'model.speaks': args.model if Path(args.model).is_dir() else '', **grid})
            qualifying = build_qualifying(middle, args.prompt, hurried=False)
    if drafting is None and verifying is None:
        raise CrossSpecError(f'{source.name} has nothing to caption: its topics are {", ".join(source.topics)}')
    return DirectReplay(drafting, verifying, _grid(args), on_line, qualifying)


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
    if report['tau'] is not None:
        accepted = ', '.join(f'{source} {count}' for source, count in sorted(report['accepted'].items())) or 'none'
        print(f'{report["tau"]:.2f} tokens a pass of the verifier; accepted by source: {accepted}')
    print(f'sha256 of drafts and captions: {report["sha256"]}')
    columns = ('mean', 'p50', 'p95', 'p99', 'max')
    print(f'{"compute time, ms":<24}{"count":>8}' + ''.join(f'{name:>10}' for name in columns))
    for name, row in report['compute_ms'].items():
        print(f'{name:<24}{row["count"]:>8}' + ''.join(f'{row[column]:>10.2f}' for column in columns))
