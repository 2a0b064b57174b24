"""The folder of an experiment: its settings, a file a finished part, and the result once all are there."""
from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossspec_ros import __version__
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import Experiment, Settings
from crossspec_ros.models.writing import write_atomic

RESULT, SETTINGS, PLOT = 'result.json', 'settings.json', 'plot.png'
RECORDS = 'records'
_ODD = re.compile(r'[^\w.-]+')          # in the name of a file, whatever the system


def write_json(path: Path, told: Mapping[str, Any]) -> None:
    """Whole or not at all. Raises CrossSpecError where it cannot be written."""
    text = json.dumps(told, indent=1) + '\n'
    write_atomic(path, lambda part: part.write_text(text, encoding='utf-8'))


def read_json(path: Path) -> dict[str, Any]:
    """Raises CrossSpecError for what is no JSON object."""
    try:
        told = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise CrossSpecError(f'{path} cannot be read ({error}): delete it, and run the experiment again') from error
    if not isinstance(told, dict):
        raise CrossSpecError(f'{path} must hold a JSON object: delete it, and run the experiment again')
    return told


class ResultFolder:
    """``OUT/NAME`` of one experiment with these settings."""

    def __init__(self, out: Path, experiment: Experiment, settings: Settings, commit: str) -> None:
        self.experiment, self.settings = experiment, settings
        self.path = out / experiment.name
        self._identity = {'experiment': experiment.name, 'version': __version__, 'commit': commit,
                          'settings': json.loads(json.dumps(asdict(settings)))}

    def claim(self) -> None:
        """Make the folder, or go on in it.

        Raises CrossSpecError where it holds results of another version, commit or settings, or cannot be written.
        """
        path = self.path / SETTINGS
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CrossSpecError(f'--out must be a folder that can be written, got {self.path.parent}: '
                                 f'{error.strerror}') from error
        if not path.is_file():
            write_json(path, self._identity)
            return
        found = read_json(path)
        differing = self._differences(found)
        if differing:
            raise CrossSpecError(f'{self.path} holds results of {"; ".join(differing)}: name another folder with '
                                 '--out, or delete it')

    def _differences(self, found: Mapping[str, Any]) -> list[str]:
        own = self._identity
        told = [f'{name} {found.get(name) or "unknown"} where this is {own[name] or "unknown"}'
                for name in ('version', 'commit') if found.get(name) != own[name]]
        before = found.get('settings') if isinstance(found.get('settings'), dict) else {}
        return told + [f'{name} {before.get(name)!r} where {value!r} is asked for'
                       for name, value in own['settings'].items() if before.get(name) != value]

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return (self.path / RESULT).is_file()

    def part_path(self, part: str) -> Path:
        """Where a part is kept."""
        return self.path / 'parts' / f'{_ODD.sub("_", part)}.json'

    def missing(self) -> list[str]:
        """Parts that are still to be measured."""
        return [part for part in self.experiment.parts(self.settings) if not self.part_path(part).is_file()]

    def keep(self, part: str, found: Mapping[str, Any]) -> None:
        """A part is measured."""
        write_json(self.part_path(part), found)

    def found(self) -> dict[str, dict[str, Any]]:
        """All parts."""
        return {part: read_json(self.part_path(part)) for part in self.experiment.parts(self.settings)}
