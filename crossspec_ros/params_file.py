"""Parameter files of ROS 2, read and checked once before a node starts, with the rules that rcl reads them by.

A file maps node names to ``ros__parameters``. Names may be patterns (``/**``, ``/ns/*``, ``/**/node``), namespaces may
be nested, and parameters may be nested or dotted. What ``ros2 param dump`` writes is such a file.
"""
from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crossspec_ros.config import NODES, check, make, parameters_of
from crossspec_ros.errors import CrossSpecError

_log = logging.getLogger(__name__)
_KEY = 'ros__parameters'
# What rclpy declares for every node by itself, and so dumps; and the prefix of QoS overrides.
ROS_OWN = ('use_sim_time', 'start_type_description_service')
QOS_PREFIX = 'qos_overrides.'
_BOOLS = {**dict.fromkeys(('y', 'Y', 'yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON'), True),
          **dict.fromkeys(('n', 'N', 'no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF'), False)}
_INT = re.compile(r'[-+]?(0[xX][0-9a-fA-F]+|[0-9]+)')
_FLOAT = re.compile(r'[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)')


@dataclass(frozen=True)
class Section:
    """One entry of a file: the name or pattern as rcl reads it (from /), as it stands there, and its parameters."""

    pattern: str
    written: str
    values: Mapping[str, Any]

    @property
    def node(self) -> str:
        """The last part of the name; a pattern's may be * or **."""
        return self.pattern.rsplit('/', 1)[-1]

    def matches(self, full_name: str) -> bool:
        """Whether it is for the node of this full name: * is one part of a name, ** any number of them."""
        parts = {'*': r'/\w+', '**': r'(/\w+)*'}
        return re.fullmatch(''.join(parts.get(part, '/' + re.escape(part)) for part in self.pattern[1:].split('/')),
                            full_name) is not None


def read(path: str | Path, full_names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Check a file for the nodes of a graph, given by name with their full names (``/ns/drafter``).

    Returns what ROS itself would not give to them: parameters under a node's bare name, which ROS takes for a node
    without a namespace.

    Raises:
        CrossSpecError: it cannot be read, is no parameter file, or sets what a node refuses; in one line with file,
            node, parameter and rule.
    """
    given: dict[str, dict[str, Any]] = {name: {} for name in full_names}
    bare: dict[str, dict[str, Any]] = {name: {} for name in full_names}
    for section in sections(path):
        by_name = {name for name, full in full_names.items() if section.matches(full)}
        if not by_name and section.node in full_names and section.pattern == f'/{section.node}':
            by_name = {section.node}
            bare[section.node] |= section.values
        _check_section(path, section, by_name | ({section.node} & set(NODES)))
        if not by_name and section.node in full_names:
            _log.warning('%s, %s: is for no node of this graph, whose nodes are %s', path, section.written,
                         ', '.join(full_names.values()))
        for name in by_name:
            given[name] |= _own(name, section.values)
    for name, values in given.items():
        try:
            make(NODES[name], values)
        except CrossSpecError as error:
            raise CrossSpecError(f'{path}, {full_names[name]}: {error}') from error
    return {name: values for name, values in bare.items() if values}


def _own(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {info.name for info in parameters_of(NODES[name])}
    return {key: value for key, value in values.items() if key in known}


def _check_section(path: str | Path, section: Section, names: set[str]) -> None:
    """Every value by itself, against each node that it is for."""
    if not names:
        close = difflib.get_close_matches(section.node, NODES, 1)
        if close or '*' in section.node:
            raise CrossSpecError(f'{path}, {section.written}: must name a node ({", ".join(NODES)}), got '
                                 f'{section.node!r}' + (f'; did you mean {close[0]}?' if close else
                                                        ' in a namespace that none of them is in'))
        return                                            # of another package's node, in a file for a whole vehicle
    infos = {name: {info.name: info for info in parameters_of(NODES[name])} for name in sorted(names)}
    for key, value in section.values.items():
        if key in ROS_OWN:
            if not isinstance(value, bool):
                raise CrossSpecError(f'{path}, {section.written}: {key} must be bool, got {value!r}')
            continue
        having = [name for name in infos if key in infos[name]]
        if not having and not key.startswith(QOS_PREFIX):
            known = sorted({each for own in infos.values() for each in own})
            close = difflib.get_close_matches(key, known, 1)
            raise CrossSpecError(f'{path}, {section.written}: must set parameters of {" or ".join(infos)}, '
                                 f'got {key!r}; '
                                 + (f'did you mean {close[0]}?' if close else f'there are {", ".join(known)}'))
        for name in having:
            try:
                check(infos[name][key], value)
            except CrossSpecError as error:
                raise CrossSpecError(f'{path}, {section.written} ({name}): {error}' if name != section.node else
                                     f'{path}, {section.written}: {error}') from error


# ---- the file

def sections(path: str | Path) -> list[Section]:
    """All entries of a file, in their order. Raises CrossSpecError as `read`."""
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
        events = list(yaml.parse(text, yaml.SafeLoader))
        documents = list(yaml.compose_all(text, yaml.SafeLoader))
    except OSError as error:
        raise CrossSpecError(f'params_file must be readable, got {path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise CrossSpecError(f'params_file must be UTF-8, got {path}: byte {error.start}') from error
    except (yaml.YAMLError, RecursionError) as error:
        raise CrossSpecError(f'params_file must be YAML, got {path}: {" ".join(str(error).split())}') from error
    alias = next((event for event in events if isinstance(event, yaml.AliasEvent)), None)
    if alias is not None:
        raise CrossSpecError(f'params_file must do without aliases, ROS cannot read them, got *{alias.anchor} in '
                             f'{path}, line {alias.start_mark.line + 1}')
    try:
        return [section for document in documents for section in _walk(document, [])]
    except _Fault as error:
        raise CrossSpecError(f'{path}, {error}') from error


class _Fault(Exception):
    """What is wrong with the shape of a file, without its name."""


def _walk(node: yaml.Node, names: list[str]) -> Iterator[Section]:
    """The sections at or below a part of the tree that names nodes."""
    where = '/'.join(names) or 'the file'
    if not isinstance(node, yaml.MappingNode):
        if not names and isinstance(node, yaml.ScalarNode) and not node.value:
            return                                                       # nothing in it
        raise _Fault(f'{where}: must map names of nodes to {_KEY}, got {_shown(node)} in line '
                     f'{node.start_mark.line + 1}')
    keys = [str(key.value) for key, _ in node.value]
    for key, body in zip(keys, (body for _, body in node.value)):
        if key == _KEY:
            if not names:
                raise _Fault(f'{_KEY}: must stand under the name of a node or under /**')
            if not isinstance(body, yaml.MappingNode):
                raise _Fault(f'{where}: {_KEY} must map parameters to values, got {_shown(body)}')
            written = '/'.join(names)
            yield Section('/' + written.strip('/'), written, dict(_flatten(body, '')))
        elif isinstance(body, yaml.MappingNode):
            yield from _walk(body, [*names, key])
        else:
            wrong = difflib.get_close_matches(_KEY, names[-1:], 1, 0.5)
            raise _Fault(f'{"/".join(names[:-1] if wrong else names) or "the file"}: must have its parameters under '
                         f'{_KEY}, got ' + (f'{wrong[0]!r}' if wrong else f'{key!r} outside of it'))


def _flatten(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, body in node.value:
        name = f'{prefix}{key.value}'
        if isinstance(body, yaml.MappingNode):
            yield from _flatten(body, f'{name}.')
        elif isinstance(body, yaml.SequenceNode):
            yield name, [_scalar(item, name) for item in body.value]
        else:
            yield name, _scalar(body, name)


def _scalar(node: yaml.Node, name: str) -> bool | int | float | str:
    """A value as rcl takes it: 1e3 is a number here, though YAML calls it a text."""
    if not isinstance(node, yaml.ScalarNode):
        raise _Fault(f'{name} must be a value or a list of values, got {_shown(node)}')
    text = node.value
    if node.style is not None or node.tag.endswith(':str') and text and not _plain(text):
        return text
    if not text:
        raise _Fault(f'{name} must have a value, got none in line {node.start_mark.line + 1}')
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text) and not node.tag.endswith(':float'):
        digits = text.lstrip('+-')
        return int(text, 16 if digits[:2] in ('0x', '0X') else 8 if _is_octal(digits) else 10)
    return float(text.replace('.inf', 'inf').replace('.nan', 'nan').lower()) if _FLOAT.fullmatch(text) else text


def _plain(text: str) -> bool:
    return text in _BOOLS or _INT.fullmatch(text) is not None or _FLOAT.fullmatch(text) is not None


def _is_octal(digits: str) -> bool:
    return len(digits) > 1 and digits[0] == '0' and set(digits) <= set('01234567')


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value else 'nothing'
    return 'a list' if isinstance(node, yaml.SequenceNode) else 'a map'
