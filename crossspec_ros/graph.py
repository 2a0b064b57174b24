"""The graph, declared once: its nodes, their parameters and remaps, and the environment they need.

`crossspec up`, the demo and every launch file are made from `declare`.
"""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crossspec_ros import params_file
from crossspec_ros.config import NODES, QUANTIZATIONS, QualifierConfig, make, parameters_of
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.resources import python_path, share_path

PACKAGE = 'crossspec_ros'
LAUNCH_ARGUMENTS = ('use_rviz', 'respawn', 'respawn_delay')      # of no use to crossspec up, which has --restart
PAIR = ('drafter', 'verifier')
LIFECYCLE_NODES = ('drafter', 'qualifier', 'verifier')
SERVER_NODES = ('verifier',)
# What the nodes with a model import, most of it only while they load, each node after its own; and what they compile.
MODEL_LIBRARIES = ('crossspec_ros.pipeline.building', 'crossspec_ros.pipeline.drafting', 'crossspec_ros.models.drafter',
                   'crossspec_ros.models.drafters.load', 'crossspec_ros.nodes.drafter',
                   'crossspec_ros.pipeline.verifying', 'crossspec_ros.models.targets', 'crossspec_ros.nodes.verifier',
                   'crossspec_ros.nodes.several', 'crossspec_ros.pipeline.qualifying', 'crossspec_ros.nodes.qualifier')
MODEL_WARM_UP = ('crossspec_ros.events.warm:warm_up',)


@dataclass(frozen=True)
class Argument:
    """An argument of launch files and of `crossspec up`."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


ARGUMENTS: tuple[Argument, ...] = (
    Argument('namespace', 'crossspec', 'namespace of all nodes and of the topics that have no name of their own'),
    Argument('params_file', '', 'YAML file of parameters; empty: the package\'s own'),
    Argument('cameras', '', 'several cameras of one verifier: NAME or NAME=PREFIX, commas between them; PREFIX (/NAME) '
             'stands before both topics of the camera, NAME is the namespace of its nodes; empty: one camera'),
    Argument('role', 'all', 'which half of the graph this machine runs: edge is all but the verifier, server the '
             'verifier', ('all', 'edge', 'server')),
    Argument('secure', 'false', 'SROS2: each process in an enclave named as its node; see docs/edge_and_server.md',
             ('true', 'false')),
    Argument('events_topic', '/event_camera/events', 'topic of the event packets'),
    Argument('image_topic', '/camera/image_raw', 'topic of the images; compressed ones have /compressed after it'),
    Argument('image_transport', 'raw', 'how images come', ('raw', 'compressed')),
    Argument('image_reliability', 'best_effort', 'QoS reliability asked of images', ('best_effort', 'reliable')),
    Argument('model', 'builtin', 'verifier: builtin, a checkpoint folder or a hub id'),
    Argument('drafter_model', 'builtin', 'drafter: builtin or a checkpoint folder: of an event drafter, EventGPT or a '
             'video-language model'),
    Argument('qualifier', '', 'a third model between drafter and verifier, which makes better drafts of the '
             'drafter\'s: builtin, a checkpoint folder or a hub id; empty: none'),
    Argument('learn_online', 'false', 'the drafter learns from verdicts while driving; see its parameters learn.*',
             ('true', 'false')),
    Argument('device', 'cpu', 'torch device of all models'),
    Argument('quantization', 'none', 'number format of the verifier\'s weights; none: the checkpoint\'s own, on a CPU '
             'float32; a type: model.dtype; int8, int4, nf4, dynamic: model.quantization',
             ('none', 'float32', 'float16', 'bfloat16', *QUANTIZATIONS[1:])),
    Argument('use_sim_time', 'false', 'follow /clock', ('true', 'false')),
    Argument('autostart', 'true', 'configure and activate the lifecycle nodes', ('true', 'false')),
    Argument('use_rviz', 'false', 'start RViz with the package\'s view', ('true', 'false')),
    Argument('keep', 'false', 'keep the last seconds in memory and write them as a bag when something happens',
             ('true', 'false')),
    Argument('respawn', 'true', 'launch files: start a node again that has ended by itself', ('true', 'false')),
    Argument('respawn_delay', '0.0', 'launch files: wait this long before, s'),
    Argument('viewer', 'false', 'show the graph live in a browser; needs the extra `view`', ('true', 'false')),
    Argument('trace', '', 'folder in which each process leaves its part of a timeline of all; `crossspec trace` joins '
             'them; empty: none'),
    Argument('bag', '', 'recording to play: a bag, a DSEC sequence, world:SEED; empty: real cameras'),
)


@dataclass(frozen=True)
class NodeSpec:
    """One node's process: what to run with which parameters and remaps."""

    name: str
    namespace: str
    parameters: dict[str, Any] = field(default_factory=dict)
    remaps: dict[str, str] = field(default_factory=dict)
    params_files: tuple[str, ...] = ()
    program: str = ''                                           # where it is not the node's name
    arguments: tuple[str, ...] = ()                             # of the program; they name its several nodes
    enclave: str = ''                                           # of SROS2; empty: none of its own
    cameras: tuple[Camera, ...] = ()                            # of each node, where the process has several

    @property
    def executable(self) -> str:
        """Name under `ros2 run crossspec_ros`."""
        return self.program or self.name

    @property
    def full_name(self) -> str:
        """Fully qualified node name."""
        return f'/{self.namespace.strip("/")}/{self.name}' if self.namespace.strip('/') else f'/{self.name}'

    @property
    def members(self) -> list[tuple[str, dict[str, str]]]:
        """Namespace and remaps of each node of the process."""
        return [(camera.namespace, camera.remaps) for camera in self.cameras] or [(self.namespace, self.remaps)]

    def ros_arguments(self) -> list[str]:
        """``--ros-args`` and what follows."""
        arguments = ['--ros-args', '-r', f'__node:={self.name}']
        if self.namespace.strip('/'):
            arguments += ['-r', f'__ns:=/{self.namespace.strip("/")}']
        for source, target in self.remaps.items():
            arguments += ['-r', f'{source}:={target}']
        if self.enclave:
            arguments += ['--enclave', self.enclave]
        for path in self.params_files:
            arguments += ['--params-file', path]
        for name, value in self.parameters.items():
            arguments += ['-p', f'{name}:={_yaml_value(value)}']
        return arguments

    def command(self) -> list[str]:
        """What to execute, with this Python, without the launch system."""
        return [sys.executable, '-m', f'{PACKAGE}.nodes.{self.executable}', *self.arguments, *self.ros_arguments()]


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(_yaml_value, value))}]'
    # Quoted, or a text like 1 or null would arrive as another type.
    return repr(value) if isinstance(value, (int, float)) else "'" + str(value).replace("'", "''") + "'"


def arguments_from(given: Mapping[str, str]) -> dict[str, str]:
    """All arguments, defaults where nothing is given. Raises CrossSpecError for an unknown name or a wrong choice."""
    known = {argument.name: argument for argument in ARGUMENTS}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise CrossSpecError(f'the graph has no argument {unknown[0]!r}; it has {", ".join(known)}')
    values = {name: argument.default for name, argument in known.items()} | dict(given)
    for name, argument in known.items():
        if argument.choices and values[name] not in argument.choices:
            raise CrossSpecError(f'{name} must be one of {", ".join(argument.choices)}, got {values[name]!r}')
    return values


def declare(given: Mapping[str, str] | None = None, parameters: Mapping[str, Mapping[str, Any]] | None = None
            ) -> list[NodeSpec]:
    """The nodes of the graph for these arguments; ``bag`` and ``viewer`` bring player and viewer.

    ``parameters`` has more by node name; they win over the YAML file and over the arguments.

    Raises:
        CrossSpecError: an argument or parameter that does not exist, is of a wrong type or out of range.
    """
    values = arguments_from(given or {})
    cameras = cameras_from(values)
    file = values['params_file'] or str(share_path('config', 'crossspec.yaml'))
    by_bare_name = check_params_file(file, values['namespace'])
    kind = values['quantization']
    dtype, kind = ('auto', kind) if kind in QUANTIZATIONS else (kind, QUANTIZATIONS[0])
    autostart, transport = values['autostart'] == 'true', values['image_transport']
    own: dict[str, dict[str, Any]] = {
        'drafter': {'model.path': values['drafter_model'], 'model.device': values['device'], 'autostart': autostart,
                    'model.speaks': _spoken(values, 'drafter_model'),
                    'learn.online': values['learn_online'] == 'true'},
        'verifier': {'model.path': values['model'], 'model.device': values['device'], 'model.dtype': dtype,
                     'model.quantization': kind, 'image_transport': transport, 'autostart': autostart},
        'overlay': {'image_transport': transport},
        'monitor': {},
    }
    if values['qualifier']:
        own['qualifier'] = {'model.path': values['qualifier'], 'model.device': values['device'],
                            'model.speaks': _spoken(values, 'qualifier'), 'image_transport': transport,
                            'autostart': autostart}
    if values['viewer'] == 'true':
        own['viewer'] = {'image_transport': transport}
    if values['bag']:
        # Who follows /clock gets the recorded stamps; who does not, stamps of now.
        own['player'] = {'source': values['bag'], 'clock': 'sim' if values['use_sim_time'] == 'true' else 'wall',
                         'wait_for': ' '.join(name for name in LIFECYCLE_NODES if name in own)}
    if values['keep'] == 'true':
        own['keeper'] = {}
    specs = []
    for name, settings in own.items():
        defaults = {info.name: info.default for info in parameters_of(NODES[name])}
        # An argument at its default says nothing, so that the YAML file can.
        merged = {key: value for key, value in settings.items() if value != defaults[key]}
        merged = by_bare_name.get(name, {}) | merged | (parameters or {}).get(name, {})
        if values['trace']:
            merged = {'trace.folder': values['trace']} | merged
        _check_parameters(name, merged)
        merged['use_sim_time'] = values['use_sim_time'] == 'true' and name != 'player'
        specs += _by_camera(name, merged, values, cameras, file)
    wanted = {'all': own.keys(), 'edge': own.keys() - set(SERVER_NODES), 'server': SERVER_NODES}[values['role']]
    if values['secure'] == 'true':
        specs = [replace(spec, enclave=spec.full_name) for spec in specs]
    return [spec for spec in specs if spec.name in wanted]


def _spoken(values: Mapping[str, str], who: str) -> str:
    """The verifier in whose tokens a drafter or qualifier of another vocabulary is to speak: empty where it is not at
    hand, or ``who`` is told to be of one vocabulary.
    """
    alike = 'builtin' if who == 'drafter_model' else values['model']
    if values[who] == alike or values['role'] == 'edge':
        return ''
    return values['model'] if values['model'] == 'builtin' or Path(values['model']).expanduser().is_dir() else ''


@dataclass(frozen=True)
class Camera:
    """A pair of an event camera and an RGB camera, and the namespace of its nodes."""

    namespace: str
    events_topic: str
    image_topic: str

    @property
    def remaps(self) -> dict[str, str]:
        """From the nodes' names of topics to the camera's."""
        return {'events': self.events_topic, 'image': self.image_topic,
                'image/compressed': self.image_topic + '/compressed'}


def cameras_from(values: Mapping[str, str]) -> list[Camera]:
    """The cameras that the arguments name. Raises CrossSpecError for what is no name, or is there twice."""
    if not values['cameras']:
        return [Camera(values['namespace'], values['events_topic'], values['image_topic'])]
    found: dict[str, Camera] = {}
    for text in values['cameras'].replace(',', ' ').split():
        name, _, prefix = text.partition('=')
        prefix = '/' + (prefix or name).strip('/')
        if not re.fullmatch(r'[a-zA-Z]\w*', name, re.ASCII) or not re.fullmatch(r'(/[a-zA-Z_]\w*)+', prefix, re.ASCII):
            raise CrossSpecError(f'cameras must be NAME or NAME=PREFIX with names that ROS takes, got {text!r}')
        if name in found:
            raise CrossSpecError(f'cameras must have different names, got {name!r} twice')
        base = values['namespace'].strip('/')
        found[name] = Camera(f'{base}/{name}' if base else name, *(prefix + '/' + values[topic].lstrip('/')
                                                                  for topic in ('events_topic', 'image_topic')))
    return list(found.values())


def _by_camera(name: str, parameters: dict[str, Any], values: Mapping[str, str], cameras: Sequence[Camera],
               params_file: str) -> list[NodeSpec]:
    """A node of each camera; one process where they share a model."""
    qos = {camera: _image_qos(name, values, camera) for camera in cameras}
    if name == 'verifier' and values['cameras']:
        arguments = [word for camera in cameras for word in ('--camera', '/' + camera.namespace, camera.image_topic)]
        for overrides in qos.values():
            parameters = parameters | overrides
        return [NodeSpec(name, values['namespace'], parameters, {}, (params_file,), 'several', tuple(arguments),
                         cameras=tuple(cameras))]
    return [NodeSpec(name, camera.namespace, parameters | qos[camera] | _own_port(name, parameters, number),
                     camera.remaps, (params_file,)) for number, camera in enumerate(cameras)]


def _own_port(name: str, parameters: Mapping[str, Any], number: int) -> dict[str, int]:
    """Ports of the viewer of the camera with this number: those of the first, and so many more."""
    if name != 'viewer' or not number:
        return {}
    defaults = {info.name: info.default for info in parameters_of(NODES[name])}
    return {port: parameters.get(port, defaults[port]) + number for port in ('port', 'foxglove_port')}


def _image_qos(name: str, values: Mapping[str, str], camera: Camera) -> dict[str, str]:
    """The override of the images' reliability, by the name that the topic has after remapping."""
    if name not in ('verifier', 'qualifier', 'overlay', 'viewer') or values['image_reliability'] == 'best_effort':
        return {}
    topic = camera.image_topic + ('/compressed' if values['image_transport'] == 'compressed' else '')
    return {f'qos_overrides.{topic}.subscription.reliability': values['image_reliability']}


def _check_parameters(name: str, settings: Mapping[str, Any]) -> None:
    made = make(NODES[name], {key: value for key, value in settings.items()
                              if key not in params_file.ROS_OWN and not key.startswith(params_file.QOS_PREFIX)})
    if isinstance(made, QualifierConfig):
        made.look()


def check_params_file(path: str | Path, namespace: str = ARGUMENTS[0].default) -> dict[str, dict[str, Any]]:
    """What a parameter file has for nodes by their bare names, by node. Raises CrossSpecError as `params_file.read`."""
    return params_file.read(path, {name: NodeSpec(name, namespace).full_name for name in NODES})


def node_command(name: str, parameters: Mapping[str, Any] | None = None, *, namespace: str = '',
                 remaps: Mapping[str, str] | None = None) -> list[str]:
    """What to execute for one node by itself. Raises CrossSpecError for a parameter that breaks a rule."""
    if name not in NODES:
        raise CrossSpecError(f'node must be one of {", ".join(NODES)}, got {name!r}')
    _check_parameters(name, {key: value for key, value in (parameters or {}).items() if key != 'use_sim_time'})
    return NodeSpec(name, namespace, dict(parameters or {}), dict(remaps or {})).command()


def fastdds_profile() -> Path:
    """The profile without which best-effort images are nearly all lost."""
    return share_path('config', 'fastdds.xml')


def node_environment(base: Mapping[str, str] | None = None, *, domain_id: int | None = None, local: bool = True
                     ) -> dict[str, str]:
    """The environment that every process of the graph needs: the Fast DDS profile, discovery range, domain.

    What the user has set already stays. ``local``: discovery on this host only.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(fastdds_profile()))
    if local:
        environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if domain_id is not None:
        environment['ROS_DOMAIN_ID'] = str(domain_id)
    path = python_path(environment.get('PYTHONPATH', ''))
    if path:
        environment['PYTHONPATH'] = path
    # The loops of small models gain nothing from a thread a core, and lose much when processes fight for them.
    environment.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    # `python -m` looks into the current folder first, where a source folder of ROS may lie.
    environment.setdefault('PYTHONSAFEPATH', '1')
    return environment
