"""A progress bar for commands that take a while; on stderr, so that output can be piped."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bar(text: str, total: float | None = None, unit: str = '') -> Iterator[Callable[[float], None]]:
    """Gives a call that advances the bar; without a terminal nothing is drawn. ``total`` None: unknown."""
    console = Console(stderr=True)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
               TimeElapsedColumn(), TimeRemainingColumn())
    # With both on a terminal the bar has to let printed lines pass; redirected output must never get into the bar's.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal,
                  redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(text, total=total)
        yield lambda count: bar.advance(task, count)
