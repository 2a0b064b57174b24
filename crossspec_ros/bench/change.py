"""``crossspec bench change``: windows of the grid against windows opened by changes of the scene, on synthetic drives.

Each drive goes through drafter and verifier once for each `window.when`, with no middleware: packets and images in the
order of their stamps. What is true at each moment is known, so that a change of the truth has a time, and the first
final caption that tells it another: the window's end and the time that its answer took. A caption tells a change when
it says all that changed; whoever says it only after the next change has missed it. Drives are shifted against the grid
by a part of a second, since a scene does not change on its seconds.
"""
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crossspec_ros.config import DrafterConfig, VerifierConfig
from crossspec_ros.demo.summary import hardware
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.pipeline.building import build_drafting, build_verifying
from crossspec_ros.pipeline.direct import DirectReplay
from crossspec_ros.recordings.replay import ReplayMessage
from crossspec_ros.recordings.sources import WorldSource
from crossspec_ros.timing.when import WHENS
from crossspec_ros.world.captions import parse_slots
from crossspec_ros.world.clip import EVALUATION_SEED
from crossspec_ros.world.script import PACES, Script

_NS = 1_000_000_000
_CALM_NS = 2 * _NS          # after a change nothing new is left to say
_SUMS = ('captions', 'calm_captions', 'confirmed', 'drafts', 'cpu_s')
_START_NS = 8 * _NS         # of the drives on the grid: their first windows are not the grid's first


@dataclass(frozen=True)
class Change:
    """From ``begin_ns`` up to ``end_ns`` the scene is ``slots``, of which ``told_by`` are new."""

    begin_ns: int
    end_ns: int
    told_by: dict[str, str]


@dataclass(frozen=True)
class Spoken:
    """A final caption: the end of its window and when its answer was there, ns of the drive."""

    window_end_ns: int
    at_ns: int
    slots: dict[str, str]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the bench."""
    parser = subparsers.add_parser('change', help='windows by change against the grid: age of the words, compute')
    parser.add_argument('--drives', type=int, default=2, metavar='N', help='drives of each pace (2)')
    parser.add_argument('--seconds', type=int, default=24, metavar='S', help='length of a drive, s (24)')
    parser.add_argument('--change', type=float, default=VerifierConfig().change, metavar='SHARE',
                        help=f'window.change ({VerifierConfig().change:g})')
    parser.add_argument('--min-s', type=float, default=VerifierConfig().min_s, metavar='S',
                        help=f'window.min_s ({VerifierConfig().min_s:g})')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Drive after drive, each for all of `window.when`."""
    if args.drives < 1 or args.seconds < 4:
        raise CrossSpecError(f'drives must be >= 1 and seconds >= 4, got {args.drives} and {args.seconds}')
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {pace: {when: [] for when in WHENS} for pace in PACES}
    pipelines = {when: _pipelines(when, args.change, args.min_s) for when in WHENS}
    for pace in PACES:
        for drive in range(args.drives):
            seed, shift_ns = EVALUATION_SEED + drive, round((2 * drive + 1) / (2 * args.drives) * _NS)
            messages = list(_drive(seed, pace, args.seconds, shift_ns))
            changes = changes_of(Script(seed, pace), args.seconds, _START_NS + shift_ns)
            for when in WHENS:
                runs[pace][when].append(_measure(*pipelines[when], messages, changes))
    report = {pace: {when: summary(runs[pace][when]) for when in WHENS} for pace in PACES}
    for table in report.values():
        for when in WHENS:
            table[when]['captions_saved'] = 1 - table[when]['captions'] / max(1, table['grid']['captions'])
            calm = table['grid']['calm_captions']
            table[when]['calm_captions_saved'] = 1 - table[when]['calm_captions'] / calm if calm else None
            table[when]['cpu_saved'] = 1 - table[when]['cpu_s'] / table['grid']['cpu_s']
    report |= {'drives': args.drives, 'seconds': args.seconds, 'threshold': args.change, 'min_s': args.min_s,
               'hardware': hardware()}
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print('\n'.join(describe(report)))
    return 0


def _pipelines(when: str, threshold: float, min_s: float) -> tuple[Any, ...]:
    same = {'when': when, 'change': threshold, 'min_s': min_s}
    config = replace(VerifierConfig(), **same)
    verifying, engine = build_verifying(config, newest_wins=False)
    return build_drafting(replace(DrafterConfig(), **same)), verifying, engine, config.grid()


def _drive(seed: int, pace: str, seconds: int, shift_ns: int) -> Iterator[ReplayMessage]:
    """A drive's messages, moved to its place on the grid."""
    later_ns = _START_NS + shift_ns
    for message in WorldSource(seed, pace=pace).messages(0):
        if message.due_ns > seconds * _NS:
            return
        data = message.data
        if message.role == 'events':
            data = replace(data, stamp_ns=data.stamp_ns + later_ns)
        yield replace(message, due_ns=message.due_ns + later_ns, stamp_ns=message.stamp_ns + later_ns, data=data)


def changes_of(script: Script, seconds: int, start_ns: int) -> list[Change]:
    """The changes of what is true in a drive that starts at ``start_ns``; what is true at its start is none."""
    begins = [k for k in range(1, seconds) if script.beat(k).slots != script.beat(k - 1).slots]
    found = []
    for begin, end in zip(begins, (*begins[1:], seconds)):
        now, before = script.beat(begin).slots, script.beat(begin - 1).slots
        found.append(Change(start_ns + begin * _NS, start_ns + end * _NS,
                            {name: value for name, value in now.items() if value != before[name]}))
    return found


def ages_ms(changes: Sequence[Change], spoken: Sequence[Spoken]) -> list[float | None]:
    """For each change how old it was when the first caption told it; None: it was not told while it was true.

    A caption of a window whose end lies in the change's time counts, however long its answer took.
    """
    ages: list[float | None] = []
    for change in changes:
        told = [each for each in spoken if change.begin_ns < each.window_end_ns <= change.end_ns
                and all(each.slots[name] == value for name, value in change.told_by.items())]
        ages.append((min(each.at_ns for each in told) - change.begin_ns) / 1e6 if told else None)
    return ages


def _measure(drafting: Any, verifying: Any, engine: Any, grid: Any, messages: Sequence[ReplayMessage],
             changes: Sequence[Change]) -> dict[str, Any]:
    drafting.reset()
    verifying.reset()
    spoken: list[Spoken] = []
    confirmed = 0

    def heard(line: dict[str, Any]) -> None:
        nonlocal confirmed
        confirmed += line['kind'] == 'still_valid'
        if line['kind'] == 'caption':
            spoken.append(Spoken(line['window_end_ns'], replay.reached_ns, parse_slots(line['text'])))

    replay = DirectReplay(drafting, verifying, grid, heard)
    begin_s = time.process_time()
    replay.run(messages)
    cpu_s = time.process_time() - begin_s
    opened = [_slot_after(change, spoken) for change in changes]
    calm = sum(any(change.begin_ns + _CALM_NS < each.window_end_ns <= change.end_ns for change in changes)
               for each in spoken)
    return {'captions': len(spoken), 'calm_captions': calm, 'confirmed': confirmed, 'cpu_s': cpu_s,
            'caption_ages_ms': [(each.at_ns - each.window_end_ns) / 1e6 for each in spoken],
            'drafts': replay.drafts, 'opened_ms': opened, 'ages_ms': ages_ms(changes, spoken)}


def _slot_after(change: Change, spoken: Sequence[Spoken]) -> float | None:
    """From a change to the end of the first window after it, ms."""
    ends = [each.window_end_ns for each in spoken if change.begin_ns < each.window_end_ns <= change.end_ns]
    return (min(ends) - change.begin_ns) / 1e6 if ends else None


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Drives of one pace and one `window.when` together."""
    ages = [age for run in runs for age in run['ages_ms']]
    told = [age for age in ages if age is not None]
    opened = [age for run in runs for age in run['opened_ms'] if age is not None]
    return {'changes': len(ages), 'told': len(told), 'missed': len(ages) - len(told),
            'no_window': len(ages) - len(opened),
            'words_age_ms': _percentiles(told), 'window_age_ms': _percentiles(opened),
            'caption_age_ms': _percentiles([age for run in runs for age in run['caption_ages_ms']]),
            **{name: sum(run[name] for run in runs) for name in _SUMS}}


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    return {f'p{q}': round(float(np.percentile(values, q)), 1) for q in (50, 95)} if values else None


def describe(report: dict[str, Any]) -> list[str]:
    """Lines for people."""
    lines = []
    for pace in PACES:
        for when in WHENS:
            row = report[pace][when]
            age, window = row['words_age_ms'] or {'p50': float('nan')}, row['window_age_ms'] or {'p50': float('nan')}
            lines.append(f'{pace} {when}: {row["told"]} of {row["changes"]} changes told, words p50 '
                         f'{age["p50"]:.0f} ms after the change, first window p50 {window["p50"]:.0f} ms; '
                         f'{row["captions"]} decoded, '
                         f'{row["calm_captions"]} of them with nothing new to say, '
                         f'{row["confirmed"]} confirmed, {row["cpu_s"]:.1f} s of CPU '
                         f'({100 * row["cpu_saved"]:.0f}% saved)')
    return lines
