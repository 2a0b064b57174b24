"""``crossspec bench traces``: how many target tokens a pass, replaying recorded token sequences in recording order.

Greedy decoding is replayed, not run: at each pass the proposer sees the tokens said so far (and the captions before),
and the recorded target decides how far the tree goes. Nothing looks ahead. The recorded draft of a row, if there is
one, is offered before its first pass.

Milliseconds are estimated from the recorded stage times under this model: a pass over ``n`` tokens costs one recorded
decode step plus ``n`` times the recorded prefill time of one prompt token; the measured proposal time is added. With
the frame cache only the newest frame is loaded and preprocessed; with anticipatory prefill only its own tokens and the
question are prefilled after it arrived. Trees are sized by that cost there, as the engine sizes them by measured ones.
"""
from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.age import Timing, passes_ms
from crossspec_ros.speculation.decision import LABELS, Drafts, decide, methods_of
from crossspec_ros.speculation.outcome import PassOutcome
from crossspec_ros.speculation.proposer import Proposer, ProposerConfig
from crossspec_ros.speculation.sources import SourceSettings
from crossspec_ros.speculation.sources.base import Opening
from crossspec_ros.speculation.types import Draft, prefix_hash

REPLAYED_SOURCES = ('memory', 'previous', 'drafts')
"""What a trace can feed: it holds no prompt text, no runners-up and no rehearsal."""

_STAGES = ('target_load_ms', 'target_preprocess_ms', 'target_prefill_ms', 'target_decode_ms')
_PROMPT = 'trace'


@dataclass(frozen=True)
class Row:
    """One recorded clip. ``stages_ms``: load, preprocess, prefill with vision, decode of all tokens; None: unknown."""

    target: tuple[int, ...]
    draft: tuple[int, ...]
    stages_ms: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Layout:
    """What of the prompt is known before the newest frame arrives."""

    frames: int = 8
    prompt_tokens: int = 2076
    newest_tokens: int = 274
    first_nodes: int = 256
    nodes: int = 64


@dataclass
class Replay:
    """What one replay of a file measured."""

    statistics: dict[str, Any]
    nodes_per_pass: float
    proposal_ms: list[float]
    proposal_cpu_ms: list[float]
    clips: list[list[tuple[int, float]]] = field(default_factory=list)
    """By clip, by pass: (nodes, proposal ms)."""


def load_rows(path: Path) -> list[Row]:
    """Rows of a trace file. Raises CrossSpecError naming file, row and field for what is no trace."""
    try:
        rows = json.loads(path.read_text(encoding='utf-8'))['rows']
        return [_row(path, number, row) for number, row in enumerate(rows)]
    except OSError as error:
        raise CrossSpecError(f'{path}: cannot be read: {error.strerror}') from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CrossSpecError(f'{path}: must be JSON with a list "rows" of objects with "target": {error!r}') from error


def _row(path: Path, number: int, row: dict[str, Any]) -> Row:
    target, draft = tuple(row['target']), tuple(row.get('draft') or ())
    for name, tokens in (('target', target), ('draft', draft)):
        if any(type(token) is not int or token < 0 for token in tokens):
            raise CrossSpecError(f'{path}: rows[{number}].{name} must be token ids >= 0')
    if not target:
        raise CrossSpecError(f'{path}: rows[{number}].target must not be empty')
    if not all(stage in row for stage in _STAGES):
        return Row(target, draft, None)
    return Row(target, draft, tuple(float(row[stage]) for stage in _STAGES))


def step_costs(row: Row, layout: Layout) -> tuple[float, float]:
    """(ms of a decode step, ms of one more token in a pass) as recorded for a clip."""
    return row.stages_ms[3] / len(row.target), row.stages_ms[2] / layout.prompt_tokens


Again = Callable[[int, tuple[int, ...]], tuple[int, ...]]


def replay(
    rows: Sequence[Row], sources: Sequence[str], layout: Layout, *, captions: int, sized: bool = False,
    again: Again | None = None,
) -> Replay:
    """Decode a file's clips one after another with these sources.

    ``sized``: the tree's size follows the cost of the clips before, as the engine's follows measured forwards; else
    every pass takes as many nodes as it may. ``again(clip, committed)``: what the drafter says after a pass, from
    there on; nothing for ().
    """
    proposer = Proposer(ProposerConfig(tuple(sources), SourceSettings(captions)))
    clips: list[list[tuple[int, float]]] = []
    cpu_ms: list[float] = []
    for window_id, row in enumerate(rows):
        proposer.begin(Opening(window_id, _PROMPT))
        if row.draft:
            proposer.inbox.offer(Draft(window_id, 0, 0, _PROMPT, '', '', row.draft))
        clips.append([])
        for revision, (done, nodes, spent_ms) in enumerate(_decode(proposer, row.target, layout, cpu_ms), start=1):
            clips[-1].append((nodes, spent_ms))
            said = again(window_id, row.target[:done]) if again is not None else ()
            if said:
                proposer.inbox.offer(Draft(window_id, 0, revision, _PROMPT, '', '', said, base_length=done,
                                           base_hash=prefix_hash(row.target[:done])))
        proposer.finish(row.target)
        if sized and row.stages_ms is not None:
            step_ms, token_ms = step_costs(row, layout)
            for tokens in (1, layout.newest_tokens + layout.first_nodes):
                proposer.cost.observe(tokens, step_ms + tokens * token_ms)
    passes = [each for clip in clips for each in clip]
    return Replay(
        proposer.statistics(), fmean(nodes for nodes, _ in passes), sorted(spent for _, spent in passes),
        sorted(cpu_ms), clips)


def _decode(
    proposer: Proposer, target: tuple[int, ...], layout: Layout, cpu_ms: list[float],
) -> Iterator[tuple[int, int, float]]:
    """Passes of one clip: (tokens said so far, nodes, proposal ms); the thread's own time of each is appended to
    ``cpu_ms``."""
    done = 0
    while done < len(target):
        limit, fused = (layout.nodes, 0) if done else (layout.first_nodes, layout.newest_tokens)
        begun_ns, begun_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        tree = proposer.propose(target[:done], limit, fused_tokens=fused)
        cpu_ms.append((time.thread_time_ns() - begun_cpu_ns) / 1e6)
        spent_ms = (time.perf_counter_ns() - begun_ns) / 1e6
        accepted = tree.along(target[done:])
        emitted = target[done:done + len(accepted) + 1]
        first, done = not done, done + len(emitted)
        proposer.observe(PassOutcome(tree, tuple(accepted), tuple(emitted), first=first), target[:done])
        yield done, len(tree), spent_ms


def latencies_ms(rows: Sequence[Row], drafted: Replay, layout: Layout) -> dict[str, float]:
    """Mean milliseconds to the whole caption by scheme; empty where stage times were not recorded."""
    if any(row.stages_ms is None for row in rows):
        return {}
    newest = layout.newest_tokens / layout.prompt_tokens
    sums: dict[str, list[float]] = {}
    for row, passes in zip(rows, drafted.clips):
        load, preprocess, prefill, decode = row.stages_ms
        step_ms, token_ms = step_costs(row, layout)
        # The first pass is the prefill's own forward: its nodes cost their tokens, the step is in the prefill.
        said = passes_ms(lambda tokens: step_ms + tokens * token_ms, [nodes for nodes, _ in passes[1:]])
        said += passes[0][0] * token_ms + sum(spent for _, spent in passes)
        inputs = load + preprocess
        for scheme, before, after in (
            ('plain', inputs + prefill, decode),
            ('plain_anticipatory', inputs / layout.frames + newest * prefill, decode),
            ('drafted', inputs + prefill, said),
            ('drafted_frame_cache', inputs / layout.frames + prefill, said),
            ('drafted_anticipatory', inputs / layout.frames + newest * prefill, said),
        ):
            sums.setdefault(scheme, []).append(before + after)
    return {scheme: fmean(values) for scheme, values in sums.items()}


def recorded_timing(rows: Sequence[Row], layout: Layout) -> Timing | None:
    """What the recorded verifier's work on a window takes, on the mean over clips; None: that was not recorded."""
    if any(row.stages_ms is None for row in rows):
        return None
    load, preprocess, prefill, _ = (fmean(stage) for stage in zip(*(row.stages_ms for row in rows)))
    step_ms, token_ms = (fmean(costs) for costs in zip(*(step_costs(row, layout) for row in rows)))
    frame_ms = (load + preprocess) / layout.frames
    return Timing(lambda tokens: step_ms + tokens * token_ms, load + preprocess + prefill, frame_ms,
                  layout.newest_tokens, prefill * layout.newest_tokens / layout.prompt_tokens,
                  frame_ms + prefill / layout.frames, layout.frames)


def decision(rows: Sequence[Row], replays: dict[str, Replay], layout: Layout) -> list[dict[str, Any]]:
    """The table of `speculation.decision` by the recorded stage times, the youngest caption first; ``replays`` are by
    method. Empty where stage times were not recorded.

    One verifier stands for all clips, so ages differ a little from `latencies_ms`, which goes clip by clip.
    """
    timing = recorded_timing(rows, layout)
    if timing is None:
        return []
    drafts = {name: Drafts(each.statistics['mean_acceptance_length'], each.nodes_per_pass, fmean(each.proposal_ms))
              for name, each in replays.items()}
    found = decide(timing, methods_of(drafts), fmean(len(row.target) for row in rows))
    return [{'name': row.method.name, 'label': LABELS[row.method.name], 'age_ms': row.age_ms, 'speedup': row.speedup,
             'bound': row.bound, 'tau': row.method.tau, 'pays_from_tau': row.pays_from_tau} for row in found]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of sorted values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _percentiles(ordered: Sequence[float]) -> dict[str, float]:
    return {'p50': percentile(ordered, 0.5), 'p99': percentile(ordered, 0.99)}


def measure(rows: Sequence[Row], layout: Layout, *, captions: int) -> dict[str, Any]:
    """All figures of one file, as the command prints them. Raises CrossSpecError for a file without rows."""
    if not rows:
        raise CrossSpecError('rows must not be empty: there is nothing to replay')
    alone = {name: replay(rows, (name,), layout, captions=captions) for name in REPLAYED_SOURCES}
    merged = replay(rows, REPLAYED_SOURCES, layout, captions=captions)
    sized = replay(rows, REPLAYED_SOURCES, layout, captions=captions, sized=True)
    latency = latencies_ms(rows, sized, layout)
    table = decision(rows, {'lookup': alone['previous'], 'memory': alone['memory'], 'drafter_early': alone['drafts'],
                            'fused': sized}, layout)
    tau = {name: each.statistics['mean_acceptance_length'] for name, each in {**alone, 'merged': merged}.items()}
    return {
        'clips': len(rows), 'tokens': sum(len(row.target) for row in rows), 'tau': tau,
        'first_pass_accepted': merged.statistics['first_pass_accepted'], 'nodes_per_pass': merged.nodes_per_pass,
        'proposal_ms': _percentiles(merged.proposal_ms), 'proposal_cpu_ms': _percentiles(merged.proposal_cpu_ms),
        'sized': {'tau': sized.statistics['mean_acceptance_length'], 'nodes_per_pass': sized.nodes_per_pass},
        'latency_ms': latency, 'decision': table,
        'speedup': {scheme: latency['plain'] / value for scheme, value in latency.items()},
    }


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare ``crossspec bench traces``."""
    layout = Layout()
    parser = subparsers.add_parser(
        'traces', help='recorded token sequences: tokens per target pass by source', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE', help='recorded traces (JSON)')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    parser.add_argument('--nodes', type=int, default=layout.nodes, help='most nodes in a pass (%(default)s)')
    parser.add_argument('--first-nodes', type=int, default=layout.first_nodes,
                        help='most nodes in the pass fused with the prefill (%(default)s)')
    parser.add_argument('--captions', type=int, default=256, help='captions of memory (%(default)s)')
    parser.add_argument('--map', type=Path, metavar='FILE', help='draw which method wins where, by the recorded times '
                        'of the first file: .png or .svg')
    parser.add_argument('--tokenizer', type=Path, metavar='DIR', help='tokenizer of the recorded tokens, for '
                        '--draft-tokenizer')
    parser.add_argument('--draft-tokenizer', type=Path, action='append', default=[], metavar='DIR',
                        help='what the same words reach from a drafter with this tokenizer (may be repeated)')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Replay every file and print what was measured."""
    for name in ('nodes', 'first_nodes'):
        if getattr(args, name) < 0:
            raise CrossSpecError(f'{name} must be >= 0, got {getattr(args, name)}')
    if bool(args.draft_tokenizer) != (args.tokenizer is not None):
        raise CrossSpecError('--tokenizer and --draft-tokenizer must be given together: words are carried from one to '
                             'the other')
    layout = Layout(nodes=args.nodes, first_nodes=args.first_nodes)
    files = {path.name: _figures(load_rows(path), layout, args) for path in args.files}
    if args.map is not None:
        _draw_map(args.files[0], layout, args.map)
    print(json.dumps({'files': files}, indent=2) if args.json else '\n\n'.join(
        _table(name, figures) for name, figures in files.items()))
    return 0


def _draw_map(recorded: Path, layout: Layout, path: Path) -> None:
    from crossspec_ros.bench.advise_map import draw_map
    timing = recorded_timing(load_rows(recorded), layout)
    if timing is None:
        raise CrossSpecError(f'--map needs stage times, {recorded} has none')
    try:
        draw_map(timing, {}, path)
    except (OSError, ValueError) as error:
        raise CrossSpecError(f'--map must be a .png or .svg that can be written, got {path}: {error}') from error


def _figures(rows: Sequence[Row], layout: Layout, args: argparse.Namespace) -> dict[str, Any]:
    figures = measure(rows, layout, captions=args.captions)
    if args.draft_tokenizer:
        from crossspec_ros.bench.traces_again import measure_again
        figures['again'] = measure_again(rows, layout, args.tokenizer, args.draft_tokenizer, captions=args.captions)
    return figures


def _table(name: str, figures: dict[str, Any]) -> str:
    lines = [f'{name}: {figures["clips"]} clips, {figures["tokens"]} tokens', '  target tokens per pass']
    lines += [f'    {source:<22} {tau:6.2f}' for source, tau in figures['tau'].items()]
    proposal, own, sized = figures['proposal_ms'], figures['proposal_cpu_ms'], figures['sized']
    lines += [
        f'  accepted in the first pass {figures["first_pass_accepted"]:.1f}, '
        f'nodes a pass {figures["nodes_per_pass"]:.1f}',
        f'  proposal ms: p50 {proposal["p50"]:.2f}, p99 {proposal["p99"]:.2f} '
        f'(its own processor time: {own["p50"]:.2f}, {own["p99"]:.2f})',
        f'  sized by cost: {sized["tau"]:.2f} tokens a pass with {sized["nodes_per_pass"]:.1f} nodes']
    if figures['latency_ms']:
        lines.append('  milliseconds to the caption (estimated)')
        lines += [
            f'    {scheme:<22} {value:7.0f}  {figures["speedup"][scheme]:5.2f} x'
            for scheme, value in figures['latency_ms'].items()]
    if figures['decision']:
        lines.append(f'  which method (modelled){"tokens a pass":>44}{"ms":>8}{"sooner":>9}{"at most":>10}')
        lines += [f'    {row["label"]:<58}{row["tau"]:>5.2f}{row["age_ms"]:>8.0f}{row["speedup"]:>8.2f}x'
                  f'{row["bound"]:>9.2f}x' for row in figures['decision']]
    if 'again' in figures:
        from crossspec_ros.bench.traces_again import table
        lines += table(figures['again'])
    return '\n'.join(lines)
