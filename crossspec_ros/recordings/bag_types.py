"""Message types of bags: what Kilted has, event_camera_msgs, this package's own, and those that a bag brings along."""
from __future__ import annotations

import os
import re
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.base import TypesysError

from crossspec_ros.errors import CrossSpecError

# The second is the name of the same message before 2023, with the same layout.
EVENT_TYPES = ('event_camera_msgs/msg/EventPacket', 'event_array_msgs/msg/EventArray')
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
# Packets of a video; their definitions come with the bag.
VIDEO_TYPES = ('foxglove_msgs/msg/CompressedVideo', 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket')

# ROS 1's header and times, which rosbags translates by itself.
_TRANSLATED = ('std_msgs/msg/Header', 'builtin_interfaces/msg/Time', 'builtin_interfaces/msg/Duration')
_RULE_LENGTH = 80                       # of the line of = between the files of one definition

_EVENT_PACKET = """\
std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""


def _own_definitions() -> dict[str, str]:
    """Texts of this package's own messages, from the source tree or from where it is installed."""
    prefixes = [Path(sysconfig.get_path('data')), *map(Path, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep))]
    for share in (Path(__file__).resolve().parents[2], *(prefix / 'share' / 'crossspec_ros' for prefix in prefixes)):
        if found := sorted((share / 'msg').glob('*.msg')):
            return {f'crossspec_ros/msg/{path.stem}': path.read_text('utf-8') for path in found}
    return {}


@lru_cache(maxsize=1)
def _base_types() -> dict[str, Any]:
    types: dict[str, Any] = {}
    for name, text in {**{name: _EVENT_PACKET for name in EVENT_TYPES}, **_own_definitions()}.items():
        types.update(get_types_from_msg(text, name))
    return types


def _types_of_idl(text: str) -> dict[str, Any]:
    """Types of an IDL definition, of one file or of several joined under lines ``IDL: NAME``."""
    types: dict[str, Any] = {}
    parts = re.split(rf'^={{{_RULE_LENGTH}}}\n', text, flags=re.MULTILINE)
    for part in filter(str.strip, parts):
        types.update(get_types_from_idl(part.partition('\n')[2] if part.startswith('IDL: ') else part))
    return types


class TypeTable:
    """The types that one bag needs; ``path`` is the bag, for messages to people."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store = get_typestore(Stores.ROS2_KILTED)
        self._store.register(_base_types())
        self._learned: dict[str, Any] = {}
        self._unread: dict[str, str] = {}               # type -> why its definition cannot be read
        self._texts: dict[str, str] = {}                # type -> such a definition, to be copied as it is

    def learn(self, topic: str, type_name: str, definition: MessageDefinition, ros1: bool = False) -> None:
        """Take over the definition that a bag carries for a topic.

        Raises CrossSpecError when it differs from a type that this package has to understand. Other types whose
        definition cannot be read stay unknown: their messages are handed on as bytes, and ``why_unknown`` tells.
        Of ROS 1 definitions those are left out whose bytes are the same under ROS 2's names.
        """
        if definition.format == MessageDefinitionFormat.NONE or not definition.data.strip():
            return
        is_idl = definition.format == MessageDefinitionFormat.IDL
        try:
            types = _types_of_idl(definition.data) if is_idl else get_types_from_msg(definition.data, type_name)
        except (TypesysError, ValueError, KeyError, IndexError, AttributeError) as error:
            if not self.knows(type_name):
                self._texts.update({} if is_idl else {type_name: definition.data})
                self._unread[type_name] = next(filter(None, str(error).splitlines()), type(error).__name__)
            return
        for name, fields in types.items():
            if not ros1 or not self._has_same_bytes(name, fields):
                self._register(topic, type_name, name, fields)

    def _has_same_bytes(self, name: str, fields: Any) -> bool:
        """Whether a ROS 1 type is the known one but for the names of its fields, or one that rosbags translates."""
        if name in _TRANSLATED:
            return True
        return self.knows(name) and ([kind for _, kind in fields[1]]
                                     == [kind for _, kind in self._store.fielddefs[name][1]])

    def why_unknown(self, type_name: str) -> str:
        """Why messages of a type cannot be taken apart; empty where they can."""
        if self.knows(type_name):
            return ''
        return (f'its definition in the bag cannot be read ({self._unread[type_name]})' if type_name in self._unread
                else 'the bag brings no definition of it along')

    def _register(self, topic: str, type_name: str, name: str, fields: Any) -> None:
        try:
            self._store.register({name: fields})
            self._learned[name] = fields
        except TypesysError as error:
            if type_name in (*EVENT_TYPES, *IMAGE_TYPES):
                raise CrossSpecError(f'bag {self._path}: topic {topic}: its {name} has other fields than the message '
                                     'of that name; convert the bag with the tools it was recorded with') from error
            if name in _TRANSLATED:
                return                          # events and images are made of it too: theirs is the right one
            # Another version of a type that is of no use here: the bag's own one reads the bag's own messages.
            self._store.fielddefs.pop(name, None)
            self._store.cache.clear()           # compiled parsers of other types may hold the old one
            self._store.register({name: fields})
            self._learned[name] = fields

    def adopt(self, other: TypeTable) -> None:
        """Take over what another table has learned from its bag."""
        self._texts.update(other._texts)
        for name, fields in other._learned.items():
            self._register('', name, name, fields)

    def knows(self, type_name: str) -> bool:
        return type_name in self._store.fielddefs

    def deserialise(self, type_name: str, cdr: bytes | memoryview) -> Any:
        """Message of its bytes; arrays are views into them."""
        return self._store.deserialize_cdr(memoryview(cdr), type_name)

    def from_ros1(self, type_name: str, data: bytes) -> bytes:
        """CDR of a message's ROS 1 bytes, its header without the ``seq`` that ROS 2 no longer has."""
        return bytes(self._store.ros1_to_cdr(data, type_name))

    def serialise(self, type_name: str, message: Any) -> memoryview:
        return self._store.serialize_cdr(message, type_name)

    def definition(self, type_name: str) -> tuple[str, str]:
        """(text, RIHS01 hash) of a type for the bag's schema; an empty text and a zero hash of an unknown one."""
        if not self.knows(type_name):
            return self._texts.get(type_name, ''), f'RIHS01_{0:064x}'
        return self._store.generate_msgdef(type_name, ros_version=2)[0], self._store.hash_rihs01(type_name)

    def make(self, type_name: str, **fields: Any) -> Any:
        return self._store.types[type_name](**fields)
