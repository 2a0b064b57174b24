"""Every command that the README and docs/ show is one that the program takes."""
import argparse
import re
import shlex
from pathlib import Path

import pytest

from crossspec_ros.cli import COMMANDS, DESCRIPTION, build_parser
from crossspec_ros.commands.bench import BENCHES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


def documented() -> list[str]:
    """Commands in fenced blocks, comments and continuations taken off, and those in `code`, brackets of options too."""
    found = []
    for page in PAGES:
        text = re.sub(r'^#.*$', '', page.read_text(encoding='utf-8'), flags=re.M)       # headings name what follows
        blocks = re.findall(r'^```(?:\w+)?\n(.*?)^```', text, re.S | re.M)
        lines = [line for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
        lines += re.findall(r'`(crossspec [^`\n]+)`', re.sub(r'^```.*?^```', '', text, flags=re.S | re.M))
        found += [re.sub(r'\s*\[(--[^]]*)\]', r' \1', line.split(' #')[0]).strip() for line in lines
                  if line.startswith('crossspec ')]
    return sorted(set(found))


def _named(words: list[str]) -> bool:
    """Whether the words are the name of a command, or of a group of them, and nothing else."""
    parser = build_parser('crossspec', DESCRIPTION, COMMANDS, words)
    for word in words:
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups or word not in groups[0].choices:
            return False
        parser = groups[0].choices[word]
    return True


def _taken(words: list[str]) -> bool:
    parser = build_parser('crossspec', DESCRIPTION, COMMANDS, words)
    parser.add_argument('--version', action='version', version='')
    try:
        args = parser.parse_args(words)
        if words[0] == 'bench':                                 # which reads the rest itself
            rest = words[1:]
            build_parser('crossspec bench', '', BENCHES, rest).parse_args(rest)
        return args is not None
    except SystemExit as end:                                   # --help and --version end with 0
        return end.code == 0


def test_many_commands_are_documented():
    assert len(documented()) > 60


@pytest.mark.parametrize('command', documented())
def test_documented_command_is_accepted(command):
    words = shlex.split(command)[1:]
    assert _named(words) or _taken(words), f'{command}: refused'


@pytest.mark.parametrize('command', ['demo --no-such-option', 'nothing', 'bench stream --no-such-option', 'bag cut A',
                                     'bag glue'])
def test_command_that_is_none_would_be_found(command):
    words = command.split()
    assert not _named(words) and not _taken(words)
