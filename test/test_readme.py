"""Every command that the README and docs/ show is one that the program takes."""
import re
import shlex
from pathlib import Path

import pytest

from crossspec_ros.cli import COMMANDS, DESCRIPTION, build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


def documented() -> list[str]:
    """Commands in fenced blocks, comments and continuations taken off; those in `code` that have options."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        blocks = re.findall(r'^```(?:\w+)?\n(.*?)^```', text, re.S | re.M)
        lines = [line for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
        lines += re.findall(r'`(crossspec [^`\n]* --[^`\n]+)`', re.sub(r'^```.*?^```', '', text, flags=re.S | re.M))
        found += [line.split(' #')[0].strip() for line in lines if line.startswith('crossspec ')]
    return sorted(set(found))


@pytest.mark.parametrize('command', documented())
def test_documented_command_is_accepted(command):
    if re.search(r'[|\[…]', command):
        pytest.skip('a synopsis, not a command')
    words = shlex.split(command)[1:]
    parser = build_parser('crossspec', DESCRIPTION, COMMANDS, words)
    try:
        parser.parse_args(words)
    except SystemExit as end:                                   # --help and --version end with 0
        assert end.code == 0, f'{command}: refused'


def test_readme_names_files_that_are_there():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)#:]+)\)', text):
        assert (ROOT / target).exists(), f'README links to {target}, which is not there'
