"""``crossspec bench soak``: the graph for long under ``up --restart``, with kills, prompts and questions.

Memory of each node should be flat: the slope of what is its own over time with its 95% interval, of processes past
their first minute, and a plot. Libraries, and the shared memory of peers, of which a node maps a piece for each that
starts, are told apart. Messages and words are accounted for as by ``crossspec bench resilience``.
"""
from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from crossspec_ros.bench.resilience import progress
from crossspec_ros.bench.resilience.kills import Ledger, Vehicle, kill_once, rest, vehicle
from crossspec_ros.bench.resilience.referee import Referee
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import PAIR
from crossspec_ros.speculation.types import Caption

_SAMPLE_S = 5.0
_WARM_S = 60.0                                                  # a process still grows in its first minute
_BLOCK = 6                                                      # samples that count as one: those near hang together
_PROMPTS = ('What is happening?', 'What is ahead?', 'Is it safe to go on?')
_QUESTIONS = ('What is ahead?', 'What has changed?')


@dataclass
class Memory:
    """Resident memory of processes over time: rows of (s, pid, MB of its own, MB of files and of shared memory) by
    node.
    """

    rows: dict[str, list[tuple[float, int, float, float]]] = field(default_factory=dict)

    def sample(self, now_s: float, pids: dict[str, int]) -> None:
        """Look at the processes that are there."""
        import psutil
        for node, pid in pids.items():
            try:
                found = psutil.Process(pid).memory_info()
            except psutil.Error:
                continue                                        # gone in between
            shared = getattr(found, 'shared', 0)                # where it is not told, all counts as its own
            self.rows.setdefault(node, []).append((now_s, pid, (found.rss - shared) / 1e6, shared / 1e6))

    def slopes(self) -> dict[str, dict[str, float | int | None]]:
        """By node: slope in MB/h with the half-width of its 95% interval; each process has a level of its own."""
        return {node: slope([row[:3] for row in rows]) | {'shared_mb': round(rows[-1][3], 1)}
                for node, rows in self.rows.items()}

    def plot(self, path: Path) -> None:
        """Draw memory over time, a line a node, broken where a process ended; dashed: with what is shared."""
        import matplotlib
        matplotlib.use('Agg')
        from matplotlib import pyplot
        figure, axes = pyplot.subplots(figsize=(9, 4.5))
        for number, (node, rows) in enumerate(self.rows.items()):
            for pid in dict.fromkeys(row[1] for row in rows):
                minutes, own, all_of_it = zip(*[(at / 60, own_mb, own_mb + shared_mb)
                                                for at, each, own_mb, shared_mb in rows if each == pid])
                first = pid == rows[0][1]
                axes.plot(minutes, own, color=f'C{number}', label=node if first else None, linewidth=1)
                axes.plot(minutes, all_of_it, color=f'C{number}', linewidth=0.6, linestyle='--')
        axes.set(xlabel='min', ylabel='resident memory, MB', ylim=(0, None))
        axes.legend(loc='center left', bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def slope(rows: list[tuple[float, int, float]], warm_s: float = _WARM_S) -> dict[str, float | int | None]:
    """Least squares over blocks of samples of processes older than ``warm_s``; None where there are too few."""
    times, values = [], []
    first_s: dict[int, float] = {}
    blocks: dict[int, list[tuple[float, float]]] = {}
    for at_s, pid, mb in rows:
        if at_s - first_s.setdefault(pid, at_s) >= warm_s:
            blocks.setdefault(pid, []).append((at_s, mb))
    processes = 0
    for samples in blocks.values():
        cut = [np.mean(samples[i:i + _BLOCK], axis=0) for i in range(0, len(samples) - _BLOCK + 1, _BLOCK)]
        if len(cut) >= 2:
            part = np.array(cut) - np.mean(cut, axis=0)
            times += part[:, 0].tolist()
            values += part[:, 1].tolist()
            processes += 1
    last_mb = round(rows[-1][2], 1)
    free = len(times) - processes - 1
    if free < 4:
        return {'n': len(times), 'mb': last_mb, 'mb_per_h': None, 'interval_mb_per_h': None}
    hours, mb = np.array(times) / 3600, np.array(values)
    spread = float(hours @ hours)
    found = float(hours @ mb) / spread
    error = float(np.sqrt(np.sum((mb - found * hours) ** 2) / free / spread))
    return {'n': len(times), 'mb': last_mb, 'mb_per_h': round(found, 2),
            'interval_mb_per_h': round(_quantile(free) * error, 2)}


def _quantile(free: int) -> float:
    """97.5% of Student's distribution, from that of the normal one (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(0.975)
    terms = ((z ** 3 + z) / 4, (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
             (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384)
    return z + sum(term / free ** power for power, term in enumerate(terms, 1))


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the bench."""
    parser = subparsers.add_parser('soak', help='the graph for long, with kills, prompts and questions')
    parser.add_argument('--minutes', type=float, default=60.0, metavar='N', help='how long (60)')
    parser.add_argument('--kills', type=int, default=4, metavar='N', help='of each node with a model (4)')
    parser.add_argument('--out', metavar='DIR', help='soak.json and memory.png go to this folder')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run it; exit code 1 where anything was lost without a count, or wrong."""
    if not args.minutes > 0 or args.kills < 0:
        raise CrossSpecError(f'minutes must be > 0 and kills >= 0, got {args.minutes} and {args.kills}')
    report, memory = soak(60.0 * args.minutes, args.kills)
    if args.out:
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        memory.plot(folder / 'memory.png')
        (folder / 'soak.json').write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    print(json.dumps(report, indent=2) if args.json else describe(report))
    return 1 if report['unaccounted'] or report['wrong'] else 0


def describe(report: dict[str, Any]) -> str:
    """For people."""
    lines = [f'{node:<9} {each["mb"]:7.1f} MB of its own ({each["shared_mb"]:.0f} shared), slope '
             + ('not known, too short' if each['mb_per_h'] is None else
                f'{each["mb_per_h"]:+.1f} +- {each["interval_mb_per_h"]:.1f} MB/h')
             for node, each in report['memory'].items()]
    return '\n'.join([f'{report["minutes"]:g} min: {report["captions"]} captions, {report["drafts"]} drafts, kills '
                      f'{report["kills"]}, prompts {report["prompts"]}, questions {report["questions"]}', *lines,
                      f'unaccounted {report["unaccounted"]}, wrong {report["wrong"]} of {report["checked"]}'])


class _Soak:
    """What happens in a soak, a step at a time."""

    def __init__(self, running: Vehicle, seconds: float, kills: int) -> None:
        self.running, self.seconds, self.memory = running, seconds, Memory()
        self.began_s = time.monotonic()
        self.prompts, self.ledger = 0, Ledger()
        self.back: list[float] = []
        self.answers: dict[str, int] = {}
        # Kills come in the first third, so that the memory of those that live on can be seen.
        step = seconds / 3 / max(1, 2 * kills)
        self.kill_at = [self.began_s + step * (number + 0.5) for number in range(2 * kills)]
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name='memory', daemon=True)
        self._sampler.start()                                   # questions may take long, and must leave no gap
        self.next_prompt_s, self.next_question_s = self.began_s + 20.0, self.began_s + 10.0

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self.memory.sample(time.monotonic() - self.began_s, self.running.pids())

    def close(self) -> None:
        """Look at memory no more."""
        self._ended.set()
        self._sampler.join(10.0)

    def listen(self, seconds: float) -> None:
        """Listen, and see that the graph is there."""
        until_s = time.monotonic() + seconds
        while (now_s := time.monotonic()) < until_s:
            self.running.tap.poll(min(1.0, until_s - now_s))
            self.running.alive()

    def step(self) -> None:
        """A second, and what is due after it."""
        self.listen(1.0)
        now_s = time.monotonic()
        if self.kill_at and now_s >= self.kill_at[0]:
            self.kill_at.pop(0)
            node = PAIR[len(self.back) % 2]
            rest(self.running, self.ledger)
            self.back.append(round(kill_once(self.running, node, self.ledger), 2))
            self.running.cameras.play()
        if now_s >= self.next_prompt_s:
            self.next_prompt_s = now_s + 30.0
            prompt = _PROMPTS[(self.prompts + 1) % len(_PROMPTS)]
            reply = self.running.tap.set_prompt('verifier/set_prompt', prompt, 20.0)
            self.prompts += bool(reply and reply[0])
        if now_s >= self.next_question_s:
            self.next_question_s = now_s + 20.0
            said = self.running.tap.ask('verifier/ask', _QUESTIONS[int(now_s) % 2], 60.0)
            self.answers[said] = self.answers.get(said, 0) + 1


def soak(seconds: float, kills: int) -> tuple[dict[str, Any], Memory]:
    """Run for so long, then decode each caption again; the report, and memory over time."""
    with vehicle() as running:
        course = _Soak(running, seconds, kills)
        with progress(round(seconds)) as advance:
            try:
                while (now_s := time.monotonic() - course.began_s) < seconds:
                    course.step()
                    advance(min(time.monotonic() - course.began_s, seconds) - now_s)
            finally:
                course.close()
        for role, account in running.settle().items():
            course.ledger.same(role, account)
        captions, drafts = list(running.heard.captions), running.heard.drafts
        pictures = running.cameras.pictures
    referee = Referee()                                         # the graph has ended: it would take the cores
    with progress(len(captions)) as advance:
        words = referee.check(told(captions, advance), pictures, _PROMPTS)
    report = {'minutes': round(seconds / 60, 2), 'captions': len(captions), 'drafts': drafts,
              'kills': len(course.back), 'back_s': course.back, 'prompts': course.prompts,
              'questions': course.answers, 'memory': course.memory.slopes(),
              'inputs': course.ledger.totals, 'unaccounted': course.ledger.unaccounted, **words,
              'wrong_words': referee.wrong[:20]}
    return report, course.memory


def told(captions: Sequence[Caption], advance: Callable[[float], None]) -> Iterator[Caption]:
    """Captions one by one, the bar with them."""
    for caption in captions:
        yield caption
        advance(1)
