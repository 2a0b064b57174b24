"""``crossspec model check --memory``: which ways to keep a checkpoint's weights fit a device; nothing is loaded."""
from __future__ import annotations

import argparse
import json

from crossspec_ros.errors import CrossSpecError

_NOT = 1
_DEVICES = ('cpu', 'cuda')
_COLUMNS = ('weights', 'windows', 'forward', 'steps', 'process', 'total')
_HEADS = ('weights', 'keys+values', 'forward', 'captured', 'process', 'all')


def run_fit(args: argparse.Namespace, width: int, height: int) -> int:
    """Print what each way takes, and say by the exit code whether the one asked for fits."""
    try:
        report = survey_of(args, width, height)
    except CrossSpecError as error:
        report = {'path': args.path, 'refused': str(error)}
    print(json.dumps(report, indent=2) if args.json else _text(report))
    return 0 if report['refused'] is None else _NOT


def survey_of(args: argparse.Namespace, width: int, height: int) -> dict:
    """The report: bytes of each way, whether it fits, and what to change where the one asked for does not.

    Raises `CrossSpecError` for wrong options, and where the shapes cannot be told.
    """
    from crossspec_ros.models.fit import GB, Need, Serving, advice, need, read_shapes, survey
    from crossspec_ros.models.loading import find_dtype
    from crossspec_ros.models.quantization import KINDS
    import torch
    device, free = args.device or 'cuda', args.memory * GB
    if device not in _DEVICES:
        raise CrossSpecError(f'--device must be one of {", ".join(_DEVICES)} with --memory, got {device!r}')
    if not args.memory > 0:
        raise CrossSpecError(f'--memory must be > 0 GB, got {args.memory}')
    if args.quantization in KINDS and device not in KINDS[args.quantization].devices:
        places = ' and '.join(KINDS[args.quantization].devices)
        raise CrossSpecError(f'quantization {args.quantization} runs on {places} devices, got {device}')
    shapes = read_shapes(args.path, args.trust_remote_code, args.allow_pickle)
    serving = Serving(args.frames, args.max_new_tokens, size=(height, width), prompt=args.prompt,
                      padded=device == 'cuda')
    dtype = find_dtype(args.dtype or 'auto', torch.device('meta' if device == 'cuda' else 'cpu')) or shapes.own_dtype
    if args.quantization == 'int4' and args.dtype is None:
        dtype = torch.bfloat16
    found = survey(shapes, serving, device)
    tokens = next((one.tokens for one in found.values() if isinstance(one, Need)), 0)
    wanted = need(shapes, serving, device, dtype, args.quantization, tokens)
    named = args.quantization if args.quantization != 'none' else shapes.quantised or str(dtype).removeprefix('torch.')
    found = found | {named: wanted}
    lacking = None if wanted.total <= free else (
        f'{shapes.name} as {named} does not fit {args.memory:g} GB: it takes {wanted.total / GB:.1f} GB; '
        f'{advice(found, free, named)}')
    return {'path': args.path, 'class': shapes.name, 'device': device, 'memory_gb': args.memory, 'wanted': named,
            'frames': args.frames, 'prompt_tokens': wanted.tokens, 'refused': lacking,
            'ways': {name: {column: getattr(one, column) for column in _COLUMNS} | {'fits': one.total <= free}
                     if isinstance(one, Need) else {'fits': False, 'why': one} for name, one in found.items()}}


def _text(report: dict) -> str:
    """The report for people."""
    if 'ways' not in report:
        return f'{report["path"]}: refused\n  {report["refused"]}'
    lines = [f'{report["path"]}: {report["class"]} on {report["device"]}, {report["memory_gb"]:g} GB free; a window of '
             f'{report["frames"]} frames is a prompt of {report["prompt_tokens"]} tokens',
             f'  {"GB":10s}' + ''.join(f'{head:>13s}' for head in _HEADS)]
    for name, way in report['ways'].items():
        if 'why' in way:
            lines.append(f'  {name:10s}   {way["why"]}')
            continue
        sizes = ''.join(f'{way[column] / 1e9:13.2f}' for column in _COLUMNS)
        lines.append(f'  {name:10s}{sizes}   {"fits" if way["fits"] else "does not fit"}')
    lines.append(f'  {report["refused"] or report["wanted"] + " fits"}')
    return '\n'.join(lines)
