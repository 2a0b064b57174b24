"""Launch descriptions made from the one declaration of the graph. Imported by the launch files only."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from crossspec_ros.graph import ARGUMENTS, PACKAGE, NodeSpec, declare, node_environment
from crossspec_ros.resources import share_path

_SET = ('FASTDDS_DEFAULT_PROFILES_FILE', 'OMP_WAIT_POLICY', 'PYTHONPATH')


def describe(defaults: Mapping[str, str] | None = None, *, parameters: Mapping[str, Mapping[str, Any]] | None = None,
             required: Sequence[str] = ()) -> LaunchDescription:
    """A launch description with the graph's arguments; ``defaults`` replaces theirs, ``required`` have none."""
    declared = []
    for argument in ARGUMENTS:
        default = None if argument.name in required else (defaults or {}).get(argument.name, argument.default)
        declared.append(DeclareLaunchArgument(argument.name, default_value=default, description=argument.description,
                                              choices=list(argument.choices) or None))

    def start(context: LaunchContext) -> list[Node]:
        given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
        return [_action(spec) for spec in declare(given, parameters)]

    environment = node_environment(local=False)
    variables = [SetEnvironmentVariable(name, environment[name]) for name in _SET if name in environment]
    rviz = Node(package='rviz2', executable='rviz2', name='rviz2', output='screen',
                arguments=['-d', str(share_path('rviz', 'crossspec.rviz'))],
                condition=IfCondition(LaunchConfiguration('use_rviz')))
    return LaunchDescription([*declared, *variables, OpaqueFunction(function=start), rviz])


def _action(spec: NodeSpec) -> Node:
    # A process of several nodes has no name of its own: its parameters are for all of them.
    name, namespace = (None, None) if spec.arguments else (spec.name, spec.namespace)
    return Node(package=PACKAGE, executable=spec.executable, name=name, namespace=namespace, output='screen',
                arguments=list(spec.arguments),
                parameters=[*spec.params_files, spec.parameters], remappings=list(spec.remaps.items()),
                sigterm_timeout='20')
