"""Message types of bags: what Kilted has, event_camera_msgs, this package's own, and those that a bag brings along."""
from __future__ import annotations

import logging
import os
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.base import TypesysError

from crossspec_ros.errors import CrossSpecError

logger = logging.getLogger(__name__)

# The second is the name of the same message before 2023, with the same layout.
EVENT_TYPES = ('event_camera_msgs/msg/EventPacket', 'event_array_msgs/msg/EventArray')
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
# Packets of a video; their definitions come with the bag.
VIDEO_TYPES = ('foxglove_msgs/msg/CompressedVideo', 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket')

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


class TypeTable:
    """The types that one bag needs; ``path`` is the bag, for messages to people."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store = get_typestore(Stores.ROS2_KILTED)
        self._store.register(_base_types())
        self._learned: dict[str, Any] = {}

    def learn(self, topic: str, type_name: str, definition: Any) -> None:
        """Take over the definition that a bag carries for a topic.

        Raises CrossSpecError when it differs from a type that this package has to understand. Other types whose
        definition cannot be read stay unknown: their messages are handed on as bytes.
        """
        if definition.format == MessageDefinitionFormat.NONE:
            return
        if not definition.data.strip():
            return
        is_idl = definition.format == MessageDefinitionFormat.IDL
        try:
            types = get_types_from_idl(definition.data) if is_idl else get_types_from_msg(definition.data, type_name)
        except TypesysError as error:
            logger.warning('%s: %s: the definition of %s cannot be read (%s)', self._path, topic, type_name, error)
            return
        for name, fields in types.items():
            self._register(topic, type_name, name, fields)

    def _register(self, topic: str, type_name: str, name: str, fields: Any) -> None:
        try:
            self._store.register({name: fields})
            self._learned[name] = fields
        except TypesysError as error:
            if type_name in (*EVENT_TYPES, *IMAGE_TYPES):
                raise CrossSpecError(f'bag {self._path}: topic {topic}: its {name} has other fields than the message '
                                     'of that name; convert the bag with the tools it was recorded with') from error
            # Another version of a type that is of no use here: the bag's own one reads the bag's own messages.
            self._store.fielddefs.pop(name, None)
            self._store.cache.clear()           # compiled parsers of other types may hold the old one
            self._store.register({name: fields})
            self._learned[name] = fields

    def adopt(self, other: TypeTable) -> None:
        """Take over what another table has learned from its bag."""
        for name, fields in other._learned.items():
            self._register('', name, name, fields)

    def knows(self, type_name: str) -> bool:
        return type_name in self._store.fielddefs

    def deserialise(self, type_name: str, cdr: bytes | memoryview) -> Any:
        """Message of its bytes; arrays are views into them."""
        return self._store.deserialize_cdr(memoryview(cdr), type_name)

    def serialise(self, type_name: str, message: Any) -> memoryview:
        return self._store.serialize_cdr(message, type_name)

    def definition(self, type_name: str) -> tuple[str, str]:
        """(text, RIHS01 hash) of a type for the bag's schema; an empty text and a zero hash of an unknown one."""
        if not self.knows(type_name):
            return '', f'RIHS01_{0:064x}'
        return self._store.generate_msgdef(type_name, ros_version=2)[0], self._store.hash_rihs01(type_name)

    def make(self, type_name: str, **fields: Any) -> Any:
        return self._store.types[type_name](**fields)
