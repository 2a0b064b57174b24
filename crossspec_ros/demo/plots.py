"""The report's plots, as SVG text that a browser shows inside the page."""
from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossspec_ros.tracing.path import STAGES
from crossspec_ros.view.safe import clean

_MANY = 80                          # windows; beyond, marks and bars of their own would run into each other
DRAFT, CAPTION, GRID, INK = '#e08a1e', '#1f6fb4', '#d9dee3', '#3b4650'
SOURCE_COLOURS = ('#1f6fb4', '#e08a1e', '#3f9d6b', '#9467bd', '#c7504b', '#6b7a86', '#b8a03a')
# The way in brown, waits for others red, the model's work blue and green: which kind it is counts most.
STAGE_COLOURS = {
    'camera': '#e3d4bf', 'transport': '#cfb58d', 'callback': '#b8935c', 'unpack': '#8f6b36', 'settle': '#e9b44c',
    'rehearsal': '#e7a6a1', 'other window': '#d9736b', 'encode': '#0f4c81', 'prefill': '#2f7fc1', 'propose': '#3f9d6b',
    'first pass': '#7db8e8', 'later passes': '#b9a5e2', 'accept': '#7f62b8', 'learn': '#9ed0ac', 'publish': '#5d6b78',
    'garbage': '#111111', 'no core': '#c7504b', 'wait': '#cfd6dc'}
_DARK = ('unpack', 'encode', 'prefill', 'accept', 'publish', 'garbage', 'no core')
STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'crossspec', 'font.family': 'sans-serif', 'font.size': 9.5,
         'text.color': INK, 'axes.edgecolor': GRID, 'axes.labelcolor': INK, 'xtick.color': INK, 'ytick.color': INK,
         'axes.titlesize': 10.5,
         'axes.titleweight': 'bold', 'axes.titlelocation': 'left', 'axes.spines.top': False, 'axes.spines.right': False}


def as_svg(figure: Figure) -> str:
    """The figure as one ``<svg>`` element that scales with the page."""
    text = io.StringIO()
    figure.savefig(text, format='svg', transparent=True, metadata={'Date': None, 'Creator': None})
    svg = text.getvalue()[text.getvalue().index('<svg'):]
    return re.sub(r'<svg ([^>]*?)width="[^"]*"([^>]*?)height="[^"]*"|<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"',
                  lambda match: '<svg ' + ' '.join(part for part in match.groups() if part), svg, count=1)


def as_label(name: str) -> str:
    """A name of others as a plot shows it: cleaned, and no mathematics whatever it holds."""
    return clean(name).replace('$', r'\$')


def new_axes(width: float, height: float, title: str, x_label: str, y_label: str = '') -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout='constrained')
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def stream_start_ns(entries: Sequence[Mapping[str, Any]]) -> int:
    """About where the stream begins: one stride before the first window's end; 0 without windows."""
    ends = [entry['end_ns'] for entry in entries[:2]]
    return ends[0] - (ends[1] - ends[0] if len(ends) == 2 else 0) if ends else 0


def ages_over_time(entries: Sequence[Mapping[str, Any]]) -> str:
    """Age of the last draft and of the final caption of each window, over the stream's time."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(7.4, 2.9, 'Age of draft and caption, window by window',
                             'end of the window in the stream, s', 'ms')
        start = stream_start_ns(entries)
        for key, colour, label, marker in (('draft_age_ms', DRAFT, 'last draft', 'o'),
                                           ('caption_age_ms', CAPTION, 'final caption, verified', 's')):
            points = [((entry['end_ns'] - start) / 1e9, entry[key]) for entry in entries if entry[key] is not None]
            if points:
                axes.plot(*zip(*points), color=colour, marker=marker if len(points) <= _MANY else None, markersize=4,
                          linewidth=1, label=label)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, ncols=2, loc='upper right')
        axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
        return as_svg(figure)


def age_distribution(entries: Sequence[Mapping[str, Any]]) -> str:
    """Share of windows whose draft or caption was out by a given age."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(4.4, 2.9, 'Share of windows answered by then', 'age, ms')
        for key, colour, label, dash in (('first_draft_age_ms', DRAFT, 'first draft', ':'),
                                         ('draft_age_ms', DRAFT, 'last draft', '-'),
                                         ('caption_age_ms', CAPTION, 'verified', '-')):
            values = sorted(entry[key] for entry in entries if entry[key] is not None)
            if values:
                shares = [100 * (i + 1) / len(values) for i in range(len(values))]
                axes.step([values[0], *values], [0, *shares], where='post', color=colour, linestyle=dash, label=label)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_ylim(0, 104)
        axes.yaxis.set_major_formatter('{x:.0f}%')
        if axes.get_legend_handles_labels()[0]:
            figure.legend(frameon=False, loc='outside lower center', ncols=3)
        return as_svg(figure)


def acceptance_by_source(per_source: Mapping[str, Mapping[str, Any]]) -> str:
    """Draft tokens checked and accepted, a bar a source."""
    with matplotlib.rc_context(STYLE):
        names = sorted(per_source, key=lambda name: per_source[name]['num_accepted_tokens'])
        figure, axes = new_axes(4.4, 1.3 + 0.3 * max(2, len(names)), 'Draft tokens by source', 'tokens')
        checked = [per_source[name]['num_draft_tokens'] for name in names]
        accepted = [per_source[name]['num_accepted_tokens'] for name in names]
        labels = [as_label(name) for name in names]
        axes.barh(labels, checked, color='#dfe5ea', label='checked by the target')
        axes.barh(labels, accepted, color=CAPTION, height=0.5, label='accepted')
        axes.grid(axis='y', visible=False)
        figure.legend(frameon=False, loc='outside lower center', ncols=2)
        return as_svg(figure)


def stages(entries: Sequence[Mapping[str, Any]]) -> str:
    """Where the verifier's time goes: compute time by stage, stacked, window by window."""
    with matplotlib.rc_context(STYLE):
        names = list(dict.fromkeys(name for entry in entries for name in entry['stage_ms'] if name != 'total'))
        figure, axes = new_axes(7.4, 2.5, "The verifier's compute time by stage", 'window', 'ms')
        bottom = [0.0] * len(entries)
        for colour, name in zip(SOURCE_COLOURS * 3, names, strict=False):
            values = [entry['stage_ms'].get(name, 0.0) for entry in entries]
            top = [low + value for low, value in zip(bottom, values, strict=True)]
            windows = range(1, len(entries) + 1)
            if len(entries) <= _MANY:
                axes.bar(windows, values, bottom=bottom, color=colour, label=as_label(name), width=0.8)
            else:
                axes.fill_between(windows, bottom, top, step='mid', color=colour, label=as_label(name), linewidth=0)
            bottom = top
        if names:
            axes.legend(frameon=False, loc='center left', bbox_to_anchor=(1, 0.5))
        axes.grid(axis='x', visible=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        return as_svg(figure)


def critical_path(path: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Which stage the age of each caption went to, stacked, window by window; numbered as all windows are."""
    with matplotlib.rc_context(STYLE):
        numbers = {entry['window_id']: number for number, entry in enumerate(entries, start=1)}
        windows = [window for window in path['windows'] if window['window_id'] in numbers]
        places = [numbers[window['window_id']] for window in windows]
        figure, axes = new_axes(7.4, 3.4, "Where each caption's age went", 'window', 'ms')
        for stage, values, bottoms in _stacked([window['stage_ms'] for window in windows]):
            if len(entries) <= _MANY:
                axes.bar(places, values, bottom=bottoms, color=STAGE_COLOURS[stage], label=stage, width=0.8)
            else:
                tops = [low + value for low, value in zip(bottoms, values)]
                axes.fill_between(places, bottoms, tops, step='mid', color=STAGE_COLOURS[stage], label=stage,
                                  linewidth=0)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], frameon=False, loc='center left', bbox_to_anchor=(1, 0.5))
        axes.grid(axis='x', visible=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        return as_svg(figure)


def path_bars(path: Mapping[str, Any]) -> str:
    """The stages of the windows at p50 and at p99 of caption age, as two bars, with the milliseconds that fit in."""
    with matplotlib.rc_context(STYLE):
        names = list(path['bars'])[::-1]
        bars = [path['bars'][name] for name in names]
        figure, axes = new_axes(4.4, 3.4, 'The typical window and the slowest', 'ms')
        longest = max(bar['age_ms'] for bar in bars)
        labels = [f'{name}\n{bar["age_ms"]:.0f} ms' for name, bar in zip(names, bars)]
        for stage, values, lefts in _stacked([bar['stage_ms'] for bar in bars]):
            axes.barh(labels, values, left=lefts, color=STAGE_COLOURS[stage], height=0.55, label=stage)
            for place, (value, left) in enumerate(zip(values, lefts)):
                if value >= 0.07 * longest:
                    axes.text(left + value / 2, place, f'{value:.0f}', ha='center', va='center', fontsize=8,
                              color='#ffffff' if stage in _DARK else INK)
        axes.grid(axis='y', visible=False)
        figure.legend(frameon=False, loc='outside lower center', ncols=4, fontsize=8, columnspacing=1.0,
                      handlelength=1.2)
        return as_svg(figure)


def _stacked(entries: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, list[float], list[float]]]:
    """Stages that take more than a thousandth of all, with their values and where they begin."""
    whole = sum(sum(entry.values()) for entry in entries)
    bottoms = [0.0] * len(entries)
    for stage in STAGES:
        values = [entry.get(stage, 0.0) for entry in entries]
        if sum(values) > 0.001 * whole:
            yield stage, values, bottoms
            bottoms = [low + value for low, value in zip(bottoms, values)]
