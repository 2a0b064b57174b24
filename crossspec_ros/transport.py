"""What Fast DDS keeps of messages, and where they wait: by its profile, where that is one of this package.

A reader or writer has a place for each message of its depth. By the default of ROS a place keeps the memory of the
largest message that was ever in it, so that a reader of 1000 packets grows for hours after each backlog; the profiles
of this package let a place give its memory back.
"""
from __future__ import annotations

import os
from pathlib import Path

PROFILE, FROM_PROFILE, PUBLICATION = (
    'FASTDDS_DEFAULT_PROFILES_FILE', 'RMW_FASTRTPS_USE_QOS_FROM_XML', 'RMW_FASTRTPS_PUBLICATION_MODE')
_OURS = 'crossspec_reader'                                      # in each profile of this package
_GENERAL, _OF_EVENTS = 'fastdds.xml', 'fastdds_events.xml'
_ROOM = Path('/proc/sys/net/core/rmem_max')
ROOM_BYTES = 4 << 20
"""What a socket must be able to hold for event packets to come by UDP: several of the largest at once."""


def follow_profile() -> bool:
    """Let participants that this process makes from now on take memory policies from the profile; whether they do.

    They do where the profile is one of this package, unless the user has said otherwise by a variable of the
    middleware. Call it before the first participant is made.
    """
    wanted = os.environ.get(FROM_PROFILE)
    if wanted is None and os.environ.get(PUBLICATION, '') in ('', 'SYNCHRONOUS') and _profile_is_ours():
        wanted = os.environ[FROM_PROFILE] = '1'
    return wanted == '1'


def receive_by_datagrams() -> bool:
    """Let participants that this process makes from now on receive by UDP alone; whether they do.

    For a process that reads event packets: through shared memory they would stay in the driver's, strewn between its
    images, when the process is killed, until no image fits in between (`config/fastdds_events.xml` says more). A
    profile that is not the one which nodes get from this package is left as it is, and so is one where sockets of this
    host cannot hold `ROOM_BYTES`: packets would be lost there that shared memory holds.
    """
    profile = Path(os.environ.get(PROFILE, ''))
    other = profile.with_name(_OF_EVENTS) if profile.name == _GENERAL else profile
    if profile.name == _GENERAL and _profile_is_ours() and other.is_file() and socket_room() >= ROOM_BYTES:
        os.environ[PROFILE] = str(other)
    return Path(os.environ.get(PROFILE, '')).name == _OF_EVENTS


def socket_room() -> int:
    """Bytes that a socket of this host may hold for its reader; 0 where the host does not say."""
    try:
        return int(_ROOM.read_text())
    except (OSError, ValueError):
        return 0


def _profile_is_ours() -> bool:
    try:
        return _OURS in Path(os.environ.get(PROFILE, '')).read_text(encoding='utf-8')
    except (OSError, ValueError):
        return False                                            # none, or one that is not to be read: Fast DDS says so
