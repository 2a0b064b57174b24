"""Plots of outcomes, small PNGs that can be read on light and dark pages."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes

from crossspec_ros.demo.plots import CAPTION, DRAFT, INK, SOURCE_COLOURS, STYLE, as_label, new_axes
from crossspec_ros.experiments.experiment import Plot
from crossspec_ros.models.writing import write_atomic

_DPI = 90
_BANDS = 3                       # lines whose intervals can be told apart as bands
_LOW = 0.5                       # of the highest: lines that come so low are drawn from 0
_LONG = 24                      # letters of a label, beyond which four do not stand in a row


def draw(plot: Plot, path: Path) -> None:
    """Write a plot as PNG. Raises CrossSpecError where it cannot be written."""
    with matplotlib.rc_context(STYLE):
        rows = max((len(points) for points in plot.series.values()), default=0)
        bars = plot.kind == 'bars'
        height = 1.2 + 0.26 * rows * max(1, 0.7 * len(plot.series)) if bars else 3.4
        figure, axes = new_axes(7.2, height, plot.title, plot.x_label, plot.y_label)
        (_bars if bars else _lines)(plot, axes)
        if len(plot.series) > 1:
            columns = 2 if max(map(len, plot.series)) > _LONG else 4
            figure.legend(frameon=False, loc='outside lower center', ncols=min(columns, len(plot.series)))
        write_atomic(path, lambda part: figure.savefig(part, format='png', dpi=_DPI, facecolor='white',
                                                       metadata={'Software': None}))


def _bars(plot: Plot, axes: Axes) -> None:
    labels = list(dict.fromkeys(str(point[0]) for points in plot.series.values() for point in points))[::-1]
    width = 0.76 / max(1, len(plot.series))
    colours = SOURCE_COLOURS if len(plot.series) > 1 else (CAPTION,)
    for number, (name, points) in enumerate(plot.series.items()):
        for label, value, low, high in points:
            place = labels.index(str(label)) + (len(plot.series) - 1 - 2 * number) * width / 2
            axes.barh(place, value, height=width * 0.9, color=colours[number % len(colours)],
                      label=as_label(name) if label == points[0][0] else None)
            if low is not None:
                axes.plot((low, high), (place, place), color=INK, linewidth=1.2)
    axes.set_yticks(range(len(labels)), [as_label(label) for label in labels])
    axes.grid(axis='y', visible=False)
    if plot.mark is not None:
        axes.axvline(plot.mark, color=INK, linewidth=0.9, linestyle=':')


def _lines(plot: Plot, axes: Axes) -> None:
    """Lines of one colour are of one name; what stands after its comma, such as a pace, has a stroke of its own."""
    parts = {name: tuple(name.split(', ', 1)) for name in plot.series}
    if any(len(part) < 2 for part in parts.values()):
        parts = {name: (name, '') for name in plot.series}
    names, kinds = (list(dict.fromkeys(part)) for part in zip(*parts.values()))
    colours, strokes = (CAPTION, DRAFT, *SOURCE_COLOURS[2:]), ('-', '--', ':')
    values = []
    for number, (name, points) in enumerate(plot.series.items()):
        first, kind = parts[name]
        colour = colours[names.index(first) % len(colours)]
        x, y, low, high = zip(*points)
        axes.plot(x, y, color=colour, linestyle=strokes[kinds.index(kind) % len(strokes)], marker='o', markersize=3.5,
                  linewidth=1.3, label=as_label(name))
        values += y
        if None not in low:
            _intervals(axes, number, len(plot.series), x, low, high, colour)
    if plot.mark is not None:
        axes.axhline(plot.mark, color=INK, linewidth=0.9, linestyle=':')
    if min(values) < _LOW * max(values):
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _intervals(axes: Axes, number: int, count: int, x: Sequence[float], low: Sequence[float], high: Sequence[float],
               colour: str) -> None:
    """Bands of a few lines; of many, strokes beside each other."""
    if count <= _BANDS:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        return
    step = 0.012 * (max(x) - min(x))
    axes.vlines([each + (number - (count - 1) / 2) * step for each in x], low, high, color=colour, linewidth=1.2,
                alpha=0.6)
