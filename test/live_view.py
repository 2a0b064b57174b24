"""Helpers of the live view's tests: reading what was saved, a websocket client, who listens where."""
from __future__ import annotations

import base64
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil


def documents(path: Path, entity: str) -> list[str]:
    """All texts that a saved recording has of a TextDocument, oldest first."""
    from rerun.chunk import RrdReader
    found = []
    for chunk in RrdReader(str(path)).stream():
        if chunk.entity_path == entity:
            batch = chunk.to_record_batch()
            for name in batch.schema.names:
                if name.endswith(':text'):
                    found += [text for cell in batch.column(name).to_pylist() for text in cell or ()]
    return found


def entities(path: Path) -> set[str]:
    """Everything that a saved recording is about."""
    from rerun.chunk import RrdReader
    return {chunk.entity_path for chunk in RrdReader(str(path)).stream()}


def listening(pids: Iterator[int]) -> set[tuple[str, int]]:
    """(address, port) of every TCP socket that these processes listen at."""
    return {(each.laddr.ip, each.laddr.port) for pid in pids for each in psutil.Process(pid).net_connections('tcp')
            if each.status == psutil.CONN_LISTEN}


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> object:
    until = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < until, f'{what} did not happen in time'
        time.sleep(0.05)
    return result


class WebSocket:
    """Just enough of RFC 6455 to hear what a Foxglove server says."""

    def __init__(self, port: int, protocol: str = 'foxglove.sdk.v1') -> None:
        self._socket = socket.create_connection(('127.0.0.1', port), 20.0)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ('GET / HTTP/1.1', f'Host: 127.0.0.1:{port}', 'Upgrade: websocket', 'Connection: Upgrade',
                 f'Sec-WebSocket-Key: {key}', 'Sec-WebSocket-Version: 13',
                 f'Sec-WebSocket-Protocol: {protocol}', '', '')
        self._socket.sendall('\r\n'.join(lines).encode())
        head = b''
        while not head.endswith(b'\r\n\r\n') and (more := self._socket.recv(1)):
            head += more
        self.status = head.decode(errors='replace').splitlines()[0]

    def send(self, message: dict) -> None:
        data, mask = json.dumps(message).encode(), os.urandom(4)
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b'\xfe' + struct.pack('>H', len(data))
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._socket.sendall(b'\x81' + length + mask + masked)

    def receive(self) -> dict | bytes:
        """The next message: JSON, or the payload of a binary one."""
        first, second = self._exactly(2)
        length = second & 0x7F
        if length >= 126:
            length, = struct.unpack('>H' if length == 126 else '>Q', self._exactly(2 if length == 126 else 8))
        data = self._exactly(length)
        return json.loads(data) if first & 0x0F == 1 else data

    def waiting(self, seconds: float) -> bool:
        """Whether a message comes within so many seconds."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def _exactly(self, count: int) -> bytes:
        data = b''
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            assert more, 'the server has closed the connection'
            data += more
        return data

    def close(self) -> None:
        self._socket.close()


def hear(port: int, topic: str, say: Callable[[], None]) -> dict:
    """Subscribe a JSON topic of a Foxglove server, call ``say`` until a message comes, and return it."""
    client = WebSocket(port)
    try:
        channels: dict[str, int] = {}
        while topic not in channels:
            message = client.receive()
            if isinstance(message, dict) and message.get('op') == 'advertise':
                channels |= {each['topic']: each['id'] for each in message['channels']}
        client.send({'op': 'subscribe', 'subscriptions': [{'id': 7, 'channelId': channels[topic]}]})
        until_s = time.monotonic() + 60.0
        while time.monotonic() < until_s:                       # what is said before the server has heard us is lost
            say()
            while client.waiting(0.2):
                message = client.receive()
                if isinstance(message, bytes) and message[0] == 1:
                    return json.loads(message[1 + 4 + 8:])
        raise AssertionError(f'nothing came on {topic}')
    finally:
        client.close()
