"""The script of a drive: shots in a street, made of beats of one second whose slots hold from their first to their last frame.

A beat says what everybody does (the slots) and where they are at its begin and end; a shot is a run of beats in one
street and weather that follow from one another (a lead drives, then brakes). A new shot is a new street.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.world.captions import COLOURS, LIGHTS
from crossspec_ros.recordings.world.street import LANE_M

PACES = ('brisk', 'calm')
_SMALL = ('motorcycle', 'cyclist', 'pedestrian')
_LONG = {'car': 2.1, 'van': 2.4, 'truck': 3.8, 'bus': 5.0, 'motorcycle': 1.1, 'cyclist': 0.9, 'pedestrian': 0.3}
_NEARER = {'motorcycle': 0.72, 'cyclist': 0.68, 'pedestrian': 0.62, 'truck': 1.12, 'bus': 1.15}

# motion -> (who, place, ego) that it goes with
_WITH: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    'driving': (('car', 'van', 'truck', 'bus', 'motorcycle', 'cyclist'), ('left', 'ahead', 'right'),
                ('slow', 'fast', 'turning left', 'turning right')),
    'braking': (('car', 'van', 'truck', 'bus', 'motorcycle'), ('ahead',), ('slow', 'fast', 'braking')),
    'oncoming': (('car', 'van', 'truck', 'bus', 'motorcycle', 'cyclist'), ('left', 'left', 'ahead'),
                 ('stopped', 'slow', 'fast', 'braking')),
    'crossing': (('car', 'van', 'truck', 'bus', 'motorcycle', 'cyclist', 'pedestrian', 'pedestrian'), ('left', 'right'),
                 ('stopped', 'slow', 'braking', 'turning left', 'turning right')),
    'overtaking': (('car', 'van', 'truck', 'bus', 'motorcycle', 'cyclist'), ('left', 'left', 'right'),
                   ('stopped', 'slow', 'fast')),
    'cutting in': (('car', 'van', 'truck', 'motorcycle'), ('left', 'right'), ('slow', 'fast')),
    'parked': (('car', 'van', 'truck', 'bus', 'motorcycle'), ('left', 'right', 'right'), ('stopped', 'slow', 'fast', 'braking')),
    'waiting': (('pedestrian',), ('left', 'right'), ('stopped', 'slow', 'braking')),
    'walking': (('pedestrian',), ('left', 'right'), ('stopped', 'slow')),
    'none': (('none',), ('none',), ('stopped', 'slow', 'fast', 'braking', 'turning left', 'turning right')),
}
_WEIGHT = {'driving': 1.5, 'braking': 1.5, 'oncoming': 1.3, 'crossing': 1.9, 'overtaking': 1.2, 'cutting in': 1.1, 'parked': 1.2,
           'waiting': 0.9, 'walking': 0.9, 'none': 1.3}
_EGO_WEIGHT = {'stopped': 0.9, 'slow': 1.0, 'fast': 1.1, 'braking': 1.5, 'turning left': 1.6, 'turning right': 1.6}
_NEXT = {'driving': ('driving', 'braking'), 'braking': ('driving',), 'oncoming': ('none',), 'crossing': ('none',),
         'overtaking': ('cutting in', 'driving'), 'cutting in': ('driving', 'braking'), 'parked': ('parked', 'crossing'),
         'waiting': ('crossing', 'waiting'), 'walking': ('walking', 'crossing'),
         'none': ('oncoming', 'crossing', 'overtaking', 'none')}
_NEXT_EGO = {'stopped': ('stopped', 'slow'), 'slow': ('slow', 'fast', 'braking', 'stopped'), 'fast': ('fast', 'braking'),
             'braking': ('stopped', 'slow'), 'turning left': ('turning left', 'slow'),
             'turning right': ('turning right', 'slow')}
_SPEED = {'stopped': (0.0, 0.0), 'slow': (3.6, 3.6), 'fast': (14.0, 14.0), 'braking': (11.0, 3.0),
          'turning left': (4.5, 4.5), 'turning right': (4.5, 4.5)}
_SIGNALS = {'stopped': ('red light', 'red light', 'none', 'stop sign', 'none'),
            'slow': ('none', 'none', 'green light', 'stop sign', 'green light', 'red light'),
            'fast': ('none', 'none', 'green light', 'green light'),
            'braking': ('none', 'none', 'red light', 'stop sign', 'stop sign'),
            'turning left': ('none', 'green light', 'green light', 'stop sign'),
            'turning right': ('none', 'green light', 'green light', 'stop sign')}


@dataclass(frozen=True)
class Track:
    """A road user for a beat in the driver's frame: metres right and ahead, begin to end; heading in rad (0 = away)."""

    kind: str
    colour: str
    x: tuple[float, float]
    z: tuple[float, float]
    heading: float
    step_hz: float = 0.0
    braking: bool = False
    band: float = 100.0           # brightness in the event sensor's band, independent of the colour


@dataclass(frozen=True)
class Beat:
    """One second ``(start_s, start_s + 1]`` of a drive; ``shot`` names street, weather and curve.

    ``tracks``: the salient road user, then the second one; ``leaving``: who goes out of sight and is not spoken of any more.
    """

    start_s: int
    shot: int
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
        begin, end = _SPEED[self.slots['ego']]
        return self.travelled_m + begin * u + 0.5 * (end - begin) * u * u


def lane_m(place: str, kind: str) -> float:
    """Where a road user drives on that side, metres to the right: narrow ones keep nearer, so that they stay in view."""
    lane = {'motorcycle': 2.7, 'cyclist': 2.4}.get(kind, LANE_M)
    return {'left': -lane, 'ahead': 0.0, 'right': lane}[place]


def _believable(kind: str, motion: str, ego: str) -> bool:
    """A bicycle neither keeps pace with a fast car nor passes a moving one."""
    return not (kind == 'cyclist' and (ego == 'fast' and motion in ('driving', 'overtaking')
                                       or motion == 'overtaking' and ego != 'stopped'))


def _driven_m(ego: str) -> float:
    """Metres in a beat."""
    return 0.5 * sum(_SPEED[ego])


def _hidden_signals(slots: dict[str, str]) -> tuple[str, ...]:
    """Signals that the salient road user would hide."""
    kind, motion, place = slots['object'], slots['motion'], slots['place']
    hidden: tuple[str, ...] = ()
    if kind in ('truck', 'bus') and (place == 'ahead' or motion in ('crossing', 'cutting in')):
        hidden += ('red light', 'green light')
    if kind in ('van', 'truck', 'bus') and motion == 'crossing':
        hidden += ('stop sign',)
    if place == 'right' and motion in ('driving', 'overtaking', 'cutting in', 'waiting', 'walking'):
        hidden += ('stop sign',)
    return hidden


def _leaving(previous: Beat | None, motion: str) -> tuple[Track, ...]:
    """Who was salient and now goes out of sight at once."""
    if previous is None or not previous.tracks or previous.slots['motion'] not in ('oncoming', 'crossing') or motion == previous.slots['motion']:
        return ()
    old = previous.tracks[0]
    if previous.slots['motion'] == 'crossing' and old.kind == 'pedestrian':
        return ()
    if previous.slots['motion'] == 'oncoming':
        return (replace(old, x=(old.x[1],) * 2, z=(old.z[1], old.z[1] - 26.0)),)
    return (replace(old, x=(old.x[1], old.x[1] + (22.0 if old.x[1] > old.x[0] else -22.0)), z=(old.z[1],) * 2),)


def _pick(rng: np.random.Generator, options: tuple[str, ...], weight: dict[str, float] | None = None) -> str:
    chance = np.array([weight[o] if weight else 1.0 for o in options])
    return str(options[rng.choice(len(options), p=chance / chance.sum())])


class Script:
    """The beats of a drive, made on demand in order and kept. ``pace``: 'brisk' (a new street every second or two) or
    'calm' (minutes that change as a real drive does, with quiet stretches)."""

    def __init__(self, seed: int, pace: str = 'brisk') -> None:
        if pace not in PACES:
            raise CrossSpecError(f'pace must be one of {PACES}, got {pace!r}')
        self._rng = np.random.default_rng([seed, 2024])
        self._calm, self._seed = pace == 'calm', seed
        self._beats: list[Beat] = []
        self._shots = 0
        self._light: list[str] = []

    def beat(self, index: int) -> Beat:
        """The beat that covers ``(index, index + 1]`` seconds."""
        if index < 0:
            raise CrossSpecError(f'a world starts at 0 s, got the second {index}')
        while len(self._beats) <= index:
            self._add_shot()
        return self._beats[index]

    def _next_light(self) -> str:
        rng = self._rng
        if self._calm and self._light and rng.random() < 0.88:
            return self._light[-1]
        options = [light for light in LIGHTS if not self._light or light != self._light[-1]]
        return str(rng.choice(options))

    def _add_shot(self) -> None:
        rng = self._rng
        light = self._next_light()
        self._light.append(light)
        if self._calm:
            length = int(rng.integers(4, 15))
        else:
            length = int(rng.choice([1, 2, 3, 4], p=[0.50, 0.34, 0.12, 0.04]))
        street, curve = int(rng.integers(1 << 31)), float(rng.choice([0.0, 0.0, -0.004, 0.004]) * rng.uniform(0.4, 1.0))
        previous: Beat | None = None
        for _ in range(length):
            beat = self._following(previous, street, curve, light)
            if beat is None:
                break
            self._beats.append(beat)
            previous = beat
        self._shots += 1

    def _following(self, previous: Beat | None, street: int, curve: float, light: str) -> Beat | None:
        """The next beat of a shot, or None where nothing sensible can follow."""
        rng = self._rng
        if previous is None:
            motion = _pick(rng, tuple(_WITH), _WEIGHT)
            who, places, egos = _WITH[motion]
            ego = _pick(rng, egos, _EGO_WEIGHT)
            if not _believable('cyclist', motion, ego):
                who = tuple(w for w in who if w != 'cyclist')
            elif 'cyclist' in who:
                who = (*who, 'cyclist')
            if motion == 'driving' and ego.startswith('turning'):
                places = ('ahead',)
            kind, place, colour = _pick(rng, who), _pick(rng, places), _pick(rng, COLOURS[:-1])
            travelled, band = float(rng.uniform(0, 90)), float(rng.choice([38.0, 150.0, 215.0]) * rng.uniform(0.85, 1.15))
        else:
            chosen = self._sequel(previous)
            if chosen is None:
                return None
            motion, kind, place, colour, ego, band = chosen
            travelled = previous.distance_m(1.0)
        slots = {'object': kind, 'colour': colour if kind != 'none' else 'none', 'place': place, 'motion': motion, 'ego': ego,
                 'weather': light, 'signal': 'none', 'second': 'none'}
        track = self._track(slots, previous, band) if kind != 'none' else None
        slots['signal'], signal_z = self._signal(previous, slots)
        second = self._second(slots, previous, travelled)
        if second is not None:
            slots['second'] = f"{second.kind} {'left' if second.x[0] < 0 else 'right'}"
        tracks = tuple(t for t in (track, second) if t is not None)
        return Beat(len(self._beats), self._shots, previous is None, street, curve, travelled, slots, tracks,
                    _leaving(previous, motion), signal_z)

    def _sequel(self, previous: Beat) -> tuple[str, str, str, str, str, float] | None:
        """Motion, kind, place, colour, ego, band of a beat that follows from ``previous``."""
        rng, old = self._rng, previous.slots
        for _ in range(40 if self._calm else 12):
            motion, ego = _pick(rng, _NEXT[old['motion']]), _pick(rng, _NEXT_EGO[old['ego']])
            if self._calm and rng.random() < 0.5:
                motion, ego = old['motion'], old['ego']
            who, places, egos = _WITH[motion]
            same = old['object'] != 'none' and motion != 'none'
            if ego not in egos or (same and old['object'] not in who) or not self._possible(previous, motion, ego):
                continue
            kind = old['object'] if same else _pick(rng, tuple(w for w in who if w != 'pedestrian') or who)
            place = old['place'] if same else _pick(rng, places)
            if motion in ('driving', 'braking') and old['motion'] in ('cutting in', 'braking'):
                place = 'ahead'
            if motion == 'driving' and ego.startswith('turning') and place != 'ahead':
                continue
            colour = old['colour'] if same else _pick(rng, COLOURS[:-1])
            if place not in places or not _believable(kind, motion, ego):
                continue
            if old['signal'] in _hidden_signals({'object': kind, 'motion': motion, 'place': place}):
                continue
            band = previous.tracks[0].band if same else float(rng.choice([38.0, 150.0, 215.0]) * rng.uniform(0.85, 1.15))
            return motion, kind, place, colour, ego, band
        return None

    def _possible(self, previous: Beat, motion: str, ego: str) -> bool:
        """Whether a road user can go on from where it is."""
        old = previous.slots
        driven = _driven_m(ego)
        if old['motion'] in ('oncoming', 'crossing') and not (
                motion == 'none' and old['place'] != 'ahead' and old['object'] in ('car', 'van', 'motorcycle', 'cyclist')):
            return False
        nearest = 8.0 if old['signal'] == 'stop sign' else 11.0
        if driven > 0 and old['signal'] != 'none' and previous.signal_z[1] - driven < nearest:
            return False
        if driven > 0 and len(previous.tracks) > 1 and previous.tracks[1].z[1] - driven < 8.5:
            return False
        if motion == 'walking' and previous.tracks[0].z[1] > 8.2:
            return False
        if motion in ('overtaking', 'braking', 'cutting in') and old['motion'] == motion:
            return False
        if motion == 'braking' and old['place'] != 'ahead' and old['motion'] != 'cutting in':
            return False
        if motion in ('parked', 'waiting', 'walking') and ego != 'stopped':
            return False                                 # it would be passed within the second
        if old['motion'] in ('parked',) and motion == 'crossing':
            return False
        if ego == 'braking' and old['ego'] == 'braking' or (ego.startswith('turning') and not previous.first):
            return False
        return True

    def _track(self, slots: dict[str, str], previous: Beat | None, band: float) -> Track:
        """Where the salient road user goes in this beat."""
        rng, kind, motion, place, ego = self._rng, slots['object'], slots['motion'], slots['place'], slots['ego']
        near, long = _NEARER.get(kind, 1.0), _LONG[kind]
        driven = _driven_m(ego)
        side = -1.0 if place == 'left' else 1.0 if place == 'right' else 0.0
        jitter = float(rng.uniform(0.94, 1.08))
        heading, step = 0.0, 0.0
        if motion == 'driving':
            z1 = 9.5 * near * jitter + long
            x, z = (lane_m(place, kind),) * 2, (z1 + 0.25, z1)
            step = 1.5 if kind == 'cyclist' else 0.0
        elif motion == 'braking':
            x, z = (0.0, 0.0), (13.5 * near * jitter + long, 7.2 * near * jitter + long)
        elif motion == 'oncoming':
            x, z = (lane_m(place, kind),) * 2, (34.0 * near + long, 8.2 * near * jitter + long)
            heading, step = np.pi, 1.5 if kind == 'cyclist' else 0.0
        elif motion == 'crossing':
            reach = {'pedestrian': (2.5, 0.3), 'cyclist': (4.6, 0.9), 'motorcycle': (6.0, 1.6)}.get(kind, (8.0 + long, 1.2))
            z0 = (9.6 if kind not in _SMALL else 10.0 * near) * jitter + 0.3 * driven * (kind in _SMALL)
            x, z = (side * reach[0], -side * reach[1]), (z0 + 0.2 * driven, z0)
            heading, step = -side * np.pi / 2, 1.9
        elif motion == 'overtaking':
            x, z = (lane_m(place, kind),) * 2, (4.0 - long, 10.5 * near * jitter + long)
            step = 1.5 if kind == 'cyclist' else 0.0
        elif motion == 'cutting in':
            x, z = (side * LANE_M, side * 0.25), (9.0 * near * jitter + long, 9.6 * near * jitter + long)
            heading = -side * 0.22
        else:
            out = 2.7 if motion != 'parked' else 3.0 if kind == 'motorcycle' else 4.1
            z1 = (6.4 if motion != 'parked' else 7.4 if kind == 'motorcycle' else 10.2) * jitter + long
            x, z = (side * out,) * 2, (z1 + driven, z1)
            heading = 0.0 if motion == 'parked' else -side * np.pi / 2
            if motion == 'walking':
                heading, step = 0.0, 1.9
                z = (z1 + driven - 0.7, z1)
        if previous is not None and previous.tracks and previous.tracks[0].kind == kind and slots['colour'] == previous.slots['colour']:
            x, z = self._carry_on(previous.tracks[0], motion, x, z, side)
        if motion == 'crossing':
            slots['place'] = 'left' if x[0] < 0 else 'right'
            heading = np.pi / 2 if x[0] < 0 else -np.pi / 2
        return Track(kind, slots['colour'], x, z, float(heading), step, motion == 'braking', band)

    def _carry_on(self, old: Track, motion: str, x: tuple[float, float], z: tuple[float, float], side: float
                  ) -> tuple[tuple[float, float], tuple[float, float]]:
        """The same road user as in the beat before starts where it was."""
        if motion in ('parked', 'waiting'):
            return (old.x[1], old.x[1]), (old.z[1], old.z[1] - (z[0] - z[1]))
        if motion == 'crossing':
            return (old.x[1], -0.3 if old.x[1] > 0 else 0.3), (old.z[1], max(old.z[1] - 0.2, 5.2))
        if motion == 'walking':
            return (old.x[1], old.x[1]), (old.z[1], old.z[1] + 0.8)
        if motion == 'braking':
            return (old.x[1], x[1]), (old.z[1], min(z[1], 0.72 * old.z[1]))
        return (old.x[1], x[1]), (old.z[1], z[1])

    def _signal(self, previous: Beat | None, slots: dict[str, str]) -> tuple[str, tuple[float, float]]:
        """Signal slot and its distance over the beat, metres."""
        driven = _driven_m(slots['ego'])
        if previous is not None:
            z = previous.signal_z[1]
            return previous.slots['signal'], (z, z - driven)
        hidden = _hidden_signals(slots)
        options = tuple('none' if kind in hidden else kind for kind in _SIGNALS[slots['ego']])
        kind = _pick(self._rng, options)
        if self._calm and driven > 0 and self._rng.random() < 0.8:
            kind = 'none'
        z1 = (9.5 if kind == 'stop sign' else 12.5) + float(self._rng.uniform(0.0, 1.0))
        return kind, (z1 + driven, z1)

    def _second(self, slots: dict[str, str], previous: Beat | None, travelled: float) -> Track | None:
        """A second, grey road user standing at the kerb away from the salient one."""
        if slots['object'] == 'none' or slots['ego'].startswith('turning'):
            return None
        driven = _driven_m(slots['ego'])
        if previous is not None:
            old = previous.tracks[1] if len(previous.tracks) > 1 else None
            return None if old is None else replace(old, z=(old.z[1], old.z[1] - driven))
        if self._calm and driven > 0 and self._rng.random() < 0.8:
            return None
        if (slots['motion'] == 'crossing' and slots['object'] != 'pedestrian') or self._rng.random() > 0.85:
            return None
        side = {'left': 1.0, 'right': -1.0}.get(slots['place']) or float(self._rng.choice([-1.0, 1.0]))
        kind = str(self._rng.choice(['car', 'pedestrian']))
        kind = {'pedestrian': 'car', 'car': 'pedestrian'}.get(slots['object'], kind)     # never two of a kind
        z1, x = (10.5 + 2.1, 4.3) if kind == 'car' else (8.0, 3.2)
        return Track(kind, 'grey', (side * x,) * 2, (z1 + driven, z1), 0.0 if kind == 'car' else -side * np.pi / 2, band=118.0)
