"""What is to be learned, from what, and for how long."""
from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crossspec_ros.config import DEFAULT_PROMPT, WindowConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.learn.losses import LOSSES
from crossspec_ros.learn.sources import DRAFTER, LEARNABLES, check_sources
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.timing.window import WindowGrid
from crossspec_ros.train.head_stage import LEARNING
from crossspec_ros.train.loop import StageConfig

STEPS = 1500                    # about eight minutes on one core for a drafter of the built-in one's shape
HEAD_STEPS, HEAD_BATCH = 600, 16        # a step is of whole answers, each with all its states
SCRATCH = 'none'
_SETTLED = ('bags', 'topics', 'prompts', 'seconds', 'slide', 'held_out', 'frame_interval_ms', 'likely',
            'max_new_tokens', 'dtype', 'sources')


@dataclass(frozen=True)
class LearnConfig:
    """``bags``: one drive each. ``prompts``: the first is the one that is judged by.

    ``base``: the drafter whose event encoder the new one begins with; ``none``: random weights. ``seconds`` of each
    drive are used (0: all of it). While learning a window ends every ``slide`` slots, while judging every window's
    length as in the graph. ``likely``: best next tokens kept of each place; ``max_new_tokens`` of an answer.
    ``disk_mb``: what answers, states and looks may take. ``held_out``: the last part of each drive, never trained on.
    ``loss``, ``filtered``, ``gated`` and ``lr`` are the drafter's. CrossSpecError is raised for what cannot be.
    """

    bags: tuple[str, ...]
    model: str
    out: Path
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)
    base: str = 'builtin'
    sources: tuple[str, ...] = (DRAFTER,)
    steps: int | None = None
    minutes: float | None = None
    device: str = 'cpu'
    dtype: str = 'float32'
    resume: bool = False
    seconds: float = 0.0
    slide: int = 4
    frame_interval_ms: float = WindowConfig().frame_interval_ms
    loss: str = 'forward_kl'
    filtered: bool = False
    gated: bool = False
    lr: float = 1e-3
    batch: int = 64
    seed: int = 0
    likely: int = 8
    max_new_tokens: int = EngineConfig().max_new_tokens
    disk_mb: int = 8192
    held_out: float = 0.2
    topics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames = WindowConfig().window_frames
        check_sources(self.sources)
        if not self.bags or len(set(self.bags)) < len(self.bags):
            raise CrossSpecError(f'bags must be one or more, each named once, got {", ".join(self.bags) or "none"}')
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts) \
                or len(set(self.prompts)) < len(self.prompts):
            raise CrossSpecError(f'prompts must be one or more texts, each once, got {list(self.prompts)}')
        if self.steps is not None and self.minutes is not None:
            raise CrossSpecError('either steps or minutes may be given, got both')
        if not 1 <= self.slide <= frames or frames % self.slide:
            raise CrossSpecError(f'slide must divide the {frames} frames of a window, got {self.slide}')
        if self.loss not in LOSSES:
            raise CrossSpecError(f'loss must be one of {", ".join(LOSSES)}, got {self.loss!r}')
        if not 0.05 <= self.held_out <= 0.5:
            raise CrossSpecError(f'held_out must be 0.05 to 0.5, got {self.held_out}')
        for name, low in (('seconds', 0), ('batch', 1), ('likely', 1), ('max_new_tokens', 1), ('disk_mb', 1)):
            if getattr(self, name) < low:
                raise CrossSpecError(f'{name} must be >= {low}, got {getattr(self, name)}')
        if self.steps is not None and self.steps < 1 or self.minutes is not None and not self.minutes > 0:
            raise CrossSpecError(f'steps or minutes must be > 0, got {self.steps or self.minutes}')
        if not self.lr > 0:
            raise CrossSpecError(f'lr must be > 0, got {self.lr}')
        self.grid()
        self.stage()

    @property
    def work(self) -> Path:
        """The folder beside the result with answers, looks and checkpoints."""
        return self.out.with_name(f'{self.out.name}.learning')

    def grid(self) -> WindowGrid:
        """Windows as they are learned from; the graph's are every so many-th of them (`judged`)."""
        return WindowGrid(WindowConfig().window_frames, self.frame_interval_ms, self.slide)

    def judged(self, window_id: int) -> bool:
        """Whether a window of `grid` is one of the graph's, which follow each other without overlap."""
        return window_id * self.slide % WindowConfig().window_frames == 0

    def stage(self, share: float = 1.0) -> StageConfig:
        """How long to train, of a run with a ``share`` of the drives."""
        steps = None if self.minutes is not None else max(1, round(share * (STEPS if self.steps is None
                                                                            else self.steps)))
        minutes = None if self.minutes is None else share * self.minutes
        return StageConfig('drafter', steps=steps, minutes=minutes, batch=self.batch, lr=self.lr, seed=self.seed)

    def head_stage(self, kind: str) -> StageConfig:
        """How long to train a head of a kind; its learning rate is its kind's own."""
        steps = None if self.minutes is not None else self.steps or HEAD_STEPS
        return replace(self.stage(), name=kind, steps=steps, batch=min(self.batch, HEAD_BATCH), lr=LEARNING[kind])

    def settled(self) -> dict[str, Any]:
        """What answers depend on, besides the verifier: a run that goes on must have the same."""
        values = asdict(self) | {'sources': tuple(name for name in LEARNABLES if name in self.sources)}
        return {name: list(value) if isinstance(value := values[name], tuple) else value for name in _SETTLED}

    def training(self) -> dict[str, Any]:
        """What a training run depends on, besides the answers."""
        names = ('base', 'steps', 'minutes', 'loss', 'filtered', 'gated', 'lr', 'batch', 'seed')
        return {name: getattr(self, name) for name in names}
