"""What a second of a drive is: who is where, and what is true of it."""
from __future__ import annotations

from dataclasses import dataclass

# Speed of the ego vehicle at the start and the end of a beat, m/s.
_SPEED = {'stopped': (0.0, 0.0), 'slow': (3.6, 3.6), 'fast': (14.0, 14.0), 'braking': (11.0, 3.0),
          'turning left': (4.5, 4.5), 'turning right': (4.5, 4.5)}


@dataclass(frozen=True)
class Track:
    """A road user for a beat in the driver's frame: metres right and ahead, begin to end; heading in rad (0 = away).

    ``band`` is its brightness in the event sensor's band (0 to 255), drawn without regard to the colour, as paint looks
    in the near infrared.
    """

    kind: str
    colour: str
    x: tuple[float, float]
    z: tuple[float, float]
    heading: float
    step_hz: float = 0.0
    braking: bool = False
    band: float = 100.0


@dataclass(frozen=True)
class Beat:
    """One second ``(start_s, start_s + 1]`` of a drive. Beats of one street and weather make a shot.

    ``first``: the beat opens a new street. ``tracks``: the salient road user, then the second one; ``leaving``: who
    goes out of sight and is not spoken of any more; ``signal_z``: distance of the signal, begin to end, metres.
    """

    start_s: int
    first: bool
    street_seed: int
    curve: float
    travelled_m: float
    slots: dict[str, str]
    tracks: tuple[Track, ...]
    leaving: tuple[Track, ...]
    signal_z: tuple[float, float]

    def distance_m(self, u: float) -> float:
        """Metres driven in this street at the fraction ``u`` of the beat."""
        start, end = _SPEED[self.slots['ego']]
        return self.travelled_m + start * u + 0.5 * (end - start) * u * u


def driven_m(ego: str) -> float:
    """Metres that the ego vehicle drives in a beat."""
    return 0.5 * sum(_SPEED[ego])
