"""``crossspec model check``: whether a checkpoint's captions are those of its own ``generate``, and at what cost."""
from __future__ import annotations

import argparse
import json

from crossspec_ros.commands.progress import progress_bar
from crossspec_ros.config import QUANTIZATIONS
from crossspec_ros.errors import CrossSpecError

_DIFFERENT = 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = subparsers.add_parser('model', help='what a checkpoint is, and whether it is served exactly')
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    check = actions.add_parser('check', help='compare captions with those of the checkpoint\'s own generate',
                               description='Exit code 0: every clip the same; 1: some differ, or the checkpoint is '
                               'refused; 2: the options are wrong. A checkpoint that does not fit the device is '
                               'refused before it is loaded. With --memory nothing is loaded: it is said what a window '
                               'takes in each way to keep the weights, and which fit; 1: the way asked for does not. '
                               'Of a drafter\'s folder it is said what it is, and a draft of an empty window is made.')
    check.add_argument('path', help='checkpoint folder, hub id, or builtin')
    check.add_argument('--clips', type=int, default=12, help='clips to compare (12)')
    check.add_argument('--frames', type=int, default=8, help='frames of a clip (8)')
    check.add_argument('--max-new-tokens', type=int, default=24, help='tokens of a caption at most (24)')
    check.add_argument('--size', default='640x480', metavar='WxH', help='of the frames, px (640x480)')
    check.add_argument('--prompt', default='What is happening?', help='the question')
    check.add_argument('--memory', type=float, default=None, metavar='GB', help='load nothing; say what fits a device '
                       'with so much memory free, 10^9 bytes')
    check.add_argument('--device', default=None, help='torch device (cpu; with --memory: cuda)')
    check.add_argument('--dtype', default=None, choices=('float32', 'bfloat16', 'float16'),
                       help='type to compute in (float32; with --memory: the checkpoint\'s own, on a cpu float32)')
    check.add_argument('--quantization', default='none', choices=QUANTIZATIONS,
                       help='how weights are kept, as model.quantization; exact is then: as the quantised model\'s own '
                       'generate (none)')
    check.add_argument('--trust-remote-code', action='store_true', help='run Python code that the checkpoint brings')
    check.add_argument('--allow-pickle', action='store_true', help='read weights that are not safetensors')
    check.add_argument('--json', action='store_true', help='print what was found as JSON')
    check.set_defaults(func=run_check)


def run_check(args: argparse.Namespace) -> int:
    """Compare, print, and say by the exit code whether all was the same; of a drafter, say what it is."""
    from crossspec_ros.models.drafters.kinds import drafts_only
    if args.memory is not None:
        from crossspec_ros.commands.model_fit import run_fit
        return run_fit(args, *_size(args.size))
    args.device, args.dtype = args.device or 'cpu', args.dtype or 'float32'
    if drafts_only(args.path):
        return _check_drafter(args)
    from crossspec_ros.models.fit import Serving, check_fit
    from crossspec_ros.models.targets import load_target
    from crossspec_ros.pipeline.checking import CheckOptions, check_target, describe, refusal
    width, height = _size(args.size)
    options = CheckOptions(args.clips, args.frames, args.max_new_tokens, args.prompt, height, width)
    try:
        check_fit(args.path, Serving(args.frames, args.max_new_tokens, size=(height, width), prompt=args.prompt),
                  args.device, args.dtype, args.quantization, args.trust_remote_code, args.allow_pickle)
        target = load_target(args.path, args.device, args.dtype, max_new_tokens=args.max_new_tokens,
                             trust_remote_code=args.trust_remote_code, allow_pickle=args.allow_pickle,
                             quantization=args.quantization)
        with progress_bar('comparing', options.clips, 'clips') as advance:
            finding = check_target(target, options, advance)
        report = describe(target, finding, options)
    except CrossSpecError as error:
        report = refusal(args.path, error, args.dtype)
    print(json.dumps(report, indent=2) if args.json else _text(args.path, report))
    return 0 if report['refused'] is None and report['identical'] == report['clips'] else _DIFFERENT


def _check_drafter(args: argparse.Namespace) -> int:
    from crossspec_ros.pipeline.checking_drafter import check_drafter, text_of
    try:
        report = check_drafter(args.path, args.device, args.dtype, args.prompt, args.max_new_tokens)
    except CrossSpecError as error:
        report = {'path': args.path, 'refused': str(error)}
    print(json.dumps(report, indent=2) if args.json else text_of(args.path, report))
    return 0 if report['refused'] is None and report.get('identical', True) else _DIFFERENT


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit()):
        raise CrossSpecError(f'--size must be WIDTHxHEIGHT, as 640x480, got {text!r}')
    return int(width), int(height)


def _text(path: str, report: dict) -> str:
    """The report for people."""
    if report['refused'] is not None:
        return f'{path}: refused\n  {report["refused"]}'
    ways = [name.replace('_', ' ') for name in ('frame_cache', 'anticipatory', 'trees') if report[name]]
    memory, ages = report['memory_mb'], report['expected_age_ms']
    costs = ', '.join(str(report['cost_ms'].get(count)) for count in ('1', '16', '64'))
    same = 'every clip as its own generate' if report['identical'] == report['clips'] else 'NOT as its own generate'
    kept = f', weights {report["quantization"]}' if report['quantization'] != 'none' else ''
    lines = [
        f'{path}: {report["class"]}, served by {report["adapter"]}',
        f'  {report["identical"]} of {report["clips"]} clips identical in {report["dtype"]}{kept}: {same}',
        f'  exact: {", ".join(ways) or "nothing beyond plain decoding"}; {report["frames_a_group"]} frame(s) a group, '
        f'{report["tokens_a_frame"]:g} tokens a frame, prompt of {report["prompt_tokens"]}',
        *(f'  {note}' for note in report['notes']),
        f'  memory: weights {memory["weights"]} MB, a window {memory["window"]} MB, free {memory["free"]} MB',
        f'  a forward of 1, 16, 64 tokens: {costs} ms; caption of {ages["tokens"]} tokens after the newest frame: '
        + ', '.join(f'{ages[f"tau_{tau}"]} ms at {tau} a pass' for tau in (1, 4, 8))]
    return '\n'.join(lines)
