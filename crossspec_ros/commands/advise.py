"""``crossspec advise``: which way of captioning is soonest with a verifier of one's own, measured on drives."""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.commands.topic_options import add_topic_options, chosen_topics
from crossspec_ros.errors import CrossSpecError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    text = 'which method is soonest with a verifier, measured on drives'
    parser = subparsers.add_parser('advise', help=text, description=(
        'Measures what forwards, encoding and prefill of a verifier cost at the length of its prompt, answers windows '
        'of drives with it, counts how many tokens a pass each kind of draft comes to, and says what to use, with the '
        'caption age that each method would have, counted from a window\'s newest frame. What is assumed is written '
        'in crossspec_ros.speculation.age.'))
    parser.add_argument('bags', nargs='*', metavar='BAG',
                        help='drives: bags (folder, .mcap, .db3), the folder of a DSEC sequence, world:SEED (default: '
                             'two unseen drives of the synthetic world)')
    parser.add_argument('--model', default='builtin', metavar='PATH',
                        help='the verifier: builtin (default), a checkpoint folder or a hub id')
    parser.add_argument('--drafter', default='', metavar='DIR',
                        help='an event drafter\'s folder, builtin or none (default: builtin beside the built-in '
                             'verifier, else none)')
    parser.add_argument('--heads', nargs='+', default=[], metavar='DIR', help='folders of heads for this verifier')
    parser.add_argument('--assume', action='append', default=[], metavar='METHOD=TAU[,MS]',
                        help='a method that cannot be measured here, as cascade=8,12: tokens a pass, and what its '
                             'drafting takes a pass, ms; may be repeated')
    parser.add_argument('--windows', type=int, default=40, metavar='N', help='windows to answer (%(default)d)')
    parser.add_argument('--prompt', default='', metavar='TEXT', help='the question (default: the graph\'s own)')
    parser.add_argument('--max-new-tokens', type=int, default=96, metavar='N',
                        help='tokens of an answer at most (%(default)d)')
    parser.add_argument('--frame-interval-ms', type=float, default=125.0, metavar='MS',
                        help='time between the frames of a window (%(default)g)')
    parser.add_argument('--device', default='cpu', help='torch device (cpu)')
    parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16', 'float16'),
                        help='type the verifier computes in (float32)')
    parser.add_argument('--threads', type=int, default=0, help='torch threads (0: all cores but one)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='write advice.json and a map of the methods, map.png')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    add_topic_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure, and say what to use."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
    out = _folder(args.out)
    from crossspec_ros.bench.advise import DRIVES, AdviceOptions, advise
    from crossspec_ros.bench.advise_map import draw_map
    from crossspec_ros.config import DEFAULT_PROMPT
    from crossspec_ros.pipeline.threads import ask_threads
    bags = tuple(args.bags) or DRIVES
    options = AdviceOptions(
        args.model, bags, args.windows, args.drafter, tuple(args.heads), args.prompt or DEFAULT_PROMPT,
        args.max_new_tokens, args.frame_interval_ms, args.device, args.dtype, chosen_topics(args, bags[0]),
        _assumed(args.assume))
    ask_threads('advise', args.threads)
    report, timing, drafts = advise(options, progress_bar)
    if out is not None:
        try:
            (out / 'advice.json').write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
            draw_map(timing, drafts, out / 'map.png')
        except OSError as error:
            raise CrossSpecError(f'--out {out} cannot be written: {error.strerror or error}') from error
    print(json.dumps(report, indent=1) if args.json else text_of(report))
    return 0


def _folder(out: Path | None) -> Path | None:
    """The folder, made now: what took minutes to measure must not be lost for a name."""
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CrossSpecError(f'--out {out} must be a folder that can be written: {error.strerror or error}'
                                 ) from error
    return out


def _assumed(texts: list[str]) -> dict:
    from crossspec_ros.speculation.decision import DRAFTED, Drafts
    found = {}
    for text in texts:
        name, _, values = text.partition('=')
        try:
            tau, step_ms = (*map(float, values.split(',')), 0.0)[:2]
        except ValueError:
            raise CrossSpecError(f'--assume must be METHOD=TAU or METHOD=TAU,MS, as cascade=8,12, got {text!r}'
                                 ) from None
        if name not in DRAFTED:
            raise CrossSpecError(f'--assume must name one of {", ".join(DRAFTED)}, got {name!r}')
        found[name] = Drafts(tau, None, step_ms)
    return found


def text_of(report: dict) -> str:
    """The report for people."""
    cost, stages, plain = report['cost_ms'], report['stages_ms'], report['generate_ms']
    forwards = ', '.join(f'{count} {cost[count]:.1f}' for count in ('1', '8', '64', '256') if count in cost)
    same = report['identical']
    lines = [
        f'{report["model"]}: {report["windows"]} windows of {len(report["drives"])} drives, answers of '
        f'{report["tokens"]:.1f} tokens; {report["hardware"]}',
        f'  a forward of n tokens, ms: {forwards}',
        f'  a group of frames as it comes: encoding {stages["encode_ms"]:.1f}, prefill {stages["prefill_ms"]:.1f} ms; '
        f'all at the end: {stages["encode_all_ms"]:.1f} and {stages["prefill_all_ms"]:.1f} ms',
        f'  generate: {plain["first_token"]:.1f} ms to the first token ({100 * report["prefill_share"]:.0f}% of a '
        f'caption), {plain["further_token"]:.1f} ms each further one; the same tokens in {same["windows"]} of '
        f'{same["of"]} windows', '',
        f'{"method":<58}{"tokens a pass":>14}{"age, ms":>9}{"sooner":>8}{"at most":>9}{"pays from":>11}']
    for row in report['methods']:
        pays = '-' if row['pays_from_tau'] is None else f'{row["pays_from_tau"]:.2f}'
        mark = ' (assumed)' if row['from'] == 'assumed' else ''
        lines.append(f'{row["label"] + mark:<58}{row["tau"]:>14.2f}{row["age_ms"]:>9.0f}{row["speedup"]:>7.1f}x'
                     f'{row["bound"]:>8.1f}x{pays:>11}')
    if report['backlog_ms']:
        lines.append(f'frames as they come take longer than the time between them: the newest waits '
                     f'{report["backlog_ms"]:.0f} ms, and windows pile up; use fewer frames or longer windows')
    if not report['ahead']:
        lines.append('this verifier cannot prefill frames as they come: crossspec model check says why')
    for name, need in report['would_need'].items():
        words = f'would be as young from {need["tau"]:.1f} tokens a pass on' if need['tau'] else \
            'would not be as young with any number of tokens a pass'
        lines.append(f'not measured: {name}, with {need["step_ms"]:.1f} ms of drafting a pass, {words}')
    return '\n'.join([*lines, '', report['advice']])
