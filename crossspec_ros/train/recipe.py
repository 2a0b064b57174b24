"""The whole recipe of the built-in pair: tokenizer, clips, tower, language model, drafter.

Each stage leaves what it made in the output folder and is not run again by ``resume``. A run of so many steps ends with
the same weights however often it was interrupted; minutes may be given instead, and are shared out among the stages.
"""
from __future__ import annotations

import json
import logging
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import VideoLlavaForConditionalGeneration

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter_folder import save_drafter
from crossspec_ros.models.keys import checkpoint_key
from crossspec_ros.models.tokenizer import TOKENIZER_FILE, load_tokenizer
from crossspec_ros.train.answers import collect_answers, read_answers
from crossspec_ros.train.dataset import ClipData, DataConfig, make_dataset
from crossspec_ros.train.drafter_stage import DrafterStage, new_drafter
from crossspec_ros.train.features import new_features, read_features, write_features
from crossspec_ros.models.writing import write_atomic
from crossspec_ros.train.language_stage import LanguageStage
from crossspec_ros.train.loop import StageConfig, draw_curves, progress_bar, read_checkpoint, run_stage
from crossspec_ros.train.team import Team, run_team
from crossspec_ros.train.tokenizer_training import train_tokenizer
from crossspec_ros.train.verifier_config import build_verifier, save_verifier
from crossspec_ros.train.vision_stage import VisionStage, start_tower
from crossspec_ros.world import EVALUATION_SEED, QUESTIONS, sample_captions

_LOG = logging.getLogger(__name__)
STAGES = ('tokenizer', 'data', 'vision', 'features', 'language', 'verifier', 'answers', 'drafter')
STEPS = {'vision': 2600, 'language': 1400, 'drafter': 3000}         # 50 minutes of training on two CPU cores
MINUTES = {'vision': 0.38, 'language': 0.40, 'drafter': 0.22}       # shares of the minutes, where those are given
_TOKENIZER_TEXTS = 20_000
_CALM_STRIDE_S = 3
_INIT_RATE = 0.6          # of the learning rate, where weights of an earlier run go on
_SETTINGS: dict[str, dict[str, float | int]] = {
    'vision': {'batch': 64, 'lr': 1e-3}, 'language': {'batch': 16, 'lr': 1e-3}, 'drafter': {'batch': 64, 'lr': 2e-3}}


@dataclass(frozen=True)
class RecipeConfig:
    """How long each stage trains, on what.

    ``steps`` of all stages together (default: ``STEPS``) or ``minutes``; ``drives`` of so many clips; ``answered``
    clips on which the drafter copies the verifier. ``init`` is the folder of an earlier run whose weights the stages
    begin with.
    """

    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    drives: int = 300
    clips_per_drive: int = 24
    answered: int = 5000
    workers: int = 2
    processes: int = 1
    init: Path | None = None
    vision_dim: int = 192
    vision_layers: int = 6
    dim: int = 256
    layers: int = 8

    def stage(self, name: str) -> StageConfig:
        """Settings of a stage."""
        minutes = None if self.minutes is None else self.minutes * MINUTES[name]
        scale = 1.0 if self.steps is None else self.steps / sum(STEPS.values())
        steps = None if minutes is not None else max(2, round(STEPS[name] * scale))
        settings = dict(_SETTINGS[name])
        if self.init is not None:
            settings['lr'] *= _INIT_RATE
        return StageConfig(name, steps=steps, minutes=minutes, seed=self.seed, **settings)

    def data(self) -> tuple[DataConfig, ...]:
        """``drives`` brisk drives, which vary most, and half as many calm ones, looked at every few seconds since they
        hold a scene that long.

        Seeds of training begin at ``seed`` times 10,000, far below those of evaluation.
        """
        first = 1000 + self.seed * 10_000
        calm_drives = self.drives // 2
        if first + self.drives + calm_drives > EVALUATION_SEED:
            raise CrossSpecError(f'seed must be below {EVALUATION_SEED // 10_000 - 1}, got {self.seed}')
        brisk = DataConfig(self.drives, first_seed=first, clips_per_drive=self.clips_per_drive)
        if not calm_drives:
            return (brisk,)
        return brisk, replace(brisk, drives=calm_drives, first_seed=first + self.drives, pace='calm',
                              stride_s=_CALM_STRIDE_S)


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Recipe:
    """Runs stages in ``out``; see ``STAGES`` for their order."""

    def __init__(self, out: Path, config: RecipeConfig, resume: bool = False) -> None:
        self.out, self.config, self.resume = out, config, resume
        self._tokenizer: Tokenizer | None = None
        out.mkdir(parents=True, exist_ok=True)

    def run(self, stages: tuple[str, ...] = STAGES) -> None:
        """Run the named stages in order; raises CrossSpecError on an unknown name or whatever a stage meets."""
        unknown = [name for name in stages if name not in STAGES]
        if unknown:
            raise CrossSpecError(f'stage must be one of {", ".join(STAGES)}, got {unknown[0]!r}')
        write_atomic(self.out / 'recipe.json', lambda path: path.write_text(
            json.dumps(asdict(self.config), indent=2, default=str) + '\n', encoding='utf-8'))
        for name in stages:
            _LOG.info('stage %s', name)
            start, used = time.perf_counter(), _cpu_s()
            getattr(self, f'_make_{name}')()
            self._note_time(name, time.perf_counter() - start, _cpu_s() - used)
        draw_curves([self.out / f'{name}.csv' for name in STEPS], self.out / 'curves.png')

    def _note_time(self, name: str, wall_s: float, cpu_s: float) -> None:
        """Add what a stage took to ``times.json``."""
        path = self.out / 'times.json'
        times = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}
        before = times.get(name, {}) if self.resume else {}
        times[name] = {'wall_s': round(before.get('wall_s', 0.0) + wall_s, 1),
                       'cpu_s': round(before.get('cpu_s', 0.0) + cpu_s, 1)}
        write_atomic(path, lambda target: target.write_text(json.dumps(times, indent=2) + '\n', encoding='utf-8'))

    def _finished(self, name: str) -> bool:
        return self.resume and (self.out / f'{name}.done').is_file()

    def _finish(self, name: str) -> None:
        write_atomic(self.out / f'{name}.done', lambda path: path.write_text('done\n', encoding='utf-8'))

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.out)
        return self._tokenizer

    def clips(self) -> ClipData:
        """The training clips made so far."""
        return ClipData(self.out / 'data')

    def _make_tokenizer(self) -> None:
        path = self.out / TOKENIZER_FILE
        if self.resume and path.is_file():
            return
        earlier = self.config.init / TOKENIZER_FILE if self.config.init else None
        if earlier is not None:                      # with another vocabulary the weights would mean other words
            write_atomic(path, lambda target: shutil.copyfile(earlier, target))
            return
        texts = sample_captions(_TOKENIZER_TEXTS, self.config.seed)
        write_atomic(path, lambda target: train_tokenizer([*texts, *QUESTIONS]).save(str(target)))

    def _make_data(self) -> None:
        parts = self.config.data()
        with progress_bar() as bar:
            task = bar.add_task('data', total=sum(part.drives for part in parts), note='drives')
            for part in parts:
                for _ in make_dataset(self.out / 'data', part, self.config.workers):
                    bar.advance(task)

    def _begin(self, name: str, module: torch.nn.Module) -> None:
        """Weights of an earlier run, where one is named."""
        if self.config.init is not None:
            state = read_checkpoint(self.config.init / f'{name}.pt', None)
            module.load_state_dict(state['model'])

    def _together(self, work: Callable[..., None], *arguments: object) -> None:
        """Do the work of a stage in this process or in several."""
        if self.config.processes > 1:
            run_team(self.config.processes, work, (self.out, self.config, self.resume, *arguments))
        else:
            work(Team(), self.out, self.config, self.resume, *arguments)

    def _train(self, name: str) -> None:
        """Train a stage to its end."""
        if not self._finished(name):
            self._together(train_member, name)
            self._finish(name)

    def stage(self, name: str) -> VisionStage | LanguageStage | DrafterStage:
        """A stage with the weights that it begins with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            stage = getattr(self, f'_{name}_stage')()
        self._begin(name, stage.module)
        return stage

    def _model(self) -> VideoLlavaForConditionalGeneration:
        config = self.config
        return build_verifier(self.tokenizer, config.seed, vision_dim=config.vision_dim,
                              vision_layers=config.vision_layers, dim=config.dim, layers=config.layers)

    def _load(self, name: str, module: torch.nn.Module) -> None:
        module.load_state_dict(read_checkpoint(self.out / f'{name}.pt', self.config.stage(name))['model'])

    def _vision_stage(self) -> VisionStage:
        tower = self._model().model.video_tower
        start_tower(tower)
        return VisionStage(tower, self.clips(), **({'single_until': 0.3} if self.config.init else {}))

    def _make_vision(self) -> None:
        self._train('vision')

    def _with_tower(self, data: ClipData) -> VideoLlavaForConditionalGeneration:
        model = self._model()
        self._load('vision', VisionStage(model.model.video_tower, data).module)
        return model

    def _make_features(self) -> None:
        if not self._finished('features'):
            new_features(self.out / 'features.npy', len(self.clips()), self.config.vision_dim)
            self._together(features_member)
            self._finish('features')

    def see(self, team: Team) -> None:
        """One process's part of the features."""
        data = self.clips()
        write_features(self._with_tower(data), data, self.out / 'features.npy', team)

    def features(self) -> np.ndarray:
        """(N, F, S, D) float16 of the frozen tower for every training clip, as a memory map."""
        return read_features(self.out / 'features.npy')

    def _language_stage(self) -> LanguageStage:
        data = self.clips()
        return LanguageStage(self._with_tower(data), data, self.features(), self.tokenizer)

    def _make_language(self) -> None:
        self._train('language')

    def trained_verifier(self) -> VideoLlavaForConditionalGeneration:
        """The verifier as its two stages left it."""
        stage = self._language_stage()
        self._load('language', stage.module)
        return stage.model.eval()

    def _make_verifier(self) -> None:
        save_verifier(self.trained_verifier(), self.tokenizer, self.out / 'verifier')

    def _make_answers(self) -> None:
        if self._finished('answers'):
            return
        if not self.resume:
            shutil.rmtree(self.out / 'answers', ignore_errors=True)
        self._together(answers_member)
        self._finish('answers')

    def answer(self, team: Team) -> None:
        """One process's part of the verifier's answers, on clips spread evenly over all drives."""
        data, model = self.clips(), self.trained_verifier()
        rows = np.unique(np.linspace(0, len(data) - 1, min(self.config.answered, len(data))).astype(int)).tolist()
        with progress_bar(team.leads) as bar:
            task = bar.add_task('answers', total=-(-len(rows) // team.size), note='clips')
            for count in collect_answers(model, self.tokenizer, self.features(), data.answers, rows,
                                         self.out / 'answers', team):
                bar.update(task, completed=count)

    def _drafter_stage(self) -> DrafterStage:
        verifier = self.out / 'verifier'
        drafter = new_drafter(self.tokenizer, self.config.seed, verifier_key=checkpoint_key(verifier))
        return DrafterStage(drafter, self.clips(), read_answers(self.out / 'answers'))

    def _make_drafter(self) -> None:
        self._train('drafter')
        stage = self._drafter_stage()
        self._load('drafter', stage.module)
        save_drafter(stage.module.drafter, self.out / 'drafter')


def train_member(team: Team, out: Path, config: RecipeConfig, resume: bool, name: str) -> None:
    """One process's work on a stage."""
    recipe = Recipe(out, config, resume)
    run_stage(recipe.stage(name), config.stage(name), out, resume=resume, team=team)


def features_member(team: Team, out: Path, config: RecipeConfig, resume: bool) -> None:
    """One process's part of the features."""
    Recipe(out, config, resume).see(team)


def answers_member(team: Team, out: Path, config: RecipeConfig, resume: bool) -> None:
    """One process's part of the verifier's answers."""
    Recipe(out, config, resume).answer(team)
