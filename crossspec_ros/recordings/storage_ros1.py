"""ROS 1 bags, read through the library that converts them."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from rosbags.rosbag1 import Reader, ReaderError

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.storages import ROS1, Channel, Item

# What the bytes of a damaged file make the library raise.
_DAMAGE = (ReaderError, AssertionError, ValueError, KeyError, IndexError, OSError, EOFError, RuntimeError, MemoryError,
           OverflowError)


class Ros1Storage:
    """One .bag file of ROS 1; its messages are ROS 1 bytes. Raises CrossSpecError when it cannot be read."""

    trouble = ''

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = Reader(path)
        try:
            self._reader.open()
        except _DAMAGE as error:
            raise self._damaged(error) from error
        self._connections = list(self._reader.connections)
        self.channels = tuple(Channel(item.topic, item.msgtype, ROS1, item.msgdef, item.msgcount)
                              for item in self._connections)
        filled = any(channel.count for channel in self.channels)
        self.start_ns = self._reader.start_time if filled else 0
        self.end_ns = self._reader.end_time - 1 if filled else 0

    def close(self) -> None:
        if self._reader.bio is not None:
            self._reader.close()

    def _damaged(self, error: Exception) -> CrossSpecError:
        return CrossSpecError(
            f'{self.path} is a ROS 1 bag and cannot be read ({error or type(error).__name__}); mend it with "rosbag '
            f'reindex {self.path.name}" of ROS 1, then "rosbags-convert --src {self.path.name} --dst '
            f'{self.path.stem}" makes a rosbag2 of it')

    def messages(self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None) -> Iterator[Item]:
        numbers = {self._connections[number].id: number for number in wanted}
        if not numbers:
            return
        try:
            for connection, log_ns, data in self._reader.messages(
                    [self._connections[number] for number in wanted], start_ns, stop_ns):
                yield numbers[connection.id], log_ns, data
        except _DAMAGE as error:
            raise self._damaged(error) from error
