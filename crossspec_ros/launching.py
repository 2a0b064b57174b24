"""Launch descriptions made from the one declaration of the graph. Imported by the launch files only."""
from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction, SetEnvironmentVariable,
                            Shutdown)
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from crossspec_ros import forker, launched, nursery
from crossspec_ros.children import FOLLOWED
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import (ARGUMENTS, LIFECYCLE_NODES, MODEL_LIBRARIES, MODEL_WARM_UP, PACKAGE, NodeSpec,
                                 declare, node_environment)
from crossspec_ros.resources import share_path

_SET = ('FASTDDS_DEFAULT_PROFILES_FILE', 'OMP_WAIT_POLICY', 'PYTHONPATH')
_RVIZ = 'rviz2'
# `python -m` looks into the current folder first, where a source folder of ROS may lie.
_SAFE_PATH = {'PYTHONSAFEPATH': '1'}


def describe(defaults: Mapping[str, str] | None = None, *, parameters: Mapping[str, Mapping[str, Any]] | None = None,
             required: Sequence[str] = ()) -> LaunchDescription:
    """A launch description with the graph's arguments; ``defaults`` replaces theirs, ``required`` have none."""
    declared = []
    for argument in ARGUMENTS:
        default = None if argument.name in required else (defaults or {}).get(argument.name, argument.default)
        declared.append(DeclareLaunchArgument(argument.name, default_value=default, description=argument.description,
                                              choices=list(argument.choices) or None))

    def start(context: LaunchContext) -> list[Action]:
        given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
        respawn = _Respawn(given['respawn'] == 'true', _seconds(given))
        specs = declare(given, parameters)
        if respawn.wanted and 'launch-prefix' not in context.launch_configurations:
            respawn.python = _python_of([spec for spec in specs if spec.name in LIFECYCLE_NODES])
        actions = [_action(spec, respawn) for spec in specs]
        return [*respawn.forker(), *actions, *([_rviz()] if given['use_rviz'] == 'true' else [])]

    environment = node_environment(local=False)
    variables = [SetEnvironmentVariable(name, environment[name]) for name in _SET if name in environment]
    variables.append(SetEnvironmentVariable(FOLLOWED, str(os.getpid())))
    return LaunchDescription([*declared, *variables, OpaqueFunction(function=start)])


def _seconds(given: Mapping[str, str]) -> float:
    try:
        delay_s = float(given['respawn_delay'])
    except ValueError:
        delay_s = -1.0
    if not 0.0 <= delay_s < float('inf'):
        raise CrossSpecError(f'respawn_delay must be a number of seconds >= 0, got {given["respawn_delay"]!r}')
    return delay_s


@dataclass
class _Respawn:
    """How nodes are started again: those that import for long are forked by a process of the launch.

    ``python`` runs that process and who looks after them; empty where there are none, or this host cannot fork them.
    """

    wanted: bool
    delay_s: float
    python: Sequence[str] = ()
    name: str = field(default_factory=lambda: secrets.token_hex(8))

    def forker(self) -> list[Action]:
        if not self.python:
            return []
        return [ExecuteProcess(cmd=forker.command_of([*MODEL_LIBRARIES, *MODEL_WARM_UP], self.name, self.python),
                               name='forker', additional_env=_SAFE_PATH, output='screen', sigterm_timeout='20',
                               respawn=True, respawn_delay=self.delay_s)]

    def options_of(self, spec: NodeSpec) -> dict[str, Any]:
        """Of a node's action. Nobody starts the player again: it ends when the recording has."""
        options: dict[str, Any] = {'respawn': self.wanted and spec.name != 'player', 'respawn_delay': self.delay_s}
        if self.python and spec.name in LIFECYCLE_NODES:
            before = launched.command_before(self.name, self.delay_s, self.python)
            options |= {'prefix': shlex.join(before), 'additional_env': _SAFE_PATH, 'exec_name': spec.executable}
        return options


def _python_of(specs: Sequence[NodeSpec]) -> list[str]:
    """The interpreter that the executables of these nodes name; none where there is no such node, or none is named."""
    if not specs or not nursery.supported():
        return []
    try:
        with Path(get_package_prefix(PACKAGE), 'lib', PACKAGE, specs[0].executable).open('rb') as file:
            first = file.readline(512).decode(errors='replace')
    except (PackageNotFoundError, OSError):
        return []                                               # launch says what is missing
    words = first[2:].split() if first.startswith('#!') else []
    return words if words and 'python' in words[-1] else []


def _action(spec: NodeSpec, respawn: _Respawn) -> Node:
    """A node; the end of the player, which comes when the recording has ended and drained, ends all."""
    # A process of several nodes has no name of its own: its parameters are for all of them.
    name, namespace = (None, None) if spec.arguments else (spec.name, spec.namespace)
    return Node(package=PACKAGE, executable=spec.executable, name=name, namespace=namespace, output='screen',
                arguments=list(spec.arguments), ros_arguments=['--enclave', spec.enclave] if spec.enclave else [],
                parameters=[*spec.params_files, spec.parameters], remappings=list(spec.remaps.items()),
                sigterm_timeout='20', **respawn.options_of(spec),
                on_exit=Shutdown(reason='the player has ended') if spec.name == 'player' else None)


def _rviz() -> Action:
    """RViz, or a line that it is not there: the rest of the graph does not need it."""
    try:
        get_package_prefix(_RVIZ)
    except PackageNotFoundError:
        return LogInfo(msg=f'use_rviz is true, but {_RVIZ} is not installed here: no RViz is started, all else is; '
                           f'install ros-$ROS_DISTRO-{_RVIZ}, or look at overlay/image with another viewer')
    return Node(package=_RVIZ, executable=_RVIZ, name=_RVIZ, output='screen',
                arguments=['-d', str(share_path('rviz', 'crossspec.rviz'))])
