"""Draft sources of other packages as rows of the benches: each alone, and beside the package's own."""
from __future__ import annotations

import argparse

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.sources import SOURCE_NAMES, check_names


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Declare ``--sources``, see `sources_of`."""
    parser.add_argument('--sources', default='', metavar='A,B', help='draft sources of other packages, each alone and '
                        'beside the others: NAME or NAME:ARGUMENT (entry points crossspec.draft_sources)')


def sources_of(args: argparse.Namespace) -> tuple[str, ...]:
    """Names of the sources that ``--sources`` asks for. Raises `CrossSpecError` for built-in ones and unknown ones."""
    names = tuple(name.strip() for name in args.sources.split(',') if name.strip())
    if own := sorted(set(names) & set(SOURCE_NAMES)):
        raise CrossSpecError(f'--sources must be of other packages, got {", ".join(own)}; these have rows of their own')
    check_names(names)
    return names
