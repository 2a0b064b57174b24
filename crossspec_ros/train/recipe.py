"""The whole recipe of the built-in pair: tokenizer, clips, tower, language model, drafter.

Each stage leaves what it made in the output folder and is not run again by ``resume``. Minutes are shared out among the
stages by ``SHARES``, measured on two CPU cores; with a step limit every stage takes its share of the steps instead.
"""
from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import VideoLlavaForConditionalGeneration

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafter import CONFIG_FILE, WEIGHTS_FILE, EventDrafter
from crossspec_ros.models.tokenizer import TOKENIZER_FILE, load_tokenizer
from crossspec_ros.recordings.world import EVALUATION_SEED, QUESTIONS, sample_captions
from crossspec_ros.train.dataset import ClipData, DataConfig, make_dataset
from crossspec_ros.train.drafter_stage import DrafterStage, new_drafter
from crossspec_ros.train.files import write_atomic, write_folder_atomic
from crossspec_ros.train.greedy import collect_answers, read_answers
from crossspec_ros.train.language_stage import LanguageStage, tower_features
from crossspec_ros.train.loop import StageConfig, draw_curves, progress_bar, read_checkpoint, run_stage
from crossspec_ros.train.team import Team, run_team
from crossspec_ros.train.tokenizer_training import train_tokenizer
from crossspec_ros.train.verifier_config import build_verifier, save_verifier
from crossspec_ros.train.vision_stage import VisionStage, pixels, start_tower

_LOG = logging.getLogger(__name__)
STAGES = ('tokenizer', 'data', 'vision', 'features', 'language', 'verifier', 'drafter_truth', 'answers', 'drafter')
SHARES = {'vision': 0.36, 'language': 0.36, 'drafter_truth': 0.10, 'drafter': 0.08}      # the rest: features, answers
_TOKENIZER_TEXTS = 20_000
_INIT_RATE = 0.6          # of the learning rate, where weights of an earlier run go on
_SETTINGS: dict[str, dict[str, float | int]] = {
    'vision': {'batch': 64, 'lr': 1e-3}, 'language': {'batch': 16, 'lr': 1e-3},
    'drafter_truth': {'batch': 64, 'lr': 2e-3}, 'drafter': {'batch': 64, 'lr': 6e-4}}


@dataclass(frozen=True)
class RecipeConfig:
    """``minutes`` or ``steps`` for all stages together; ``drives`` of 24 clips; ``answered`` clips for the drafter's
    last stage.

    ``init`` is the folder of an earlier run whose weights the stages begin with.
    """

    minutes: float | None = 60.0
    steps: int | None = None
    seed: int = 0
    drives: int = 300
    clips_per_drive: int = 24
    answered: int = 1500
    workers: int = 2
    processes: int = 1
    init: Path | None = None
    vision_dim: int = 192
    vision_layers: int = 6
    dim: int = 256
    layers: int = 8

    def stage(self, name: str) -> StageConfig:
        share = SHARES[name]
        steps = None if self.steps is None else max(2, round(self.steps * share))
        minutes = None if self.minutes is None or steps is not None else self.minutes * share
        settings = dict(_SETTINGS[name])
        if self.init is not None:
            settings['lr'] *= _INIT_RATE
        return StageConfig(name, steps=steps, minutes=minutes, seed=self.seed, **settings)

    def data(self) -> tuple[DataConfig, ...]:
        """``drives`` brisk drives, which vary most, and a fifth as many calm ones, which hold a scene for seconds.

        Seeds of training begin at ``seed`` times 10,000, far below those of evaluation.
        """
        first = 1000 + self.seed * 10_000
        calm_drives = self.drives // 5
        if first + self.drives + calm_drives > EVALUATION_SEED:
            raise CrossSpecError(f'seed must be below {EVALUATION_SEED // 10_000 - 1}, got {self.seed}')
        brisk = DataConfig(self.drives, first_seed=first, clips_per_drive=self.clips_per_drive)
        if not calm_drives:
            return (brisk,)
        return brisk, replace(brisk, drives=calm_drives, first_seed=first + self.drives, pace='calm')


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
            getattr(self, f'_make_{name}')()
        draw_curves([self.out / f'{name}.csv' for name in SHARES], self.out / 'curves.png')

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

    def _train(self, name: str) -> None:
        """Train a stage to its end, in this process or in several."""
        if self._finished(name):
            return
        if self.config.processes > 1:
            run_team(self.config.processes, train_member, (self.out, self.config, self.resume, name))
        else:
            train_member(Team(), self.out, self.config, self.resume, name)
        self._finish(name)

    def stage(self, name: str) -> VisionStage | LanguageStage | DrafterStage:
        """A stage with the weights that it begins with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            stage = getattr(self, f'_{name}_stage')()
        if name == 'drafter':
            self._load('drafter_truth', stage.module)
        else:
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
        if self._finished('features'):
            return
        data = self.clips()
        model, path = self._with_tower(data), self.out / 'features.npy'
        first = tower_features(model, pixels(data.frames([0])))
        stored = np.lib.format.open_memmap(path, 'w+', np.float16, (len(data), *first.shape[1:]))
        with progress_bar() as bar:
            task = bar.add_task('features', total=len(data), note='clips')
            for begin in range(0, len(data), 8):
                rows = range(begin, min(begin + 8, len(data)))
                stored[begin:begin + 8] = tower_features(model, pixels(data.frames(rows))).numpy()
                bar.update(task, completed=rows.stop)
        stored.flush()
        self._finish('features')

    def features(self) -> np.ndarray:
        """(N, F, S, D) float16 of the frozen tower for every training clip, as a memory map."""
        try:
            return np.load(self.out / 'features.npy', mmap_mode='r')
        except (OSError, ValueError) as error:
            raise CrossSpecError(f'cannot read {self.out}/features.npy ({error}): run the stage features '
                                 f'again') from error

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

    def _make_drafter_truth(self) -> None:
        self._train('drafter_truth')

    def _drafter_truth_stage(self) -> DrafterStage:
        return DrafterStage(new_drafter(self.tokenizer, self.config.seed), self.clips())

    def _drafter_stage(self) -> DrafterStage:
        drafter, answers = new_drafter(self.tokenizer, self.config.seed), read_answers(self.out / 'answers.json')
        return DrafterStage(drafter, self.clips(), answers)

    def _make_answers(self) -> None:
        if self._finished('answers'):
            return
        model, features = self.trained_verifier(), self.features()[:self.config.answered]
        path = self.out / 'answers.json'
        if not self.resume:
            path.unlink(missing_ok=True)
        with progress_bar() as bar:
            task = bar.add_task('answers', total=len(features), note='clips')
            for count in collect_answers(model, self.tokenizer, features, ClipData.questions, path):
                bar.update(task, completed=count)
        self._finish('answers')

    def _make_drafter(self) -> None:
        self._train('drafter')
        stage = self._drafter_stage()
        self._load('drafter', stage.module)
        save_drafter(stage.module.drafter, self.out / 'drafter')


def train_member(team: Team, out: Path, config: RecipeConfig, resume: bool, name: str) -> None:
    """One process's work on a stage."""
    recipe = Recipe(out, config, resume)
    run_stage(recipe.stage(name), config.stage(name), out, resume=resume, team=team)


def save_drafter(drafter: EventDrafter, folder: Path) -> None:
    """Write a checkpoint that ``load_drafter`` reads: float16 weights, config, tokenizer."""
    def write(target: Path) -> None:
        weights = {name: value.detach().half().contiguous() for name, value in drafter.state_dict().items()}
        save_file(weights, target / WEIGHTS_FILE, metadata={'format': 'pt'})
        (target / CONFIG_FILE).write_text(json.dumps(asdict(drafter.config), indent=2) + '\n', encoding='utf-8')
        drafter.tokenizer.save(str(target / TOKENIZER_FILE))
    write_folder_atomic(folder, write)
