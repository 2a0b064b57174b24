"""What is on the screen: the newest window's text, how much of it is verified, and in which mode the graph is."""
from __future__ import annotations

from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage
from crossspec_ros.view.words import remainder

_KEPT_NS = 10_000_000_000


class Shown:
    """Follows drafts and captions; tells what to show. Old text and text taken back is not shown.

    The mode follows from what comes: with no caption of the newest windows the text is the drafter's alone
    (draft_only).
    """

    def __init__(self, stale_ns: int, stride_ns: int) -> None:
        self.stale_ns, self._stride_ns = stale_ns, stride_ns
        self.reset()

    def reset(self) -> None:
        """Time jumped: nothing is shown."""
        self._draft: Draft | None = None
        self._caption: Caption | None = None

    def add_draft(self, draft: Draft) -> None:
        """A draft; an older window or revision than the newest is ignored."""
        kept = self._draft
        if kept is None or (draft.window_id, draft.revision) >= (kept.window_id, kept.revision) \
                or draft.window_end_ns < kept.window_end_ns - _KEPT_NS:
            self._draft = draft

    def add_caption(self, caption: Caption) -> None:
        """A caption; one that is retracted takes all text off the screen."""
        kept = self._caption
        if caption.stage is Stage.RETRACTED:
            self.reset()
        elif kept is None or caption.window_id >= kept.window_id \
                or caption.window_end_ns < kept.window_end_ns - _KEPT_NS:
            self._caption = caption

    @property
    def draft(self) -> Draft | None:
        """The newest draft."""
        return self._draft

    @property
    def caption(self) -> Caption | None:
        """The newest caption."""
        return self._caption

    def text(self, now_ns: int) -> tuple[str, str]:
        """Verified and unverified text of the newest window that has any and is not stale."""
        draft = self._draft if self._draft and now_ns - self._draft.window_end_ns <= self.stale_ns else None
        caption = self._caption if self._caption and now_ns - self._caption.window_end_ns <= self.stale_ns else None
        if caption is None or (draft is not None and draft.window_id > caption.window_id):
            return '', draft.text if draft is not None else ''
        if caption.stage in (Stage.FINAL, Stage.STILL_VALID):
            return caption.text, ''
        verified = caption.text[:caption.stable_length]
        same = draft is not None and draft.window_id == caption.window_id
        return verified, remainder(draft.text, verified) if same else ''

    def mode(self, now_ns: int) -> Mode | None:
        """The mode of the newest windows; None while there is nothing fresh."""
        fresh_ns = max(self.stale_ns, 3 * self._stride_ns)
        if self._caption is not None and now_ns - self._caption.window_end_ns <= fresh_ns:
            return self._caption.mode
        if self._draft is not None and now_ns - self._draft.window_end_ns <= fresh_ns:
            return Mode.DRAFT_ONLY
        return None
