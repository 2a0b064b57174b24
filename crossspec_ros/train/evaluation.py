"""What the pair sees on drives it has never seen: slots, texts, changes, tau, acceptance, sizes, speed."""
from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import VideoLlavaForConditionalGeneration

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.representations import voxel_grid
from crossspec_ros.models.builtin import model_path
from crossspec_ros.models.drafter import EventDrafter, load_drafter
from crossspec_ros.models.tokenizer import load_tokenizer, tokenizer_key
from crossspec_ros.train.dataset import resize_frames
from crossspec_ros.train.features import tower_features
from crossspec_ros.train.greedy import greedy_answers
from crossspec_ros.train.loop import progress_bar
from crossspec_ros.train.tau import TauCount, as_draft, count_window, make_proposer
from crossspec_ros.train.text_scores import text_scores
from crossspec_ros.train.verifier_config import IMAGE_SIZE
from crossspec_ros.train.vision_stage import pixels
from crossspec_ros.world import DESCRIBE, EVALUATION_SEED, SLOTS, World, caption, parse_slots

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
DRIVE_WINDOWS = 25
EVENT_SLOTS = ('object', 'place', 'motion', 'ego')
SOURCES: dict[str, tuple[str, ...]] = {
    'event_drafter': ('drafts',), 'previous': ('previous',), 'memory': ('memory',),
    'merged': ('memory', 'previous', 'drafts', 'recycling')}


@dataclass(frozen=True)
class Pair:
    """Both models of a pair; raises CrossSpecError when their tokenizers differ."""

    model: VideoLlavaForConditionalGeneration
    drafter: EventDrafter
    tokenizer: Tokenizer

    @classmethod
    def load(cls, verifier: str | Path, drafter: str | Path) -> Pair:
        """From checkpoint folders, or ``builtin``."""
        folder = model_path(verifier, 'verifier')
        tokenizer, draft = load_tokenizer(folder), load_drafter(drafter)
        if tokenizer_key(tokenizer) != draft.tokenizer_key:
            raise CrossSpecError(f'the drafter was trained for the tokenizer {draft.tokenizer_key}, the verifier has '
                                 f'{tokenizer_key(tokenizer)}: they do not belong together')
        try:
            model = VideoLlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        except (OSError, RuntimeError, ValueError) as error:
            raise CrossSpecError(f'cannot load the verifier from {folder} ({error}): copy or train it again') from error
        return cls(model, draft, tokenizer)


@dataclass(frozen=True)
class Window:
    """One evaluated window. ``changed``: its truth differs from that of the window before in the same drive."""

    seed: int
    second: int
    truth: dict[str, str]
    target_ids: tuple[int, ...]
    target: str
    draft: str
    voxel: np.ndarray
    frame: np.ndarray
    previous_truth: dict[str, str] | None
    previous_ids: tuple[int, ...]

    @property
    def changed(self) -> bool:
        return self.previous_truth is not None and self.previous_truth != self.truth


def _drive(pair: Pair, seed: int, windows: int, pace: str, event_hz: int) -> list[Window]:
    """One drive's windows with the verifier's greedy captions and the drafter's drafts."""
    world, out = World(seed, event_hz=event_hz, pace=pace), []
    clips, frames, voxels = [], [], []
    for second in range(1, windows + 1):
        clip, end = world.clip(float(second)), second * _SECOND_NS
        clips.append(clip.slots)
        frames.append(clip.frames)
        bins, height, width = pair.drafter.shape
        voxels.append(voxel_grid(clip.events, end - _SECOND_NS, end, bins=bins, shape=(height, width)))
    ids: list[tuple[int, ...]] = []
    for start in range(0, windows, 8):
        seen = np.stack([resize_frames(clip, IMAGE_SIZE) for clip in frames[start:start + 8]])
        found = greedy_answers(pair.model, pair.tokenizer, tower_features(pair.model, pixels(seen)), [DESCRIBE])
        ids += [tuple(one[DESCRIBE]) for one in found]
    for k in range(windows):
        out.append(Window(seed, k + 1, clips[k], ids[k], pair.tokenizer.decode(list(ids[k])),
                          pair.drafter.draft(voxels[k], prompt=DESCRIBE).text, voxels[k], frames[k][-1],
                          clips[k - 1] if k else None, ids[k - 1] if k else ()))
    return out


def evaluated_windows(pair: Pair, count: int, first_seed: int = EVALUATION_SEED, pace: str = 'brisk',
                      event_hz: int = 100) -> list[Window]:
    """``count`` windows of drives from ``first_seed`` on, ``DRIVE_WINDOWS`` a drive."""
    if count < 2:
        raise CrossSpecError(f'windows must be >= 2, got {count}')
    windows: list[Window] = []
    with progress_bar() as bar:
        task = bar.add_task('windows', total=count, note='')
        for drive in range(-(-count // DRIVE_WINDOWS)):
            windows += _drive(pair, first_seed + drive, min(DRIVE_WINDOWS, count - len(windows)), pace, event_hz)
            bar.update(task, completed=len(windows))
    return windows


def slot_table(windows: Sequence[Window]) -> dict[str, dict[str, float]]:
    """Share of right slots: verifier, drafter, the commonest value, the truth of the window before."""
    table: dict[str, dict[str, float]] = {}
    followers = [window for window in windows if window.previous_truth is not None]
    truths = [window.truth for window in windows]
    said = [(parse_slots(window.target), parse_slots(window.draft)) for window in windows]
    for name in SLOTS:
        commonest = Counter(window.truth[name] for window in windows).most_common(1)[0][1]
        table[name] = {
            'verifier': _share(target[name] == true[name] for true, (target, _) in zip(truths, said, strict=True)),
            'drafter': _share(draft[name] == true[name] for true, (_, draft) in zip(truths, said, strict=True)),
            'commonest': round(commonest / len(windows), 4),
            'previous': _share(window.previous_truth[name] == window.truth[name] for window in followers)}
    return table


def _share(hits: Sequence[bool]) -> float:
    values = list(hits)
    return round(sum(values) / len(values), 4) if values else 0.0


def blind_colour(windows: Sequence[Window]) -> dict[str, float | int]:
    """Does the drafter guess colours better than chance? Only windows that have a coloured road user and a draft of
    one.

    ``chance`` is what always naming the commonest colour among them would score.
    """
    said = [(window.truth['colour'], parse_slots(window.draft)['colour']) for window in windows
            if window.truth['colour'] != 'none']
    said = [(true, guess) for true, guess in said if guess not in ('', 'none')]
    if not said:
        return {'windows': 0, 'drafter': 0.0, 'chance': 0.0}
    commonest = Counter(true for true, _ in said).most_common(1)[0][1]
    return {'windows': len(said), 'drafter': _share(true == guess for true, guess in said),
            'chance': round(commonest / len(said), 4)}


def change_table(windows: Sequence[Window]) -> dict[str, float]:
    """Does the verifier's caption change when the scene does, and stay when it stays?"""
    followers = [window for window in windows if window.previous_truth is not None]
    changed = [window for window in followers if window.changed]
    still = [window for window in followers if not window.changed]
    return {'scene_changes': len(changed),
            'caption_changed_with_scene': _share(w.target_ids != w.previous_ids for w in changed),
            'caption_stayed_with_scene': _share(w.target_ids == w.previous_ids for w in still)}


def tau_table(pair: Pair, windows: Sequence[Window], max_nodes: int, alternatives: int) -> dict[str, object]:
    """Tau by source, over all windows and over those where the scene changed; acceptance of the drafter by position."""
    counts = {name: (TauCount(), TauCount()) for name in SOURCES}
    for name, sources in SOURCES.items():
        proposer = make_proposer(sources, pair.tokenizer.get_vocab_size(), pair.drafter.tokenizer_key)
        before = None
        for number, window in enumerate(windows, 1):
            if name == 'previous' and before != window.seed:
                proposer.reset()                                       # another drive has no caption before
            before = window.seed
            redraft = _redrafter(pair, window, number, alternatives) if 'drafts' in sources else None
            one = TauCount()
            count_window(proposer, number, 'describe', window.target_ids, one, max_nodes=max_nodes, redraft=redraft)
            counts[name][0].add(one)
            if window.changed:
                counts[name][1].add(one)
    table = {name: _rounded(both[0].tau) for name, both in counts.items()}
    at_changes = {name: _rounded(both[1].tau) for name, both in counts.items()}
    drafted = counts['event_drafter'][0]
    by_position = [round(right / offered, 3) for right, offered in zip(drafted.right, drafted.offered, strict=True)]
    return {'tau': table, 'tau_at_scene_changes': at_changes, 'acceptance_by_position': by_position}


def _redrafter(pair: Pair, window: Window, number: int, alternatives: int) -> object:
    revision = iter(range(1_000))

    def redraft(committed: Sequence[int]) -> object:
        draft = pair.drafter.draft(window.voxel, prompt=DESCRIBE, prefix_ids=committed, alternatives=alternatives)
        return as_draft(number, next(revision), 'describe', pair.drafter.tokenizer_key, committed, draft.token_ids,
                        draft.parents, draft.weights)
    return redraft


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def acceptance_by_slot(windows: Sequence[Window]) -> dict[str, float]:
    """How often the draft names the slot as the verifier does."""
    said = [(parse_slots(window.target), parse_slots(window.draft)) for window in windows]
    return {name: _share(target[name] == draft[name] for target, draft in said) for name in SLOTS}


def drafter_speed(pair: Pair, windows: Sequence[Window]) -> dict[str, float | None]:
    """Median ms to the first token and to the whole draft, in this process with torch's present threads."""
    first, whole = [], []
    for window in windows[:40]:
        start = time.perf_counter_ns()
        for number, _ in enumerate(pair.drafter.draft_stream(window.voxel, prompt=DESCRIBE)):
            if number == 0:
                first.append((time.perf_counter_ns() - start) / 1e6)
        whole.append((time.perf_counter_ns() - start) / 1e6)
    return {'drafter_first_token_ms': round(float(np.median(first)), 2),
            'drafter_draft_ms': round(float(np.median(whole)), 2)}


@torch.inference_mode()
def verifier_speed(pair: Pair, windows: Sequence[Window]) -> dict[str, float]:
    """Median ms of encoding 8 frames, of prefill, and of plain greedy decoding of a caption, one window at a time."""
    frames = pixels(np.stack([resize_frames(windows[0].frame[None], IMAGE_SIZE)[0]] * 8))[None]
    encode, prefill, whole = [], [], []
    for _ in range(5):
        start = time.perf_counter_ns()
        features = tower_features(pair.model, frames)
        encode.append((time.perf_counter_ns() - start) / 1e6)
        start = time.perf_counter_ns()
        greedy_answers(pair.model, pair.tokenizer, features, [DESCRIBE], max_tokens=1)
        prefill.append((time.perf_counter_ns() - start) / 1e6)
        start = time.perf_counter_ns()
        found = greedy_answers(pair.model, pair.tokenizer, features, [DESCRIBE])
        whole.append((time.perf_counter_ns() - start) / 1e6)
    decode = float(np.median(whole)) - float(np.median(prefill))
    return {'encode_ms': round(float(np.median(encode)), 1), 'prefill_ms': round(float(np.median(prefill)), 1),
            'decode_ms': round(decode, 1), 'decoded_tokens': len(found[0][DESCRIBE]),
            'prefill_share': round((float(np.median(encode)) + float(np.median(prefill))) / (
                float(np.median(encode)) + float(np.median(whole))), 3)}


def parameters(pair: Pair) -> dict[str, int]:
    """Numbers of parameters; the verifier's image tower is a copy of its video tower and not used for video."""
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in (
        ('verifier', pair.model), ('verifier_image_tower', pair.model.model.image_tower), ('drafter', pair.drafter))}
    return count | {'verifier_used': count['verifier'] - count['verifier_image_tower']}


def evaluate(pair: Pair, windows: Sequence[Window], *, max_nodes: int = 48, alternatives: int = 0) -> dict[str, object]:
    """All figures as one JSON-ready dict."""
    table = slot_table(windows)
    tau = tau_table(pair, windows, max_nodes, alternatives)
    return {
        'seeds': sorted({window.seed for window in windows}), 'windows': len(windows), 'slots': table,
        'slot_accuracy': {who: round(float(np.mean([row[who] for row in table.values()])), 4)
                          for who in ('verifier', 'drafter', 'commonest', 'previous')},
        'drafter_event_slots': {name: table[name]['drafter'] for name in EVENT_SLOTS},
        'blind_colour': blind_colour(windows),
        'text': text_scores([window.target for window in windows], [caption(window.truth) for window in windows]),
        'changes': change_table(windows), 'tau': tau['tau'], 'tau_at_scene_changes': tau['tau_at_scene_changes'],
        'acceptance': {'by_slot': acceptance_by_slot(windows), 'by_position': tau['acceptance_by_position']},
        'parameters': parameters(pair), 'speed': drafter_speed(pair, windows) | verifier_speed(pair, windows)}
