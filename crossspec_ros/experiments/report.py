"""What came of experiments as one offline page and as a page for docs/: tables, plots, claim beside measurement."""
from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from crossspec_ros.demo.report import page_environment, write_atomically
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.experiments.experiment import Cell, Outcome, outcome_from
from crossspec_ros.experiments.folder import PLOT, RESULT, read_json, write_json
from crossspec_ros.experiments.methods import METHODS
from crossspec_ros.experiments.registry import experiments
from crossspec_ros.models.writing import write_atomic

PAGE, MARKDOWN = 'report.html', 'experiments.md'
PICTURES = 'experiments'
_FOLDER = re.compile(r" --out(=| )('[^']*'|\S+)")                # as shlex.join writes it
_SIGNS = re.compile(r'(`[^`]*`)|([|<>*_\[\]\\])')


@dataclass(frozen=True)
class Told:
    """A result as the pages show it."""

    facts: Mapping[str, Any]
    outcome: Outcome
    plot: bytes | None

    @property
    def name(self) -> str:
        return self.facts['name']


def read_results(folder: Path) -> list[Told]:
    """Every result in a folder, by name. Raises CrossSpecError where there is none, or one cannot be read."""
    if not folder.is_dir():
        raise CrossSpecError(f'DIR must be a folder that `crossspec experiment run` wrote, got {folder}')
    found = [_read(path) for path in sorted(folder.glob(f'*/{RESULT}'))]
    if not found:
        raise CrossSpecError(f'{folder} holds no finished experiment: run one with `crossspec experiment run NAME '
                             f'--out {folder}`')
    return found


def _read(path: Path) -> Told:
    facts = read_json(path)
    plot = path.with_name(PLOT)
    try:
        for name in ('name', 'title', 'source', 'claim', 'measures', 'lossless', 'quick', 'seconds', 'cpu_s'):
            facts[name]
        facts['provenance']['hardware']['cpu'], facts['provenance']['libraries']['torch'], facts['settings']['seeds']
        return Told(facts, outcome_from(facts['outcome']), plot.read_bytes() if plot.is_file() else None)
    except (KeyError, TypeError, AssertionError) as error:
        raise CrossSpecError(f'{path} is of another version ({error!r}): run the experiment again') from error


def write_report(folder: Path) -> tuple[Path, Path]:
    """Both pages into the folder, plots and figures beside the second; returns their paths. Raises CrossSpecError."""
    told = read_results(folder)
    page, markdown = folder / PAGE, folder / MARKDOWN
    write_atomically(page, render_html(told))
    for one in told:
        write_json(folder / PICTURES / f'{one.name}.json', figures(one))
        if one.plot is not None:
            write_atomic(folder / PICTURES / f'{one.name}.png', lambda part, plot=one.plot: part.write_bytes(plot))
    write_atomically(markdown, render_markdown(told))
    return page, markdown


def figures(one: Told) -> dict[str, Any]:
    """A result without its parts, window by window, and without the folder that it was written to."""
    provenance = one.facts['provenance']
    command = _FOLDER.sub('', str(provenance.get('command', '')))
    kept = {name: value for name, value in one.facts.items() if name != 'parts'}
    return kept | {'provenance': provenance | {'command': command}}


def render_html(told: Sequence[Told]) -> str:
    """One page that needs nothing beside it."""
    environment = page_environment('crossspec_ros.experiments')
    environment.filters['code'] = _coded
    pictures = {one.name: Markup('data:image/png;base64,' + base64.b64encode(one.plot).decode('ascii'))
                for one in told if one.plot is not None}
    return environment.get_template('experiments.html.jinja').render(
        told=told, pictures=pictures, methods=METHODS, summary=_summary(told))


def _summary(told: Sequence[Told]) -> dict[str, Any]:
    first = told[0].facts['provenance']
    commits = {one.facts['provenance']['commit'] for one in told}
    machine = first['hardware']
    return {'hardware': f'{machine["cpu"]}, {machine["cores"]} cores, one thread', 'version': first['version'],
            'commits': sorted(commits),
            'libraries': first['libraries'], 'seconds': sum(one.facts['seconds'] for one in told),
            'cpu_s': sum(one.facts['cpu_s'] for one in told),
            'quick': all(one.facts['quick'] for one in told),
            'quick_ones': [one.name for one in told if one.facts['quick']],
            'date': max(one.facts['provenance']['date'] for one in told)}


def _quickly(about: Mapping[str, Any]) -> str:
    """What to think of quick runs, where there are any."""
    if not about['quick_ones']:
        return ''
    which = 'These' if about['quick'] else f'Those of {", ".join(about["quick_ones"])}'
    return (f'{which} are quick runs of a few drives: intervals are wide, and trained parts saw minutes of drives '
            'only; without `--quick` the same commands run the full set.')


def render_markdown(told: Sequence[Told]) -> str:
    """The page of docs/; its plots lie in a folder beside it."""
    about = _summary(told)
    lines = [
        '# Experiments', '',
        'What the methods of the field give on the built-in pair, side by side on the same windows, the claim of each '
        'source beside what was measured. Written by `crossspec experiment report` from '
        f'`crossspec experiment run{" --quick" if about["quick"] else ""}` on {_plain(_machine(about))}; '
        f'{about["cpu_s"] / 60:.1f} minutes of processor time in all, {about["seconds"] / 60:.0f} of the clock on a '
        'machine that was busy with other work.', '',
        '*How to read it.* Tokens a pass (tau) count the bonus token; they and acceptance carry over to other '
        'verifiers and do not suffer from a busy machine. Milliseconds *here* are of this machine and of a verifier '
        'of 12 million parameters, and were measured while other work ran; milliseconds *7B* are modelled from '
        'recorded stage times of Video-LLaVA-7B. Brackets: 95% of a paired bootstrap over drives. '
        + _quickly(about), '',
        '| Experiment | Source | Its claim | Measured here | The claim |', '| --- | --- | --- | --- | --- |']
    lines += ['| ' + ' | '.join((f'[{one.name}](#{one.name})', *map(_plain, (
        one.facts['source'], one.facts['claim'], one.outcome.measured, one.outcome.verdict)))) + ' |' for one in told]
    names = {one.name for one in told}
    left = [f'`{name}` ({each.title[0].lower()}{each.title[1:]})' for name, each in experiments().items()
            if name not in names]
    lines += ['', f'Not in this run: {", ".join(left)}.'] if left else []
    for one in told:
        lines += ['', *_section(one)]
    lines += ['', '## An experiment of your own', '',
              'A file in `crossspec_ros/experiments/studies/` with one `EXPERIMENT` is found by its place: name, '
              'source and claim, a dataclass of settings with a full and a quick form, `parts` (each is kept once '
              'it is measured), `measure` for one part, `conclude` for tables, plot and the sentence that follows. The '
              'lab that `measure` is given has the pair, windows that were answered once for all experiments, and '
              'decoding them again with any draft sources.', '', '## Methods', '',
              '| Method | Source | Its claim | Here |', '| --- | --- | --- | --- |']
    for method in METHODS:
        where = ', '.join(f'[{name}](#{name})' if name in names else f'`{name}`' for name in method.where)
        said = '; '.join(filter(None, (where, _plain(method.why) if method.built else f'not built: {_plain(method.why)}'
                                       if method.why else '')))
        lines.append(f'| {_plain(method.name)} | {_plain(method.source)} | {_plain(method.claim)} | {said} |')
    return '\n'.join(lines) + '\n'


def _machine(about: Mapping[str, Any]) -> str:
    return (f'{about["hardware"]}, torch {about["libraries"]["torch"]}, transformers '
            f'{about["libraries"]["transformers"]}, crossspec {about["version"]}')


def _section(one: Told) -> list[str]:
    facts, outcome = one.facts, one.outcome
    lines = [f'## {one.name}', '', f'**{_plain(facts["title"])}.** {_plain(facts["measures"])}', '',
             f'*Claim* ({_plain(facts["source"])}): {_plain(facts["claim"])}. *Measured*: {_plain(outcome.measured)} '
             f'The claim **{outcome.verdict}**.', '', f'*What follows.* {_plain(outcome.advice)}']
    for table in outcome.tables:
        lines += ['', f'*{_plain(table.title)}*', '', '| ' + ' | '.join(map(_plain, table.columns)) + ' |',
                  '| ' + ' | '.join(['---'] * len(table.columns)) + ' |']
        lines += ['| ' + ' | '.join(_plain(_cell(cell)) for cell in row) + ' |' for row in table.rows]
        lines += ['', _plain(table.note)] if table.note else []
    if one.plot is not None:
        lines += ['', f'![{_plain(outcome.plot.title if outcome.plot else one.name)}]({PICTURES}/{one.name}.png)']
    lines += [line for reason in outcome.skipped for line in ('', f'Left out: {_plain(reason)}.')]
    return lines + ['', f'`crossspec experiment run {one.name}{" --quick" if facts["quick"] else ""}`: '
                        f'{facts["cpu_s"]:.0f} s of processor time in {facts["seconds"]:.0f} s, '
                        f'{facts["settings"]["seeds"]} '
                        f'{"seed" if facts["settings"]["seeds"] == 1 else "seeds"}, load of the machine '
                        f'{facts["provenance"]["load"]:.1f}; [all figures as JSON]({PICTURES}/{one.name}.json).']


def _cell(cell: Cell) -> str:
    return '-' if cell is None else str(cell)


def _plain(text: str) -> str:
    """Text as Markdown shows it as it is; what stands in backticks is code."""
    return _SIGNS.sub(lambda found: found[1] or f'\\{found[2]}', text)


def _coded(text: str) -> Markup:
    """Text as a page shows it, what stands in backticks as code."""
    return Markup(re.sub(r'`([^`]*)`', r'<code>\1</code>', str(escape(text))))


def cell_text(cell: Cell) -> str:
    """As a terminal shows it."""
    return _cell(cell)
