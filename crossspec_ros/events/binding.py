"""evt3 through ``event_camera_py``, the binding of the C++ decoders that ROS hosts have; the same events as
``decode.Decoder``.

Only evt3: of the encodings with a time base the binding gives times cut to us. Its int32 us wrap after 35 minutes;
they are unwrapped here to int64 ns.
"""
from __future__ import annotations

import importlib

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.decode import Decoder, Trigger
from crossspec_ros.events.types import Events, Packet

_TURN_US = 1 << 32


class BindingDecoder:
    """``decode`` of a ``Decoder``, with the work done in C++; packets are checked and counted in the same way.

    What the binding does not tell is not counted: events outside the sensor, words before the first time. It gives up
    a packet at a malformed word; the events before it are used and the packet counts as one malformed word. Raises
    ``CrossSpecError`` on another encoding than evt3, or where the binding cannot be imported.
    """

    def __init__(self, encoding: str, width: int, height: int) -> None:
        if encoding != 'evt3':
            raise CrossSpecError(
                f'encoding must be evt3 with event_camera_py, got {encoding!r}: use the decoder of this package'
            )
        self._checks = Decoder(encoding, width, height)
        try:
            self._module = importlib.import_module('event_camera_py')
        except ImportError as error:
            raise CrossSpecError(
                'event_camera_py cannot be imported: install ros-<distro>-event-camera-py and source ROS, or use '
                'the decoder of this package'
            ) from error
        self.encoding, self.width, self.height = encoding, width, height
        self.trigger_count = 0
        self._triggers: list[Trigger] = []
        self._malformed = 0
        self.reset()

    def reset(self) -> None:
        """Forget the stream; counts and triggers are kept."""
        self._checks.reset()
        self._decoder = self._module.Decoder()
        self._last_us: int | None = None

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped so far, by cause."""
        return self._checks.dropped | {'malformed_words': self._malformed}

    @property
    def triggers(self) -> list[Trigger]:
        """The newest external triggers, oldest first."""
        return list(self._triggers)

    def decode(self, packet: Packet) -> Events:
        """All events of a packet."""
        backs = self._checks.dropped['seq_back']
        words = self._checks.words_of(packet)
        if words is None:
            return Events.empty(self.width, self.height)
        if self._checks.dropped['seq_back'] > backs:
            self._decoder, self._last_us = self._module.Decoder(), None
        try:
            self._decoder.decode_bytes(self.encoding, self.width, self.height, 0, words.tobytes())
        except RuntimeError:
            self._malformed += 1
        events, triggers = self._decoder.get_cd_events(), self._decoder.get_ext_trig_events()
        last_us = self._last_us
        t_us = self._unwrap(events['t'], last_us)
        self._keep_triggers(triggers, self._unwrap(triggers['t'], last_us))
        if len(t_us):
            self._last_us = int(t_us[-1])
        return Events(
            t_us * 1000,
            events['x'].astype(np.uint16),
            events['y'].astype(np.uint16),
            events['p'].astype(np.uint8),
            self.width,
            self.height,
        )

    def _unwrap(self, wrapped_us: np.ndarray, last_us: int | None) -> np.ndarray:
        """int64 us: the nearest to the time before that has the same low 32 bits."""
        if not len(wrapped_us):
            return np.empty(0, np.int64)
        low = wrapped_us.astype(np.int64) & (_TURN_US - 1)
        first = int(low[0])
        if last_us is not None:
            first = last_us + (first - last_us + _TURN_US // 2) % _TURN_US - _TURN_US // 2
        steps = (np.diff(low) + _TURN_US // 2) % _TURN_US - _TURN_US // 2
        return first + np.concatenate([np.zeros(1, np.int64), np.cumsum(steps)])

    def _keep_triggers(self, triggers: np.ndarray, t_us: np.ndarray) -> None:
        self.trigger_count += len(t_us)
        self._triggers += [Trigger(t * 1000, int(edge), int(channel))
                           for t, edge, channel in zip(t_us.tolist(), triggers['p'], triggers['id'])]
        del self._triggers[:-100_000]
