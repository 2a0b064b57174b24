"""What the demo saw on the topics, window by window. Free of ROS: `crossspec_ros.nodes.tap` fills it."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crossspec_ros.speculation.types import Caption, Draft, Stage, Verdict
from crossspec_ros.view.words import Run, standing


@dataclass(frozen=True)
class Latency:
    """The monitor's row of one window (crossspec_ros/msg/WindowLatency); ages in ms, None where not seen."""

    window_id: int
    first_draft_age_ms: float | None
    draft_age_ms: float | None
    first_partial_age_ms: float | None
    caption_age_ms: float | None
    draft_compute_ms: float | None
    stage_ms: dict[str, float]
    mode: str
    draft_over_budget: bool
    caption_over_budget: bool
    draft_deadline_misses: int
    caption_deadline_misses: int


@dataclass
class WindowRecord:
    """Everything received about one window; ages as seen by the receiver, ms after the window's end.

    The draft's age is that of the last one made from events alone.
    """

    window_id: int
    window_end_ns: int
    drafts: list[Draft] = field(default_factory=list)
    partials: int = 0
    caption: Caption | None = None
    newest: Caption | None = None
    verdict: Verdict | None = None
    latency: Latency | None = None
    draft_age_ms: float | None = None
    caption_age_ms: float | None = None

    @property
    def draft(self) -> Draft | None:
        """The last revision made from events alone; one that continues verified words is the verifier's work too."""
        return next((draft for draft in reversed(self.drafts) if draft.base_length == 0), None)

    @property
    def final(self) -> bool:
        return self.caption is not None

    def standing(self, show_untrained: bool = True) -> list[Run]:
        """The window's words as they stand now, safe for screens; with ``show_untrained`` also those of a drafter that
        was not trained for this verifier."""
        told = self.draft is not None and (show_untrained or not self.draft.other_verifier)
        return standing(self.draft.text if told else '', self.caption or self.newest)


@dataclass
class Diagnostic:
    """The newest status of one part of the graph: level 0 OK, 1 WARN, 2 ERROR, 3 STALE."""

    level: int
    message: str
    values: dict[str, str]


@dataclass(frozen=True)
class CameraInput:
    """The newest that a node told of one of its inputs (crossspec_ros/msg/FrameLatency).

    ``stage_ms``: by stage ``n``, ``p50``, ``p95`` and ``p99`` of the age since the stamp, ms.
    """

    node: str
    input: str
    topic: str
    stamps: str
    offset_ms: float | None
    stage_ms: dict[str, dict[str, float]]
    received: int
    lost: int
    used: int
    waiting: int
    dropped: dict[str, int]
    deadline_ms: float
    deadline_requested: bool
    deadlines_missed: int
    gaps_missed: int

    @property
    def key(self) -> str:
        """Names it among the inputs of a graph."""
        return f'{self.node} {self.input}'


class Recorder:
    """Collects what arrives. Call from one thread."""

    def __init__(self) -> None:
        self.windows: dict[int, WindowRecord] = {}
        self.diagnostics: dict[str, Diagnostic] = {}
        self.inputs: dict[str, CameraInput] = {}
        self.first_draft_ns: int | None = None
        self.retracted = 0
        self.confirmed = 0                                      # captions that said that the words before still hold

    def _window(self, window_id: int, window_end_ns: int) -> WindowRecord:
        return self.windows.setdefault(window_id, WindowRecord(window_id, window_end_ns))

    def add_draft(self, draft: Draft, age_ms: float, received_ns: int) -> WindowRecord:
        """A draft; ``received_ns`` is monotonic. Revisions that arrive out of order are put in order."""
        if self.first_draft_ns is None:
            self.first_draft_ns = received_ns
        window = self._window(draft.window_id, draft.window_end_ns)
        window.drafts.append(draft)
        window.drafts.sort(key=lambda item: item.revision)
        if draft.base_length == 0:
            window.draft_age_ms = age_ms
        return window

    def add_caption(self, caption: Caption, age_ms: float) -> WindowRecord:
        """A caption of any stage."""
        if caption.stage is Stage.STILL_VALID:                  # no window of its own
            self.confirmed += 1
            return self._window(caption.window_id, caption.window_end_ns) if caption.window_id in self.windows \
                else WindowRecord(caption.window_id, caption.window_end_ns, newest=caption)
        window = self._window(caption.window_id, caption.window_end_ns)
        if caption.stage is Stage.RETRACTED:
            self.retracted += 1
            window.newest = window.caption = None
            return window
        window.newest = caption
        if caption.stage is Stage.PARTIAL:
            window.partials += 1
        if caption.stage is Stage.FINAL:
            window.caption, window.caption_age_ms = caption, age_ms
        return window

    def add_verdict(self, verdict: Verdict) -> None:
        """A verdict; its counts are those of the whole window so far, so the last one holds."""
        self._window(verdict.window_id, verdict.window_end_ns).verdict = verdict

    def add_latency(self, latency: Latency, window_end_ns: int) -> None:
        """The monitor's row; windows that only the monitor knows (neither draft nor caption) are kept too."""
        self._window(latency.window_id, window_end_ns).latency = latency

    def add_input(self, camera: CameraInput) -> None:
        """What a node tells of an input; the newest holds."""
        self.inputs[camera.key] = camera

    def add_diagnostic(self, name: str, status: Diagnostic) -> None:
        self.diagnostics[name] = status

    def keep(self, count: int) -> None:
        """Forget all but the newest windows."""
        for key in sorted(self.windows)[:-count]:
            del self.windows[key]

    def ordered(self) -> list[WindowRecord]:
        """All windows, oldest first."""
        return [self.windows[key] for key in sorted(self.windows)]

    def only(self, window_ids: Iterable[int]) -> Recorder:
        """The same record with some of its windows."""
        part = Recorder()
        part.windows = {window_id: self.windows[window_id] for window_id in window_ids}
        part.inputs = self.inputs
        part.diagnostics, part.first_draft_ns, part.retracted = self.diagnostics, self.first_draft_ns, self.retracted
        part.confirmed = self.confirmed
        return part
