"""What is on the screen: the newest window's text, how much of it is verified, and in which mode the graph is."""
from __future__ import annotations

from crossspec_ros.speculation.drafter import NOT_TRAINED
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage
from crossspec_ros.view.safe import clean
from crossspec_ros.view.words import remainder

_KEPT_NS = 10_000_000_000


class Shown:
    """Follows drafts and captions; tells what to show. Old text and text taken back is not shown.

    The mode follows from what comes: with no caption of the newest windows the text is the drafter's alone
    (draft_only). Words of a drafter that was not trained for this verifier are shown only with ``show_untrained``;
    the note says so either way.
    """

    def __init__(self, stale_ns: int, stride_ns: int, show_untrained: bool = False) -> None:
        self.stale_ns, self._stride_ns, self._show_untrained = stale_ns, stride_ns, show_untrained
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
        """Verified and unverified text of the newest window that has any and is not stale, safe for screens."""
        draft = self._draft if self._draft and now_ns - self._draft.window_end_ns <= self.stale_ns else None
        if draft is not None and draft.other_verifier and not self._show_untrained:
            draft = None
        caption = self._caption if self._caption and now_ns - self._caption.window_end_ns <= self.stale_ns else None
        if caption is None or (draft is not None and draft.window_id > caption.window_id):
            return '', clean(draft.text) if draft is not None else ''
        if caption.stage in (Stage.FINAL, Stage.STILL_VALID):
            return clean(caption.text), ''
        verified = caption.text[:caption.stable_length]
        same = draft is not None and draft.window_id == caption.window_id
        return clean(verified), remainder(draft.text, verified) if same else ''

    def mode(self, now_ns: int) -> Mode | None:
        """The mode of the newest windows; None while there is nothing fresh."""
        fresh_ns = max(self.stale_ns, 3 * self._stride_ns)
        if self._caption is not None and now_ns - self._caption.window_end_ns <= fresh_ns:
            return self._caption.mode
        if self._draft is not None and now_ns - self._draft.window_end_ns <= fresh_ns:
            return Mode.DRAFT_ONLY
        return None

    def note(self, now_ns: int) -> str:
        """The line of figures under the text: mode, and what the newest draft and caption took."""
        mode = self.mode(now_ns)
        if mode is None:
            return 'waiting for drafts and captions'
        parts = [mode.value]
        if self._draft is not None:
            parts.append(f'draft {self._draft.compute_ms:.0f} ms')
            parts += [f'drafter {NOT_TRAINED}'] if self._draft.other_verifier else []
        caption = self._caption
        if caption is not None and caption.stage is Stage.STILL_VALID:
            parts.append(f'still valid, {caption.words_age_ms / 1000:.1f} s old')
        elif caption is not None and caption.target_passes:
            passes = f'{caption.target_passes} pass{"es" if caption.target_passes > 1 else ""}'
            parts.append(f'caption {caption.answer_ms:.0f} ms, {passes}, '
                         f'{caption.accepted} of {caption.drafted} draft tokens')
        return '   '.join(parts)
