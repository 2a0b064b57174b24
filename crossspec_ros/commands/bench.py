"""``crossspec bench NAME``: the experiments, one module each in ``crossspec_ros/bench/``."""
from __future__ import annotations

import argparse

from crossspec_ros.cli import Command, build_parser

BENCHES: dict[str, Command] = {
    'events': Command('crossspec_ros.bench.events', 'decoders and representations, million events per second'),
    'stream': Command('crossspec_ros.bench.stream', 'player to drafter over DDS: the rate of the first loss'),
    'traces': Command('crossspec_ros.bench.traces', 'recorded token sequences: tokens per target pass by source'),
    'decode': Command('crossspec_ros.bench.decode', 'caption age against plain generation, feature by feature'),
    'link': Command('crossspec_ros.bench.link', 'verifier on another host: delay, loss and cuts of the link'),
    'change': Command('crossspec_ros.bench.change', 'windows by change against the grid: age of the words, compute'),
    'growth': Command('crossspec_ros.bench.growth', 'age over frames, answers and tokens a frame; memory over a drive'),
    'fit': Command('crossspec_ros.bench.fit', 'memory that models of real shapes take, by how weights are kept'),
    'view': Command('crossspec_ros.bench.view', 'what the live view costs the graph'),
    'resilience': Command('crossspec_ros.bench.resilience', 'the graph killed, frozen, lied to and starved'),
    'soak': Command('crossspec_ros.bench.soak', 'the graph for long, with kills, prompts and questions'),
    'heads': Command('crossspec_ros.bench.heads', 'heads on the states of the verifier against other draft sources'),
    'drafts': Command('crossspec_ros.bench.drafts', 'chains against trees of the event drafter'),
    'online': Command('crossspec_ros.bench.online', 'learning while driving: tokens a pass as the wording changes'),
    'exactness': Command('crossspec_ros.bench.exactness', 'the price of certified decoding in 16 bits'),
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the group; which bench it is and its options are read in `run`."""
    epilog = '\n'.join(f'  {name:<10} {bench.help}' for name, bench in BENCHES.items())
    parser = subparsers.add_parser('bench', help='measure: ' + ', '.join(BENCHES),
                                   formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f'benches:\n{epilog}')
    parser.add_argument('name', choices=list(BENCHES), metavar='NAME', help='which bench: ' + ', '.join(BENCHES))
    parser.add_argument('rest', nargs=argparse.REMAINDER, metavar='...', help='its options (NAME --help)')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the named bench with the rest of the command line."""
    words = [args.name, *args.rest]
    chosen = build_parser('crossspec bench', 'Experiments.', BENCHES, words).parse_args(words)
    return int(chosen.func(chosen) or 0)
