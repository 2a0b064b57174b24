"""The live view in Rerun: pictures, words as markdown, series, states and a log, laid out, in a browser or a file."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.view.feed import ACCEPTANCE, AGES, DROPS, Corrected, Line, Look, Value, Words, newest_first
from crossspec_ros.view.safe import markdown
from crossspec_ros.view.words import Fate, Run

TIMELINE = 'time'
_APPLICATION = 'crossspec'
_SHOWN_S = 60.0                                                 # of the series
_TAKEN_IN_S = 0.25                                              # how long a look waits for the one before
_END_S = 3.0
_LEFT_OPEN: list[rr.RecordingStream] = []                     # until the process ends
_MARKS = {Fate.KEPT: '**', Fate.ADDED: '***', Fate.STRUCK: '~~', Fate.OPEN: '*'}
_COLOURS = {'ok': 0x2E7D4FFF, 'warn': 0xC77F1AFF, 'error': 0xC0392BFF, 'stale': 0x6B7480FF}
_LINES = {'draft': 0xE08A1EFF, 'first verified words': 0x7FB2DDFF, 'caption': 0x1F8FE0FF}     # as in the report
_LEVELS = {'ok': 'INFO', 'warn': 'WARN', 'error': 'ERROR', 'stale': 'WARN'}


def layout() -> rrb.Blueprint:
    """What stands where when the page is opened."""
    last = [rrb.VisibleTimeRange(TIMELINE, start=rrb.TimeRangeBoundary.cursor_relative(seconds=-_SHOWN_S),
                                 end=rrb.TimeRangeBoundary.cursor_relative())]
    pictures = rrb.Horizontal(rrb.Spatial2DView(origin='camera', name='Camera'),
                              rrb.Spatial2DView(origin='events', name='Events'))
    texts = [rrb.TextDocumentView(origin='caption', name='Caption: verified words bold, drafted ones slanted'),
             rrb.TextDocumentView(origin='corrected', name='What the verifier struck out and put in')]
    series = [rrb.TimeSeriesView(origin=group, name=name, time_ranges=last, axis_y=axis,
                                 plot_legend=rrb.PlotLegend('LeftTop')) for group, name, axis in (
        (AGES, 'Age, ms after the end of the window', None),
        (ACCEPTANCE, 'Draft tokens accepted, %, last 20 windows', rrb.ScalarAxis(range=(-5.0, 105.0))),
        (DROPS, 'Dropped, since the start', None))]
    health = rrb.Tabs(rrb.StateTimelineView(origin='states', name='Nodes', time_ranges=last),
                      rrb.TextLogView(origin='log', name='Log'), active_tab=0)
    return rrb.Blueprint(
        rrb.Horizontal(rrb.Vertical(pictures, *texts, row_shares=[5, 2, 4]), rrb.Vertical(*series, health),
                       column_shares=[3, 2]),
        rrb.TimePanel(state='collapsed', timeline=TIMELINE, play_state='following'),
        rrb.SelectionPanel(state='hidden'), rrb.BlueprintPanel(state='hidden'), auto_views=False, auto_layout=False)


def as_markdown(runs: Iterable[Run]) -> str:
    """Words as they stand: drafted ones slanted, verified ones strong, put in both, struck ones struck out."""
    return ' '.join(f'{_MARKS[fate]}{text}{_MARKS[fate]}' for fate, text in
                    ((fate, markdown(text)) for fate, text in runs) if text.strip())


def caption_page(words: Words) -> str:
    """The document of the newest words."""
    runs = [Run(Fate.KEPT, words.verified), Run(Fate.OPEN, words.drafted)]
    question = f'*{markdown(words.question)}*\n\n' if words.question.strip() else ''
    return f'{question}{as_markdown(runs) or "…"}\n\n{markdown(words.note)}\n'


def corrected_page(corrected: Iterable[Corrected]) -> str:
    """The document of the last windows, newest first."""
    rows = [f'{markdown(each.clock)} · {markdown(each.ages) or "–"}  \n{as_markdown(each.runs)}'
            for each in newest_first(corrected)]
    return '\n\n'.join(rows) or '…'


class RerunScreen:
    """One recording stream: to a server (``url``), or into a file (``path``) of at most ``limit_bytes``."""

    def __init__(self, *, url: str = '', path: str = '', limit_bytes: int = 0, name: str = _APPLICATION) -> None:
        self._path = Path(path) if path else None
        self._limit_bytes = limit_bytes
        self._stream = rr.RecordingStream(name)
        self._stream.set_log_tick_enabled(False)
        self._stream.set_log_time_enabled(False)
        self._states: dict[str, str] = {}
        self._styled: set[str] = set()
        self.full = False                                       # the file has reached its limit
        try:
            if self._path is not None:
                self._stream.save(self._path, default_blueprint=layout())
            else:
                self._stream.connect_grpc(url, default_blueprint=layout())
        except (RuntimeError, OSError) as error:
            raise CrossSpecError(f'{path or url} cannot be written by Rerun: {error}') from error

    def show(self, look: Look) -> bool:
        """Log a look once the one before is out of our hands: nothing queues up for a server that stands still."""
        if self.full:
            return True
        if not self._flushed(_TAKEN_IN_S):
            return False
        self._at(look.stamp_ns)
        for name, jpeg in look.pictures.items():
            self._stream.log(name, rr.EncodedImage(contents=jpeg, media_type='image/jpeg'))
        if look.words is not None:
            self._document('caption', caption_page(look.words))
            self._document('corrected', corrected_page(look.words.corrected))
        for name, state in look.states.items():
            if name not in self._states:
                self._stream.log(['states', name], rr.StateConfiguration(
                    values=list(_COLOURS), labels=list(_COLOURS),
                    colors=np.array([*_COLOURS.values()], np.uint32)), static=True)
            if self._states.get(name) != state:
                self._states[name] = state
                self._stream.log(['states', name], rr.StateChange(state=state))
        for value in look.values:
            self._value(value)
        for line in look.lines:
            self._line(line)
        if self._path is not None and self._limit_bytes and self._path.stat().st_size > self._limit_bytes:
            self.full = True
            self.close()
        return True

    def _at(self, stamp_ns: int) -> None:
        self._stream.set_time(TIMELINE, timestamp=np.datetime64(stamp_ns, 'ns'))

    def _document(self, where: str, text: str) -> None:
        self._stream.log(where, rr.TextDocument(text, media_type=rr.MediaType.MARKDOWN))

    def _value(self, value: Value) -> None:
        if value.name in _LINES and value.name not in self._styled:
            self._styled.add(value.name)
            self._stream.log([value.group, value.name], rr.SeriesLines(colors=_LINES[value.name], widths=2.0),
                             static=True)
        self._at(value.stamp_ns)
        self._stream.log([value.group, value.name], rr.Scalars(value.value))

    def _line(self, line: Line) -> None:
        self._at(line.stamp_ns)
        self._stream.log('log', rr.TextLog(f'{line.source}: {line.text}', level=_LEVELS[line.level]))

    def _flushed(self, timeout_s: float) -> bool:
        try:
            self._stream.flush(timeout_sec=timeout_s)
        except Exception:  # noqa: BLE001 - Rerun raises ValueError or RuntimeError for a server that does not answer
            return False
        return True

    def close(self) -> None:
        """What was shown is in the file, or with the server; a server that stands still is not waited for."""
        self._flushed(_END_S)
        if self._path is not None:
            self._stream.disconnect()
        else:
            # To disconnect, or to be collected, a stream waits for its server, which may be dead, without end.
            _LEFT_OPEN.append(self._stream)
