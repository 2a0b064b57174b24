"""Launch descriptions made from the one declaration of the graph. Imported by the launch files only."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import ARGUMENTS, FOLLOWED, PACKAGE, NodeSpec, declare, node_environment
from crossspec_ros.resources import share_path

_SET = ('FASTDDS_DEFAULT_PROFILES_FILE', 'OMP_WAIT_POLICY', 'PYTHONPATH')
_RVIZ = 'rviz2'


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
        delay_s = _seconds(given)
        actions = [_action(spec, given['respawn'] == 'true', delay_s) for spec in declare(given, parameters)]
        return [*actions, *([_rviz()] if given['use_rviz'] == 'true' else [])]

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


def _action(spec: NodeSpec, respawn: bool, delay_s: float) -> Node:
    """A node; the end of the player, which comes when the recording has ended and drained, ends all."""
    player = spec.name == 'player'
    return Node(package=PACKAGE, executable=spec.executable, name=spec.name, namespace=spec.namespace, output='screen',
                parameters=[*spec.params_files, spec.parameters], remappings=list(spec.remaps.items()),
                sigterm_timeout='20', respawn=respawn and not player, respawn_delay=delay_s,
                on_exit=Shutdown(reason='the player has ended') if player else None)


def _rviz() -> Action:
    """RViz, or a line that it is not there: the rest of the graph does not need it."""
    try:
        get_package_prefix(_RVIZ)
    except PackageNotFoundError:
        return LogInfo(msg=f'use_rviz is true, but {_RVIZ} is not installed here: no RViz is started, all else is; '
                           f'install ros-$ROS_DISTRO-{_RVIZ}, or look at overlay/image with another viewer')
    return Node(package=_RVIZ, executable=_RVIZ, name=_RVIZ, output='screen',
                arguments=['-d', str(share_path('rviz', 'crossspec.rviz'))])
