"""What the pages show to be copied does what they say: the unit of systemd, the drafter of one's own."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from graph_harness import Graph, write_pair
from lab_package import install_lab

from crossspec_ros import children

ROOT = Path(__file__).resolve().parents[2]


def shown(page: str, language: str, number: int = 0) -> str:
    """A block of a language on a page, by its place among those."""
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    return re.findall(rf'^```{language}\n(.*?)^```', text, re.S | re.M)[number]


def _verify(folder: Path, unit: str) -> str:
    """What systemd says of a unit; nothing where it is right."""
    path = folder / 'crossspec.service'
    path.write_text(unit, encoding='utf-8')
    done = subprocess.run(['systemd-analyze', 'verify', '--man=no', str(path)], capture_output=True, text=True,
                          timeout=60)
    return '\n'.join(line for line in (done.stdout + done.stderr).splitlines() if path.name in line)


@pytest.mark.skipif(shutil.which('systemd-analyze') is None, reason='systemd-analyze is not installed here')
def test_unit_of_the_page_is_one_that_systemd_takes(tmp_path):
    unit = shown('vehicle.md', 'ini')
    assert _verify(tmp_path, unit.replace('KillMode=mixed', 'KillMode=gently'))
    assert _verify(tmp_path, unit) == ''


def test_launch_line_of_the_unit_has_arguments_that_there_are():
    from crossspec_ros.graph import arguments_from
    unit = shown('vehicle.md', 'ini')
    given = dict(re.findall(r'(\w+):=(\S+?)(?=[\s\'])', unit))
    assert given and arguments_from(given)['keep'] == 'true'
    assert all((ROOT / 'launch' / name).exists() for name in re.findall(r'\w+\.launch\.py', unit))


@pytest.mark.graph
@pytest.mark.timeout(600)
def test_drafter_of_the_page_is_heard_by_the_verifier(tmp_path):
    script = tmp_path / 'parrot.py'
    script.write_text(shown('drafters.md', 'python'), encoding='utf-8')
    with Graph(tmp_path, write_pair(tmp_path)) as graph:
        graph.start('verifier', decode__max_new_tokens=12)
        graph.probe.start_cameras(events=False)
        with open(tmp_path / 'parrot.log', 'w', encoding='utf-8') as log:
            parrot = subprocess.Popen([sys.executable, str(script), '--ros-args', '-r', '__ns:=/'],
                                      env=graph.processes.environment, stdout=log, stderr=log)
        try:
            graph.probe.wait_for(lambda: any('parrot' in verdict.sources for verdict in graph.probe.verdicts),
                                 'a verdict on tokens of the drafter')
            assert all(caption.lossless for caption in graph.probe.captions)
            assert parrot.poll() is None, (tmp_path / 'parrot.log').read_text()
        finally:
            children.end([parrot], 15.0)


@pytest.mark.graph
@pytest.mark.timeout(600)
def test_draft_source_of_the_page_drafts_in_the_verifier(tmp_path, monkeypatch):
    lab = tmp_path / 'lab'
    lab.mkdir()
    install_lab(lab, monkeypatch, shown('drafters.md', 'python', 1),
                '[crossspec.draft_sources]\nhabit = lab_drafts:Habit\n')
    with Graph(tmp_path, write_pair(tmp_path)) as graph:
        graph.processes.environment['PYTHONPATH'] = f'{lab}:{graph.processes.environment["PYTHONPATH"]}'
        graph.start('verifier', decode__max_new_tokens=12, decode__sources=['drafts', 'habit'])
        graph.probe.start_cameras(events=False)
        graph.probe.wait_for(lambda: any('habit' in verdict.sources for verdict in graph.probe.verdicts),
                             'a verdict on tokens of the source')
        assert all(caption.lossless for caption in graph.probe.captions)
