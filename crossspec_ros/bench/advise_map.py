"""Which method wins where, as a picture: share of prefill over tokens a pass, for some lengths of answers."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from crossspec_ros.speculation.age import Method, Timing
from crossspec_ros.speculation.decision import FORMS, Drafts, methods_of, winners

LENGTHS = (12, 36, 120)
HEADS, MIDDLE = Drafts(3.0, None, 0.25), Drafts(1.5, None, 0.5)
"""Where they are not measured: steps as shares of c(1); tau of heads, and of a cascade over that of its drafts."""

_LEAST_NODES = 8                 # of a tree, however few of them are accepted
_COLOURS = {'generate': '#b9c0c6', 'ahead': '#8fa3b3', 'lookup': '#e2c07a', 'memory': '#d9a441',
            'drafter_late': '#c98bb9', 'drafter_early': '#a26fb0', 'heads': '#d9775f', 'cascade': '#3f9d6b',
            'fused': '#1f6fb4'}
_WORDS = {'generate': 'no drafts, all at the end', 'ahead': 'no drafts, frames as they come',
          'lookup': 'drafts after the whole prefill', 'memory': 'drafts after the last prefill',
          'drafter_late': 'drafts that come late', 'drafter_early': 'early event drafts', 'heads': 'heads',
          'cascade': 'cascade', 'fused': 'drafts in the last prefill'}
_TAUS, _SHARES = np.geomspace(1, 20, 41), np.linspace(0.03, 0.97, 33)


def map_methods(tau: float, timing: Timing, drafts: Mapping[str, Drafts]) -> list[Method]:
    """What there is to choose from where drafts that are there for nothing (memory, previous caption, event drafter)
    say ``tau`` tokens a pass, of trees of 8 nodes at least."""
    nodes, one_ms = max(_LEAST_NODES, 2 * (tau - 1)), timing.cost(1)
    free = Drafts(tau, nodes)
    heads = drafts.get('heads') or replace(HEADS, step_ms=HEADS.step_ms * one_ms)
    better = MIDDLE.tau * (tau - 1) + 1
    cascade = Drafts(better, max(_LEAST_NODES, 2 * (better - 1)), MIDDLE.step_ms * one_ms)
    return methods_of({'lookup': free, 'memory': free, 'heads': heads, 'cascade': cascade, 'fused': free})


def _label(name: str, timing: Timing, drafts: Mapping[str, Drafts]) -> str:
    if name != 'heads':
        return _WORDS[name]
    heads = next(method for method in map_methods(1.0, timing, drafts) if method.name == name)
    return f'heads that say {heads.tau:.1f} tokens a pass'


def draw_map(timing: Timing, drafts: Mapping[str, Drafts], path: Path, lengths: Sequence[int] = LENGTHS) -> None:
    """Write the picture, .png or .svg: above, frames prefilled as they come; below, for a verifier that cannot do that.
    Raises OSError where it cannot be written."""
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(10.5, 6.4), layout='constrained')
    panels = figure.subplots(2, len(lengths), sharex=True, sharey=True, squeeze=False)
    names, seen = list(FORMS), set()
    colours, norm = ListedColormap([_COLOURS[name] for name in names]), BoundaryNorm(
        np.arange(len(names) + 1) - 0.5, len(names))
    for line, ahead in zip(panels, (True, False)):
        for axes, tokens in zip(line, lengths):
            found = winners(replace(timing, ahead=ahead), lambda tau: map_methods(tau, timing, drafts), _SHARES,
                            _TAUS, tokens)
            won = np.array([[names.index(row.method.name) for row in one] for one in found])
            sooner = np.array([[row.speedup for row in one] for one in found])
            seen |= {names[place] for place in np.unique(won)}
            axes.pcolormesh(_TAUS, _SHARES, won, cmap=colours, norm=norm, shading='nearest', rasterized=True)
            lines = axes.contour(_TAUS, _SHARES, sooner, levels=(1.5, 2, 3, 4, 6, 8, 12), colors='#20262b',
                                 linewidths=0.6)
            axes.clabel(lines, fmt='%gx', fontsize=7)
            axes.set(xscale='log', xlim=(1, 20), ylim=(_SHARES[0], _SHARES[-1]))
            axes.set_xticks((1, 2, 3, 5, 10, 20), ('1', '2', '3', '5', '10', '20'))
            axes.minorticks_off()
            axes.set_title(f'answers of {tokens} tokens' if ahead else 'all frames at the end', fontsize=9)
    for line in panels:
        line[0].set_ylabel('share of prefill in generate')
    for axes in panels[-1]:
        axes.set_xlabel('tokens a pass of free drafts')
    patches = [Patch(color=_COLOURS[name], label=_label(name, timing, drafts)) for name in names if name in seen]
    figure.legend(handles=patches, loc='outside lower center', ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
