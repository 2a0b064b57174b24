"""``report.html``: one file, readable offline, made from ``report.json`` and the pictures taken during the demo."""
from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from crossspec_ros.demo import plots
from crossspec_ros.demo.live import format_age
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.tracing.path import STAGES
from crossspec_ros.view.safe import clean
from crossspec_ros.view.words import compare

MAX_PICTURED = 120                  # windows shown with pictures, about 70 KB each; of a longer demo every so many-th
FRAME_SUFFIX, EVENTS_SUFFIX = '_frame.jpg', '_events.jpg'


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or none. Raises CrossSpecError where the folder cannot be written."""
    temporary = path.with_name(f'.{path.name}.partial')
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)
    except OSError as error:
        raise CrossSpecError(f'{path} cannot be written: {error.strerror}') from error


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """``report.json``."""
    write_atomically(path, json.dumps(report, indent=1) + '\n')


def picture(folder: Path, window_id: int, suffix: str) -> str | None:
    """A window's picture as a data URI, None where none was taken."""
    path = folder / f'{window_id}{suffix}'
    if not path.is_file():
        return None
    return data_uri(path.read_bytes())


def _printed(value: Any) -> Any:
    """What the page prints of a value: texts cleaned before they are escaped; our own markup as it is."""
    return clean(value) if type(value) is str else value


def _cards(report: Mapping[str, Any], snapshots: Path) -> list[dict[str, Any]]:
    entries = report['captions_by_window']
    start, every = plots.stream_start_ns(entries), 1 + (len(entries) - 1) // MAX_PICTURED
    return [{
        **entry, 'at_s': (entry['end_ns'] - start) / 1e9,
        'frame': picture(snapshots, entry['window_id'], FRAME_SUFFIX) if i % every == 0 else None,
        'events': picture(snapshots, entry['window_id'], EVENTS_SUFFIX) if i % every == 0 else None,
        'runs': compare(entry['draft'] or '', entry['caption']) if entry['caption'] else [],
    } for i, entry in enumerate(entries)]


def _age(value: float | None) -> str:
    return format_age(value).replace('-', '\N{MINUS SIGN}') if value is not None else '\N{EN DASH}'


def _number(value: float | int | None, digits: int = 0) -> str:
    return '\N{EN DASH}' if value is None else f'{value:,.{digits}f}'


def page_environment(*packages: str) -> jinja2.Environment:
    """What pages are rendered with: templates of these packages and of this one, every text cleaned and escaped."""
    loaders = [jinja2.PackageLoader(package) for package in (*packages, 'crossspec_ros.demo')]
    environment = jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_printed)
    environment.filters.update(age=_age, number=_number)
    return environment


def data_uri(jpeg: bytes) -> str:
    """A JPEG as a page holds it."""
    return Markup('data:image/jpeg;base64,' + base64.b64encode(jpeg).decode('ascii'))


def render_html(report: Mapping[str, Any], snapshots: Path) -> str:
    """The page. ``snapshots`` holds ``<window_id>_frame.jpg`` and ``<window_id>_events.jpg``, where there are any."""
    environment = page_environment()
    entries = report['captions_by_window']
    per_source = report['acceptance']['per_source']
    drawn = {'ages': plots.ages_over_time(entries), 'distribution': plots.age_distribution(entries)}
    if per_source:
        drawn['acceptance'] = plots.acceptance_by_source(per_source)
    path = report.get('critical_path')
    if path is not None and path['windows']:
        drawn['path'] = plots.critical_path(path, entries)
        drawn['path_bars'] = plots.path_bars(path)
    if any(entry['stage_ms'] for entry in entries):
        drawn['stages'] = plots.stages(entries)
    return environment.get_template('report.html.jinja').render(report=report, cards=_cards(report, snapshots),
                                                                plots=drawn, path=path, stages=STAGES)


def write_html(path: Path, report: Mapping[str, Any], snapshots: Path) -> None:
    """``report.html``."""
    write_atomically(path, render_html(report, snapshots))
