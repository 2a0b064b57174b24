"""Learning while driving: a copy of the drafter learns from verified windows, and takes over where it drafts better.

Three drafters of one shape: the *active* one drafts and never changes; the *pupil* takes training steps; a *rival* is
the pupil as it was at some moment, judged against the active one on the windows that come after that moment. No window
is learned from before all have been judged on it (Dawid, Present position and potential developments: some personal
views on the prequential approach, 1984). What takes over is the very rival that was judged.

Nothing here knows of processes, clocks or ROS. Letters: B windows, C, H, W the voxel grid, T tokens, P places that
count.
"""
from __future__ import annotations

import copy
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crossspec_ros.config import OnlineConfig
from crossspec_ros.learn.batches import Said, moved, word_arrays
from crossspec_ros.learn.losses import forward_kl
from crossspec_ros.models.drafter import ESCAPE, EventDrafter
from crossspec_ros.pipeline.learning_messages import Better, Heard, Weights, weights_of, with_weights

BATCH = 8                        # windows of a step: a piece of work must be short
FEWEST = 8                       # windows to learn from
_RECENT = 32                     # windows; half of a batch is drawn from the newest so many
_STEPS_A_WINDOW = 8              # a car that stands still learns nothing by heart
_STEPS_A_RIVAL = 32              # of the pupil before a new rival is made of it
_WARM_UP = 10                    # steps in which the learning rate rises
_SURE_FROM = 12                  # windows before a difference may be clear
_SURE = 2.0                      # standard errors of the difference in passes
_GAIN = 0.02                     # of the passes: less is not worth a change
_BETAS, _CLIP, _WEIGHT_DECAY = (0.9, 0.98), 1.0, 0.01


@dataclass(frozen=True)
class Score:
    """A window: ``tokens`` that the verifier said, and passes that they take with drafts of either drafter."""

    tokens: int
    active: int
    rival: int | None


def tau(tokens: Sequence[int], passes: Sequence[int]) -> float | None:
    """Tokens a pass; None without any."""
    return sum(tokens) / sum(passes) if sum(passes) else None


class OnlineLearner:
    """Hears verified windows and works in short pieces.

    ``ring_bytes`` bounds what is kept of windows. Which windows are drawn for a step follows from ``seed``.
    """

    def __init__(self, drafter: EventDrafter, settings: OnlineConfig, ring_bytes: int, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._settings, self._ring_bytes = settings, ring_bytes
        self._rng = np.random.default_rng(seed)
        self._active = drafter.eval()
        self._waiting: deque[Heard] = deque()
        self._ring: deque[Heard] = deque()
        self._nbytes = 0
        self._steps_due = 0
        self._longest = 0                                       # tokens of the longest caption
        self._missing: set[int] = set()                         # tokens without a row
        self._verifier_key = ''
        self._better: Better | None = None
        self._recent: deque[Score] = deque(maxlen=settings.judge_windows)
        self._begin_again()

    def _begin_again(self) -> None:
        """A new pupil, which is a copy of the active drafter."""
        self._pupil = copied(self._active)
        trained = list(self._pupil.parameters())
        self._optimizer = torch.optim.AdamW(trained, lr=self._settings.rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY)
        self._age = self._since_rival = 0                       # steps
        self._drop_rival()

    def _drop_rival(self) -> None:
        self._rival: EventDrafter | None = None
        self._scores: list[Score] = []

    # ---- what comes

    def hear(self, window: Heard) -> None:
        """A verified window, to be judged by and then learned from; the oldest go where memory is full."""
        if window.verifier_key != self._verifier_key:
            if self._verifier_key:                              # what another verifier says is another language
                self.counts['verifier_changed'] += 1
                self.counts['unused'] += len(self._waiting)
                self._waiting.clear()
                self._ring.clear()
                self._recent.clear()
                self._nbytes = self._longest = 0
                self._begin_again()
            self._verifier_key = window.verifier_key
        self._waiting.append(window)
        self._nbytes += window.nbytes
        while self._nbytes > self._ring_bytes and len(self._ring) + len(self._waiting) > 1:
            waits = not self._ring
            oldest = (self._waiting if waits else self._ring).popleft()
            self.counts['unused'] += waits
            self._nbytes -= oldest.nbytes

    def roll_back(self, weights: Weights) -> None:
        """Another drafter is active; the pupil begins again as its copy."""
        self._active = with_weights(copied(self._active), weights)
        self._better = None
        self._recent.clear()
        self._begin_again()

    def take_better(self) -> Better | None:
        """The rival that took over since this was asked last; `Better.generation` is for the caller to set."""
        better, self._better = self._better, None
        return better

    # ---- work

    def work(self) -> bool:
        """One short piece: judge by a window, or take a step; False where there is nothing to do."""
        if self._waiting:
            self._judge(self._waiting.popleft())
            return True
        if self._steps_due > 0 and len(self._ring) >= FEWEST:
            self._step()
            return True
        return False

    def _judge(self, window: Heard) -> None:
        self._longest = max(self._longest, len(window.token_ids))
        said = self._said(window)
        right = right_places(self._active, window, said)
        active = count_passes(right)
        rival = None if self._rival is None else count_passes(right_places(self._rival, window, said))
        score = Score(len(right), active, rival)
        self._recent.append(score)
        self._note_missing(said)
        self._ring.append(window)
        self._steps_due = min(self._steps_due + _STEPS_A_WINDOW, 4 * _STEPS_A_WINDOW)
        self.counts['judged'] += 1
        if rival is not None:
            self._scores.append(score)
            self._decide()
        elif self._since_rival >= _STEPS_A_RIVAL:
            self._rival, self._since_rival = copied(self._pupil), 0

    def _note_missing(self, said: Said) -> None:
        drafter, words = self._active, said.token_ids.tolist()
        missing = [token for token, row in zip(words, drafter.rows_of(words), strict=True)
                   if drafter.config.kept_ids and row == ESCAPE]
        self.counts.update(words=len(words), words_missing=len(missing))
        self._missing.update(missing)

    def _decide(self) -> None:
        """Whether the rival takes over, is thrown away with the pupil, or makes room for a newer one."""
        most = self._settings.judge_windows
        verdict = compare(self._scores) if len(self._scores) >= min(_SURE_FROM, most) else 0
        if verdict > 0:
            self._take_over()
        elif verdict < 0:
            self.counts['thrown_away_worse'] += 1
            self._begin_again()
        elif len(self._scores) >= most:
            self.counts['undecided'] += 1
            self._drop_rival()

    def _take_over(self) -> None:
        tokens = [score.tokens for score in self._scores]
        self._active = self._rival
        self._better = Better(weights_of(self._active), self._verifier_key, 0,
                              tau(tokens, [score.active for score in self._scores]),
                              tau(tokens, [score.rival for score in self._scores]), len(self._scores))
        self._recent.clear()
        self._recent.extend(Score(score.tokens, score.rival, None) for score in self._scores)
        self._drop_rival()

    def _step(self) -> None:
        self._steps_due -= 1
        for group in self._optimizer.param_groups:
            group['lr'] = self._settings.rate * min(1.0, (self._age + 1) / _WARM_UP)
        loss = self._loss()
        if not math.isfinite(float(loss.detach())):
            self.counts['thrown_away_nan'] += 1
            self._begin_again()
            return
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._pupil.parameters(), _CLIP)
        self._optimizer.step()
        self._age, self._since_rival = self._age + 1, self._since_rival + 1
        self.counts['steps'] += 1

    def _loss(self) -> Tensor:
        count, rng = len(self._ring), self._rng
        rows = np.concatenate((rng.integers(max(0, count - _RECENT), count, BATCH // 2),
                               rng.integers(0, count, BATCH - BATCH // 2)))
        windows = [self._ring[row] for row in rows]
        looks = np.stack([window.looks[look] for window, look in zip(windows, rng.integers(0, 2, BATCH))])
        voxel = torch.from_numpy(moved(looks.astype(np.float32), rng))                                # (B, C, H, W)
        tokens, wanted, counts = words_of(self._pupil, windows, [self._said(window) for window in windows])
        logits = self._pupil.logits(self._pupil(voxel, tokens)[counts])                               # (P, R)
        rows_wanted = wanted[counts][:, None]                                                         # (P, 1)
        return forward_kl(logits, rows_wanted, torch.ones_like(rows_wanted, dtype=torch.float32)).mean()

    def _said(self, window: Heard) -> Said:
        """What the verifier said, with the end token where it is known to have ended there.

        A verdict does not say whether the verifier ended a caption or the limit of its length did. A longer caption
        says that it was no limit.
        """
        ids = window.token_ids
        if len(ids) < self._longest:
            ids = (*ids, self._active.config.eos_token_id)
        return said_certainly(ids)

    # ---- what is told

    @property
    def taken(self) -> int:
        """Windows that were judged by, or could not be used."""
        return self.counts['judged'] + self.counts['unused']

    @property
    def active(self) -> EventDrafter:
        """Who drafts; it never changes, another takes its place."""
        return self._active

    def statistics(self) -> dict[str, int | float | str]:
        """Counts; tokens a pass of the active drafter over the last windows, and of both since there is a rival."""
        values: dict[str, int | float | str] = dict.fromkeys(
            ('judged', 'steps', 'undecided', 'unused', 'thrown_away_worse', 'thrown_away_nan', 'verifier_changed',
             'words', 'words_missing'), 0)
        values |= {**self.counts, 'words_missing_kinds': len(self._missing), 'windows_kept': len(self._ring),
                   'windows_mb': round(self._nbytes / 2**20, 1)}
        scores = self._scores
        taus = {'tau': tau([score.tokens for score in self._recent], [score.active for score in self._recent]),
                'tau_judged_active': tau([score.tokens for score in scores], [score.active for score in scores]),
                'tau_judged_rival': tau([score.tokens for score in scores], [score.rival for score in scores])}
        return values | {name: round(value, 3) for name, value in taus.items() if value is not None}


def copied(drafter: EventDrafter) -> EventDrafter:
    """A drafter of the same weights and its own tensors, with the same tokenizer."""
    return copy.deepcopy(drafter, {id(drafter.tokenizer): drafter.tokenizer})


def said_certainly(ids: Sequence[int]) -> Said:
    """An answer of which only the tokens themselves are known."""
    token_ids = np.array(ids, np.int32)
    return Said(token_ids, token_ids[:, None], np.ones((len(token_ids), 1), np.float32))


def words_of(drafter: EventDrafter, windows: Sequence[Heard], said: Sequence[Said]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows to read (B, T), rows that come next (B, T), and which places count, bool (B, T)."""
    tokens, likely, probs = word_arrays(drafter, [drafter.question_ids(window.prompt) for window in windows], said)
    return torch.from_numpy(tokens), torch.from_numpy(likely[..., 0]), torch.from_numpy(probs[..., 0] > 0)


@torch.inference_mode()
def right_places(drafter: EventDrafter, window: Heard, said: Said) -> np.ndarray:
    """At which places of what was said the drafter would have said the same after the words before, bool (T,)."""
    tokens, wanted, counts = words_of(drafter, [window], [said])
    voxel = torch.from_numpy(window.looks[-1:].astype(np.float32))                                    # (1, C, H, W)
    best = drafter.logits(drafter(voxel, tokens)[counts]).argmax(-1)
    right = best == wanted[counts]
    if drafter.config.kept_ids:
        right &= best != ESCAPE                                 # where it has no word its draft ends
    return right.numpy()


def count_passes(right: np.ndarray) -> int:
    """Passes of the verifier where each draft goes on from what was committed and ends at the first wrong token.

    A pass ends with the token that was not drafted right; the last one may end with the caption instead.
    """
    return int((~right).sum()) + int(bool(right[-1]))


def compare(scores: Sequence[Score]) -> int:
    """1: the rival takes clearly fewer passes on these windows than the active drafter, -1: clearly more, 0: neither.

    Clearly: by more than two standard errors of the sum of differences window by window, and by 2% of the passes.
    """
    saved = np.array([score.active - score.rival for score in scores], np.float64)
    error = float(saved.std(ddof=1)) * math.sqrt(len(saved)) if len(saved) > 1 else math.inf
    total, most = float(saved.sum()), sum(score.active for score in scores)
    clear = abs(total) > _SURE * error and abs(total) >= _GAIN * most
    return int(math.copysign(1, total)) if clear and total else 0
