"""``crossspec learn BAG...``: a drafter for a verifier of one's own, from recorded drives."""
from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.commands.topic_options import add_topic_options, chosen_topics


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    text = 'learn a drafter for a verifier from recorded drives'
    parser = subparsers.add_parser('learn', help=text, description=(
        'The verifier captions every window of the drives; an event drafter learns to say the same from the events. '
        'Heads on the verifier\'s states learn from the same answers where --sources names them. '
        'The last fifth of each drive is held out, and says whether the drafter and each head pay. The result loads as '
        'drafter_model:=DIR, heads as model.heads:=[DIR/heads/KIND]; answers and checkpoints lie in DIR.learning, from '
        'which a stopped run goes on.'))
    parser.add_argument('bags', nargs='+', metavar='BAG',
                        help='a drive: a bag (folder, .mcap, .db3), the folder of a DSEC sequence, or world:SEED')
    parser.add_argument('--model', required=True, metavar='PATH',
                        help='the verifier: builtin, a checkpoint folder or a hub id, as verifier_model:= takes it')
    parser.add_argument('--out', type=Path, default=Path('crossspec-drafter'), metavar='DIR',
                        help='the drafter\'s folder (%(default)s)')
    parser.add_argument('--prompt', action='append', metavar='TEXT',
                        help='a question that will be asked; may be repeated, the first is judged by')
    parser.add_argument('--base', default='builtin', metavar='DRAFTER',
                        help='the drafter to begin with: builtin, a drafter\'s folder, or none (builtin)')
    parser.add_argument('--sources', default='drafter', metavar='NAMES',
                        help='what is to learn, with commas: drafter, and heads among eagle1, eagle3, medusa, block '
                             '(drafter)')
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--steps', type=int,
                        help='of training (1500, of each head 600); the curve over minutes takes three quarters more')
    length.add_argument('--minutes', type=float,
                        help='instead of steps, of the drafter and of each head; where that ends is the clock\'s')
    parser.add_argument('--device', default='cpu', help='torch device of verifier and training (cpu)')
    parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16', 'float16'),
                        help='type the verifier computes in (float32)')
    parser.add_argument('--resume', action='store_true', help='go on where a run into the same --out stopped')
    parser.add_argument('--seconds', type=float, default=0.0, metavar='S',
                        help='use so much of each drive, s (0: all; world:SEED needs it)')
    parser.add_argument('--slide', type=int, default=4, metavar='SLOTS',
                        help='a window to learn from every so many frame slots: 1, 2, 4 or 8 (4)')
    parser.add_argument('--max-new-tokens', type=int, default=96, metavar='N',
                        help='tokens of an answer at most, as decode.max_new_tokens (96)')
    parser.add_argument('--loss', default='forward_kl', metavar='NAME',
                        help='forward_kl, reverse_kl or total_variation (%(default)s)')
    parser.add_argument('--filter', action='store_true',
                        help='leave out places that even a reference drafter cannot say (AdaSPEC)')
    parser.add_argument('--gate', action='store_true',
                        help='only places count where the draft would be accepted (SpecKD)')
    parser.add_argument('--lr', type=float, default=1e-3, help='learning rate of the drafter (%(default)g)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=0, help='torch threads (0: all cores but one)')
    parser.add_argument('--disk-mb', type=int, default=8192, metavar='MB',
                        help='answers, looks and states for heads may take so much (%(default)d)')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    add_topic_options(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Learn, and tell what came of it."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
    from crossspec_ros.learn.course import REPORT, learn, lost_line
    from crossspec_ros.learn.report import REPORT_PAGE, head_verdicts, verdict
    from crossspec_ros.learn.settings import LearnConfig
    from crossspec_ros.pipeline.threads import ask_threads
    values = {name: getattr(args, name) for name in (
        'model', 'base', 'steps', 'minutes', 'device', 'dtype', 'resume', 'seconds', 'slide', 'max_new_tokens', 'loss',
        'lr', 'seed', 'disk_mb')}
    if args.prompt:
        values['prompts'] = tuple(args.prompt)
    config = LearnConfig(bags=tuple(args.bags), out=args.out, filtered=args.filter, gated=args.gate,
                         sources=tuple(filter(None, args.sources.split(','))),
                         topics=chosen_topics(args, args.bags[0]), **values)
    ask_threads('learn', args.threads)
    report = learn(config, lambda text, total, unit: progress_bar(text, total, unit))
    if args.json:
        told = json.loads((config.out / REPORT).read_text(encoding='utf-8'))
        print(json.dumps(told, indent=1))
        return 0
    arms = report['arms']
    print(f'{"drafts from":<28}{"tokens a pass":>14}{"where new":>12}{"age p50, ms":>13}{"p99":>8}')
    from crossspec_ros.learn.plots import ARM_LABELS
    for name, label in ARM_LABELS.items():
        if name in arms:
            ages = arms[name]['age_ms']
            new = arms[name]['tau_at_changes']
            print(f'{label:<28}{arms[name]["tau"]:>14.2f}{"-" if new is None else f"{new:.2f}":>12}'
                  f'{ages["p50"]:>13.0f}{ages["p99"]:>8.0f}')
    print('\n'.join([verdict(report), *head_verdicts(report), f'not used: {lost_line(report["lost"])}']))
    for line in report['advice']:
        print(f'- {line}')
    print(f'{config.out}: the drafter; {config.out / REPORT_PAGE} shows what it says. Answers and checkpoints '
          f'({report["size_mb"]:.0f} MB) are in {config.work}', file=sys.stderr)
    return 0
