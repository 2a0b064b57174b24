"""Pictures for the model card: samples with the words that the verifier corrected, and acceptance of drafts."""
from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from crossspec_ros.train.evaluation import Window
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.world import caption

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402  (the backend has to be chosen first)

_PLAIN, _WRONG, _MENDED = '#30343a', '#c0392b', '#1e8449'
_LINE_CHARACTERS, _LETTER = 110, 0.0083         # letters a line, and the width of one as a share of the text's column


def marked_words(draft: str, target: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Words of the draft and of the target, each with whether it is one that was corrected."""
    before, after = draft.split(), target.split()
    left, right = [(word, False) for word in before], [(word, False) for word in after]
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != 'equal':
            left[a0:a1] = [(word, True) for word in before[a0:a1]]
            right[b0:b1] = [(word, True) for word in after[b0:b1]]
    return left, right


def _write_words(axis: pyplot.Axes, words: Sequence[tuple[str, bool]], top: float, title: str, colour: str) -> float:
    """Words in lines of fixed-width letters; returns the height where it ended."""
    axis.text(0.0, top, title, fontsize=6.5, color='#808890', family='monospace', va='top')
    column, top = 0, top - 0.075
    for word, changed in words:
        if column + len(word) > _LINE_CHARACTERS:
            column, top = 0, top - 0.075
        axis.text(column * _LETTER, top, word, fontsize=6.6, family='monospace', va='top',
                  color=colour if changed else _PLAIN, weight='bold' if changed else 'normal')
        column += len(word) + 1
    return top - 0.105


def draw_samples(windows: Sequence[Window], target: Path, count: int = 8) -> None:
    """RGB, events, draft, verified caption and truth of ``count`` windows; corrected words in red and green."""
    chosen = [windows[int(i)] for i in np.linspace(0, len(windows) - 1, min(count, len(windows)))]
    figure, axes = pyplot.subplots(len(chosen), 3, figsize=(11, 1.75 * len(chosen)), squeeze=False,
                                   gridspec_kw={'width_ratios': [1.0, 0.75, 3.1]})
    for window, (rgb, events, text) in zip(chosen, axes, strict=True):
        rgb.imshow(window.frame)
        shown = window.voxel.sum(0)
        events.imshow(np.clip(shown, -18, 18), cmap='coolwarm', vmin=-18, vmax=18)
        for axis in (rgb, events, text):
            axis.axis('off')
        left, right = marked_words(window.draft, window.target)
        _, wrong = marked_words(caption(window.truth), window.target)
        top = _write_words(text, left, 1.0, 'draft, from events alone (red: corrected)', _WRONG)
        top = _write_words(text, right, top, 'verified caption (green: corrections)', _MENDED)
        title = 'ground truth (red: the verifier is wrong)' if any(mark for _, mark in wrong) else 'ground truth'
        _write_words(text, marked_words(window.target, caption(window.truth))[1], top, title, _WRONG)
    figure.tight_layout(pad=0.4)
    write_atomic(target, lambda path: figure.savefig(path, dpi=110, format='png'))
    pyplot.close(figure)


def draw_acceptance(report: Mapping[str, object], target: Path) -> None:
    """Slots by model, agreement of drafts with the verifier by slot, acceptance by position."""
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.4))
    names = list(report['slots'])
    place = np.arange(len(names))
    for shift, (who, colour) in enumerate((('verifier', '#2e86c1'), ('drafter', '#e59866'), ('commonest', '#bfc9ca'),
                                           ('previous', '#909497'))):
        shares = [100 * report['slots'][name][who] for name in names]
        left.bar(place + 0.2 * shift - 0.3, shares, 0.2, label=who, color=colour)
    left.set(title='slots right, %', ylim=(0, 119))
    left.set_xticks(place, names, rotation=40, ha='right', fontsize=8)
    left.legend(fontsize=7, ncols=4, loc='upper center')
    agreed = report['acceptance']['by_slot']
    middle.bar(list(agreed), [100 * value for value in agreed.values()], color='#e59866')
    middle.set(title='draft agrees with the verifier, %', ylim=(0, 105))
    middle.tick_params(axis='x', labelrotation=40, labelsize=8)
    right.plot([100 * value for value in report['acceptance']['by_position']], color='#e59866')
    right.set(title='draft token accepted, %, by position', xlabel='token of the caption', ylim=(0, 105))
    figure.tight_layout()
    write_atomic(target, lambda path: figure.savefig(path, dpi=110, format='png'))
    pyplot.close(figure)
