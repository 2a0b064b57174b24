"""The report's plots, as SVG text that a browser shows inside the page."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

from crossspec_ros.demo.plots import CAPTION, DRAFT, INK, STYLE, as_svg, new_axes
from crossspec_ros.learn.proof import ALL_HEADS, with_head
from crossspec_ros.models.heads.config import KINDS

ARM_LABELS = {'event_drafter': 'event drafter, learned', 'base_drafter': 'event drafter, the base', 'memory': 'memory',
              'previous': 'previous caption', 'merged': 'all, with the learned one',
              'merged_with_base': 'all, with the base', 'merged_without': 'all, without a drafter',
              **{kind: f'head {kind}' for kind in KINDS}, **{with_head(kind): f'all, and {kind}' for kind in KINDS},
              ALL_HEADS: 'all, and every head'}
_OTHER = '#98a2aa'
_HEADS = ('#7a5195', '#bc5090', '#ef5675', '#ffa600')


def tau_by_arm(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Tokens a pass of each combination of sources, with 95% intervals; a mark where the caption is new."""
    with matplotlib.rc_context(STYLE):
        names = [name for name in reversed(ARM_LABELS) if name in arms]
        figure, axes = new_axes(5.6, 0.9 + 0.36 * len(names), 'Tokens a pass of the verifier', '')
        for place, name in enumerate(names):
            arm, colour = arms[name], DRAFT if name == 'event_drafter' else CAPTION if name == 'merged' else _OTHER
            axes.barh(place, arm['tau'], color=colour, height=0.62)
            if arm['tau_95']:
                axes.plot(arm['tau_95'], [place, place], color=INK, linewidth=1.2)
            if arm['tau_at_changes'] is not None:
                axes.plot(arm['tau_at_changes'], place, marker='D', markersize=5, color='white', markeredgecolor=INK,
                          linestyle='none')
        axes.set_yticks(range(len(names)), [ARM_LABELS[name] for name in names])
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.grid(axis='y', visible=False)
        axes.set_xlim(left=0)
        return as_svg(figure)


def tau_over_minutes(curve: Sequence[Mapping[str, Any]], base: float | None) -> str:
    """Tokens a pass over the minutes of drive that were learned from; ``base``: of the drafter it began with."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(4.4, 3.0, 'More drives, more tokens?', 'minutes learned from', 'tokens a pass')
        minutes = [0.0] * (base is not None) + [point['minutes'] for point in curve]
        alone = [base] * (base is not None) + [point['tau'] for point in curve]
        axes.plot(minutes, alone, color=DRAFT, marker='o', label='event drafter')
        axes.plot([point['minutes'] for point in curve], [point['merged'] for point in curve], color=CAPTION,
                  marker='s', label='all sources')
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        figure.legend(frameon=False, loc='outside lower center', ncols=2)
        return as_svg(figure)


def acceptance_over_positions(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Share of right draft tokens by position in the caption."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(5.6, 2.8, 'Accepted by position in the caption', 'token', '')
        for name, colour, dash in (('base_drafter', DRAFT, ':'), ('event_drafter', DRAFT, '-'), ('memory', _OTHER, '-'),
                                   ('merged', CAPTION, '-'),
                                   *((kind, colour, '--') for kind, colour in zip(KINDS, _HEADS, strict=True))):
            shares = arms.get(name, {}).get('acceptance_by_position') or []
            points = [(place + 1, 100 * share) for place, share in enumerate(shares) if share is not None]
            if points:
                axes.plot(*zip(*points), color=colour, linestyle=dash, label=ARM_LABELS[name])
        axes.set_ylim(0, 104)
        axes.yaxis.set_major_formatter('{x:.0f}%')
        axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(frameon=False, loc='outside lower center', ncols=2)
        return as_svg(figure)


def loss_over_steps(losses: Mapping[str, Sequence[float]]) -> str:
    """The loss while learning."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(4.4, 2.8, 'Loss while learning', 'step')
        axes.plot(losses.get('step', []), losses.get('loss', []), color=INK, linewidth=1)
        return as_svg(figure)
