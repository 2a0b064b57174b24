"""Who of the graph may publish, hear and serve what: the policy of SROS2, made from the graph's own declaration.

``crossspec up --policy FILE`` writes it; ``ros2 security create_permission`` signs it. Each process has an enclave
named as its node; ``operator`` is for people: it hears all, and calls every service and action.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from crossspec_ros.graph import LIFECYCLE_NODES, NodeSpec

OPERATOR = 'operator'
_CAMERA = ('events', 'image', 'image/compressed')
_PARAMETERS = tuple(f'~/{name}' for name in (
    'describe_parameters', 'get_parameter_types', 'get_parameters', 'get_type_description', 'list_parameters',
    'set_parameters', 'set_parameters_atomically'))
_LIFECYCLE = tuple(f'~/{name}' for name in (
    'change_state', 'get_available_states', 'get_available_transitions', 'get_state', 'get_transition_graph'))


@dataclass(frozen=True)
class Access:
    """Names as the node's code has them: with ~ those of the node, else those of its namespace, or whole ones."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    serve: tuple[str, ...] = ()
    request: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()


_MODEL = ('~/set_prompt', '~/enable', '~/reset')
ACCESS: dict[str, Access] = {
    'drafter': Access(('draft', 'scene_change', 'frame_latency'), ('events', 'verdict', 'prompt'),
                      (*_MODEL, '~/learn/save', '~/learn/roll_back')),
    'qualifier': Access(('draft', 'frame_latency'), ('image', 'image/compressed', 'draft', 'verdict', 'prompt'),
                        _MODEL),
    'verifier': Access(('caption', 'verdict', 'prompt', 'frame_latency'),
                       ('image', 'image/compressed', 'draft', 'scene_change'), (*_MODEL, '~/audit'),
                       execute=('~/ask',)),
    'overlay': Access(('overlay/image', 'overlay/text', 'overlay/annotations'), (*_CAMERA, 'draft', 'caption')),
    'monitor': Access(('latency',), ('draft', 'caption', 'verdict', 'frame_latency', '/diagnostics'),
                      ('~/report', '~/reset')),
    'viewer': Access((), (*_CAMERA, 'draft', 'caption', 'verdict', 'latency', 'prompt', '/diagnostics')),
    'player': Access((*_CAMERA, '/clock'), (), ('~/play', '~/stop'),
                     tuple(f'{name}/get_state' for name in LIFECYCLE_NODES)),
    'keeper': Access(('~/moment',), (*_CAMERA, 'draft', 'caption', 'verdict', 'scene_change', 'prompt', 'latency',
                                     'hard_braking', 'imu', '/diagnostics'), ('~/keep',)),
}


def access_of(name: str) -> Access:
    """All that a node may, with what every node of ROS has."""
    own, lifecycle = ACCESS[name], name in LIFECYCLE_NODES
    return Access((*own.publish, '/diagnostics', '/rosout', '/parameter_events',
                   *(('~/transition_event',) if lifecycle else ())),
                  (*own.subscribe, '/clock', '/parameter_events'),
                  (*own.serve, *_PARAMETERS, *(_LIFECYCLE if lifecycle else ())), own.request, own.execute)


def policy(specs: Sequence[NodeSpec]) -> str:
    """The policy of these nodes as XML, version 0.2.0 of SROS2's form."""
    root = ElementTree.Element('policy', version='0.2.0')
    enclaves = ElementTree.SubElement(root, 'enclaves')
    for spec in specs:
        profiles = _enclave(enclaves, spec.full_name)
        for namespace, remaps in spec.members:
            _profile(profiles, namespace, spec.name, _resolved(access_of(spec.name), namespace, spec.name, remaps))
    base = '/' + specs[0].namespace.strip('/').split('/')[0] if specs and specs[0].namespace.strip('/') else ''
    everything = ('/*',)
    _profile(_enclave(enclaves, f'{base}/{OPERATOR}'), '/', '*', {
        ('topics', 'subscribe'): everything, ('services', 'request'): everything, ('actions', 'call'): everything,
        ('topics', 'publish'): ('/rosout', '/parameter_events')})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding='unicode') + '\n'


def _enclave(enclaves: ElementTree.Element, path: str) -> ElementTree.Element:
    return ElementTree.SubElement(ElementTree.SubElement(enclaves, 'enclave', path=path), 'profiles')


def _resolved(access: Access, namespace: str, name: str, remaps: dict[str, str]) -> dict[tuple[str, str], tuple]:
    base = '/' + namespace.strip('/') if namespace.strip('/') else ''

    def whole(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({remaps.get(each, each) if remaps.get(each, each).startswith('/')
                             else each.replace('~', f'{base}/{name}', 1) if each.startswith('~')
                             else f'{base}/{each}' for each in names}))

    return {('topics', 'publish'): whole(access.publish), ('topics', 'subscribe'): whole(access.subscribe),
            ('services', 'reply'): whole(access.serve), ('services', 'request'): whole(access.request),
            ('actions', 'execute'): whole(access.execute)}


def _profile(profiles: ElementTree.Element, namespace: str, name: str,
             allowed: dict[tuple[str, str], tuple[str, ...]]) -> None:
    profile = ElementTree.SubElement(profiles, 'profile', ns='/' + namespace.strip('/'), node=name)
    for (kind, verb), names in allowed.items():
        if names:
            group = ElementTree.SubElement(profile, kind, {verb: 'ALLOW'})
            for each in names:
                ElementTree.SubElement(group, kind[:-1]).text = each
