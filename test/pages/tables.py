"""The tables of docs/, rendered from what the program declares. ``python test/pages/tables.py`` writes them all anew.

A page marks where a table stands by ``<!-- table: NAME -->`` and ``<!-- end table -->``; what lies between is rendered.
"""
from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy                   # noqa: E402

from crossspec_ros.cli import COMMANDS, DESCRIPTION, build_parser                             # noqa: E402
from crossspec_ros.commands.bench import BENCHES                                              # noqa: E402
from crossspec_ros.config import NODES, ParameterInfo, parameters_of                          # noqa: E402
from crossspec_ros.graph import ARGUMENTS                                                     # noqa: E402
from crossspec_ros.nodes import qos                                                           # noqa: E402

_BLOCK = re.compile(r'(<!-- table: ([\w/ -]+?) -->\n).*?(<!-- end table -->)', re.DOTALL)
_FIELD = re.compile(r'(\S+)\s+(\w+(?:=\S+)?)\s*(?:#\s*(.*))?')
_INTERFACES = {'msg': ('',), 'srv': ('Request', 'Response'), 'action': ('Goal', 'Result', 'Feedback')}


@dataclass(frozen=True)
class Topic:
    """A topic as the table has it; ``type`` is package/Name."""

    name: str
    type: str
    who: str
    profile: QoSProfile
    note: str = ''


@dataclass(frozen=True)
class Service:
    """A service or action; ``nodes`` have it, by ``name`` below their own name."""

    nodes: tuple[str, ...]
    name: str
    type: str
    what: str


TOPICS = (
    Topic('events', 'event_camera_msgs/EventPacket', 'to drafter, overlay, viewer, keeper', qos.events(),
          'each packet carries new events'),
    Topic('image', 'sensor_msgs/Image', 'to verifier, qualifier, overlay, viewer, keeper', qos.image(),
          'the newest picture counts'),
    Topic('image/compressed', 'sensor_msgs/CompressedImage', 'instead of `image`, with `image_transport: compressed`',
          qos.image()),
    Topic('draft', 'crossspec_ros/Draft',
          'drafter and qualifier to verifier, qualifier, overlay, monitor, viewer, keeper', qos.draft(1.0)),
    Topic('caption', 'crossspec_ros/Caption', 'verifier to overlay, monitor, viewer, keeper', qos.caption(1.0)),
    Topic('verdict', 'crossspec_ros/Verdict', 'verifier to drafter, qualifier, monitor, viewer, keeper',
          qos.verdict()),
    Topic('scene_change', 'crossspec_ros/SceneChange',
          'drafter to verifier, for each frame slot, with `window.when: change` or `both`', qos.scene_change()),
    Topic('prompt', 'std_msgs/String', 'verifier to drafter, qualifier, viewer, keeper', qos.prompt(),
          'who starts later hears the last question'),
    Topic('latency', 'crossspec_ros/WindowLatency', 'monitor, a message a window', qos.latency()),
    Topic('frame_latency', 'crossspec_ros/FrameLatency',
          'drafter, qualifier and verifier, once a second: age of frames and packets by stage, and what became of each',
          qos.frame_latency()),
    Topic('overlay/image', 'sensor_msgs/Image', 'overlay', qos.picture(), 'viewers of either kind match'),
    Topic('overlay/text', 'rviz_2d_overlay_msgs/OverlayText', 'overlay, where the package is installed',
          qos.picture()),
    Topic('overlay/annotations', 'foxglove_msgs/ImageAnnotations', 'overlay, where the package is installed',
          qos.picture()),
    Topic('keeper/moment', 'std_msgs/String', 'keeper, when a moment has been written: JSON', qos.latency()),
    Topic('hard_braking', 'std_msgs/Bool', 'to keeper: true is a moment', qos.trigger()),
    Topic('imu', 'sensor_msgs/Imu', 'to keeper, with `keep.braking_ms2`', qos.imu()),
    Topic('/clock', 'rosgraph_msgs/Clock', 'player, with `clock: sim`', qos.clock()),
    Topic('/diagnostics', 'diagnostic_msgs/DiagnosticArray', 'every node, once a second: what was dropped and why',
          qos.diagnostics()),
)
SERVICES = (
    Service(('verifier', 'drafter', 'qualifier'), 'set_prompt', 'crossspec_ros/SetPrompt',
            'another question from the next window on; the verifier tells the other two'),
    Service(('verifier', 'drafter', 'qualifier'), 'enable', 'std_srvs/SetBool',
            'begin or stop without unloading the model'),
    Service(('verifier', 'drafter', 'qualifier', 'monitor'), 'reset', 'std_srvs/Trigger',
            'forget windows, buffers, caption memory, statistics'),
    Service(('drafter',), 'learn/save', 'std_srvs/Trigger',
            'with `learn.online`: write the active drafter to `learn.folder`, which `drafter_model:=` loads'),
    Service(('drafter',), 'learn/roll_back', 'std_srvs/Trigger',
            'with `learn.online`: draft with the drafter of before the last change again'),
    Service(('verifier',), 'audit', 'std_srvs/Trigger',
            'decode kept windows again without drafts (`audit.keep` or `audit.rate`); the answer is JSON: `checked`, '
            '`mismatched`, `pending`; call again until `pending` is 0'),
    Service(('verifier',), 'ask', 'crossspec_ros/Ask',
            'an action: a question of its own about frames of now or of some seconds ago'),
    Service(('monitor',), 'report', 'std_srvs/Trigger',
            'ages, acceptance, deadlines and the nodes\' counts as JSON'),
    Service(('keeper',), 'keep', 'std_srvs/Trigger',
            'write the last `keep.seconds` and the next `keep.after_s` as a bag (with `keep:=true`)'),
    Service(('player',), 'play', 'std_srvs/Trigger', 'begin (with `autostart: false`)'),
    Service(('player',), 'stop', 'std_srvs/Trigger', 'end'),
)


def quality(profile: QoSProfile) -> str:
    """A profile in words."""
    words = ['reliable' if profile.reliability == QoSReliabilityPolicy.RELIABLE else 'best effort',
             f'keep last {profile.depth}']
    words += ['latched'] if profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL else []
    words += ['deadline offered'] if qos.deadline_ns(profile) else []
    return ', '.join(words)


def _rows(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ('---',) * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in lines)


def topics() -> str:
    return _rows(('Topic', 'Type', 'Who', 'QoS'), (
        (f'`{each.name}`', each.type, each.who, quality(each.profile) + (f': {each.note}' if each.note else ''))
        for each in TOPICS))


def services() -> str:
    return _rows(('Service', 'Type', 'What it does'), (
        (', '.join(f'`{node}/{each.name}`' for node in each.nodes), each.type, each.what) for each in SERVICES))


def launch_arguments() -> str:
    return _rows(('Argument', 'Default', 'Meaning'), (
        (f'`{each.name}`', f'`{each.default}`' if each.default else '',
         each.description + (f': {", ".join(each.choices)}' if each.choices else '')) for each in ARGUMENTS))


def _cell(text: str) -> str:
    return text.replace('|', '\\|')


def interface(path: Path) -> str:
    """The fields of a .msg, .srv or .action file, one table for each of its parts, with the remarks at its top."""
    parts = path.read_text(encoding='utf-8').split('---\n')
    top = [line[1:].strip() for line in parts[0].split('\n\n')[0].splitlines() if line.startswith('#')]
    found = [' '.join(top)] if top else []
    for title, part in zip(_INTERFACES[path.suffix[1:]], parts, strict=True):
        lines = [_FIELD.fullmatch(line.strip()) for line in part.splitlines()
                 if line.strip() and not line.startswith('#')]
        found += [f'*{title}*'] if title else []
        found.append(_rows(('Field', 'Type', 'Meaning'), (
            (f'`{each[2].replace("=", " = ")}`', f'`{each[1]}`', _cell(each[3] or '')) for each in lines)))
    return '\n\n'.join(found)


def _first_sentence(text: str) -> str:
    """Of a description, which may be a module's docstring: without its command, and with one kind of quotes."""
    plain = re.sub(r'^``[^`]+``:\s*', '', re.sub(r'\s+', ' ', text.strip())).replace('``', '`')
    return re.split(r'(?<=\.)\s', plain)[0].rstrip('.')


def _parsers(command: str) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """(words, what it does, parser) of a command, or of each of its subcommands."""
    parser = build_parser('crossspec', DESCRIPTION, COMMANDS, [command])

    def walk(words: str, said: str, one: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
        groups = [action for action in one._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups:
            yield words, _first_sentence(one.description or said), one
        for group in groups:
            said_of = {each.dest: each.help for each in group._choices_actions}
            for name, inner in group.choices.items():
                yield from walk(f'{words} {name}', said_of.get(name) or said, inner)
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    if command != 'bench':
        yield from walk(f'crossspec {command}', COMMANDS[command].help, commands.choices[command])
        return
    for name, bench in BENCHES.items():                         # which reads the rest of its command line itself
        inner = build_parser('crossspec bench', '', BENCHES, [name])
        names = next(action for action in inner._actions if isinstance(action, argparse._SubParsersAction))
        yield from walk(f'crossspec bench {name}', bench.help, names.choices[name])


def _option(action: argparse.Action) -> str:
    if not action.option_strings:
        name = str(action.metavar or action.dest.upper())
        return f'`{name}`' if action.nargs not in ('*', '+', '?') else f'`{name}` ({_count(action)})'
    value = ''
    if action.nargs != 0:
        # The choices tell more than a placeholder does.
        value = ' ' + ('{' + ','.join(map(str, action.choices)) + '}' if action.choices else
                       str(action.metavar or action.dest.upper()))
        value += {'+': ' ...', '*': ' ...'}.get(action.nargs, '')
    # A bar within code cannot be told from that of a table by every reader of Markdown.
    return f'`{", ".join(action.option_strings)}{value}`'.replace('|', ' or ')


def _count(action: argparse.Action) -> str:
    return {'*': 'any number', '+': 'one or more', '?': 'may be left out'}[action.nargs]


def command(name: str) -> str:
    """What a command takes: a table, or a heading and a table for each of its subcommands."""
    found = []
    for words, said, parser in _parsers(name):
        formatter = parser._get_formatter()
        found += [f'### {words}'] if words != f'crossspec {name}' else []               # that stands above already
        found.append(said[0].upper() + said[1:] + '.')
        rows = [(_option(action), _cell(formatter._expand_help(action)) if action.help else '')
                for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        found += [_rows(('Option', 'Meaning'), iter(rows))] if rows else []
    return '\n\n'.join(found)


def commands() -> str:
    return _rows(('Command', 'What it does'), (
        (f'[`crossspec {name}`](#{name})', each.help) for name, each in COMMANDS.items()))


def _range_text(info: ParameterInfo) -> str:
    if info.pattern:
        return f'`{info.pattern}`'
    if info.choices:
        return ', '.join(info.choices)
    return '' if info.low is None else f'{info.low:g} to {info.high:g}'


def parameter_table(node: str) -> str:
    """The table of a node's parameters in docs/, in markdown."""
    rows = ['| Parameter | Default | Range | Meaning |', '| --- | --- | --- | --- |']
    for info in parameters_of(NODES[node]):
        live = '; may change while running' if info.live else ''
        rows.append(f'| `{info.name}` | `{_shown(info.default)}` | {_range_text(info)} | {info.description}{live} |')
    return '\n'.join(rows)


def _shown(default: object) -> str:
    """A default as YAML has it."""
    if isinstance(default, tuple):
        return f'[{", ".join(default)}]'
    return f"'{default}'" if isinstance(default, str) else str(default).lower()


def rendered() -> dict[str, str]:
    """Every table by its name."""
    found = {'topics': topics(), 'services': services(), 'launch arguments': launch_arguments(),
             'commands': commands()}
    found |= {f'parameters {node}': parameter_table(node) for node in NODES}
    found |= {f'command {name}': command(name) for name in COMMANDS}
    found |= {f'{kind}/{path.stem}': interface(path) for kind in _INTERFACES
              for path in sorted((ROOT / kind).glob(f'*.{kind}'))}
    return found


def pages() -> list[Path]:
    return sorted(DOCS.rglob('*.md'))


def blocks(page: Path) -> dict[str, str]:
    """What stands on a page between the marks, by the table's name."""
    return {match[2]: match[0] for match in _BLOCK.finditer(page.read_text(encoding='utf-8'))}


def block(name: str, tables: dict[str, str]) -> str:
    """What must stand on a page. Raises KeyError for a table that nothing declares."""
    return f'<!-- table: {name} -->\n\n{tables[name]}\n\n<!-- end table -->'


def write() -> list[Path]:
    """Put every table into its page; returns the pages that changed."""
    tables, changed = rendered(), []
    for page in pages():
        text = page.read_text(encoding='utf-8')
        new = _BLOCK.sub(lambda match: block(match[2], tables), text)
        if new != text:
            page.write_text(new, encoding='utf-8')
            changed.append(page)
    return changed


def used_in_nodes() -> tuple[set[str], set[tuple[str, str]]]:
    """(topics, (service or action, its class)) that the nodes name as plain texts in their calls."""
    named: set[str] = set()
    offered: set[tuple[str, str]] = set()
    for path in sorted((ROOT / 'crossspec_ros' / 'nodes').glob('*.py')):
        for call in (node for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
                     if isinstance(node, ast.Call)):
            function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, 'id', '')
            texts = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            kinds = [each.id for each in call.args if isinstance(each, ast.Name)]
            if function in ('create_publisher', 'create_subscription') and texts:
                named.add(texts[0].replace('~', path.stem))
            elif function in ('create_service', 'ActionServer') and texts:
                offered.add((texts[0].removeprefix('~/'), next(kind for kind in kinds if kind != 'node')))
    return named, offered


if __name__ == '__main__':
    for changed_page in write():
        print(changed_page.relative_to(ROOT))
