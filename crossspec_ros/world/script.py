"""The script of a drive: shots in a street, made of beats of one second whose slots hold from begin to end.

A shot is a run of beats in one street and weather that follow from one another (a lead drives, then brakes). A new shot
is a new street.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.world.captions import COLOURS, LIGHTS
from crossspec_ros.world.scene import Beat, Track, driven_m
from crossspec_ros.world.tracks import hidden_signals, leaving_tracks, salient_track, second_track

PACES = ('brisk', 'calm')
_VEHICLES = ('car', 'van', 'truck', 'bus', 'motorcycle')
_RIDDEN = (*_VEHICLES, 'cyclist')
_TURNS = ('turning left', 'turning right')

# motion -> (who, place, ego) that it goes with; a value written twice is twice as likely
_WITH: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    'driving': (_RIDDEN, ('left', 'ahead', 'right'), ('slow', 'fast', *_TURNS)),
    'braking': (_VEHICLES, ('ahead',), ('slow', 'fast', 'braking')),
    'oncoming': (_RIDDEN, ('left', 'left', 'ahead'), ('stopped', 'slow', 'fast', 'braking')),
    'crossing': ((*_RIDDEN, 'pedestrian', 'pedestrian'), ('left', 'right'), ('stopped', 'slow', 'braking', *_TURNS)),
    'overtaking': (_RIDDEN, ('left', 'left', 'right'), ('stopped', 'slow', 'fast')),
    'cutting in': (('car', 'van', 'truck', 'motorcycle'), ('left', 'right'), ('slow', 'fast')),
    'parked': (_VEHICLES, ('left', 'right', 'right'), ('stopped', 'slow', 'fast', 'braking')),
    'waiting': (('pedestrian',), ('left', 'right'), ('stopped', 'slow', 'braking')),
    'walking': (('pedestrian',), ('left', 'right'), ('stopped', 'slow')),
    'none': (('none',), ('none',), ('stopped', 'slow', 'fast', 'braking', *_TURNS)),
}
_WEIGHT = {'driving': 1.5, 'braking': 1.5, 'oncoming': 1.3, 'crossing': 1.9, 'overtaking': 1.2, 'cutting in': 1.1,
           'parked': 1.2, 'waiting': 0.9, 'walking': 0.9, 'none': 1.3}
_EGO_WEIGHT = {'stopped': 0.9, 'slow': 1.0, 'fast': 1.1, 'braking': 1.5, 'turning left': 1.6, 'turning right': 1.6}
_NEXT = {'driving': ('driving', 'braking'), 'braking': ('driving',), 'oncoming': ('none',), 'crossing': ('none',),
         'overtaking': ('cutting in', 'driving'), 'cutting in': ('driving', 'braking'), 'parked': ('parked',),
         'waiting': ('crossing', 'waiting'), 'walking': ('walking', 'crossing'),
         'none': ('oncoming', 'crossing', 'overtaking', 'none')}
_NEXT_EGO = {'stopped': ('stopped', 'slow'), 'slow': ('slow', 'fast', 'braking', 'stopped'),
             'fast': ('fast', 'braking'), 'braking': ('stopped', 'slow'), 'turning left': ('turning left', 'slow'),
             'turning right': ('turning right', 'slow')}
_SIGNALS = {'stopped': ('red light', 'red light', 'none', 'stop sign', 'none'),
            'slow': ('none', 'none', 'green light', 'stop sign', 'green light', 'red light'),
            'fast': ('none', 'none', 'green light', 'green light'),
            'braking': ('none', 'none', 'red light', 'stop sign', 'stop sign'),
            'turning left': ('none', 'green light', 'green light', 'stop sign'),
            'turning right': ('none', 'green light', 'green light', 'stop sign')}
_SHOT_SECONDS = (1, 2, 3, 4)
_SHOT_CHANCE = (0.50, 0.34, 0.12, 0.04)
_KEPT_BEATS = 2048          # older ones are forgotten, so that a drive of days stays small; made again when asked for
_BANDS = (38.0, 150.0, 215.0)
# In view at the end of a beat, metres ahead: a signal and the second road user must not be nearer.
_NEAREST_SIGNAL = {'stop sign': 8.0, 'red light': 11.0, 'green light': 11.0}
_NEAREST_SECOND = 8.5


@dataclass(frozen=True)
class _Plan:
    """What happens in a beat."""

    motion: str
    kind: str
    place: str
    colour: str
    ego: str
    travelled_m: float
    band: float


def _believable(kind: str, motion: str, ego: str) -> bool:
    """A bicycle neither keeps pace with a fast car nor passes a moving one."""
    return not (kind == 'cyclist' and (ego == 'fast' and motion in ('driving', 'overtaking')
                                       or motion == 'overtaking' and ego != 'stopped'))


def _pick(rng: np.random.Generator, options: tuple[str, ...], weight: dict[str, float] | None = None) -> str:
    chance = np.array([weight[o] if weight else 1.0 for o in options])
    return str(options[rng.choice(len(options), p=chance / chance.sum())])


def _band(rng: np.random.Generator) -> float:
    return float(rng.choice(_BANDS) * rng.uniform(0.85, 1.15))


def _can_follow(previous: Beat, motion: str, ego: str) -> bool:
    """Whether everybody can go on from where they are, and what is named stays in view."""
    old, driven = previous.slots, driven_m(ego)
    if old['motion'] in ('oncoming', 'crossing') and not (
            motion == 'none' and old['place'] != 'ahead' and old['object'] in ('car', 'van', 'motorcycle', 'cyclist')):
        return False
    if driven > 0 and old['signal'] != 'none' and previous.signal_z[1] - driven < _NEAREST_SIGNAL[old['signal']]:
        return False
    if len(previous.tracks) > 1 and (
            motion == 'none' or driven > 0 and previous.tracks[1].z[1] - driven < _NEAREST_SECOND):
        return False
    if motion == 'walking' and previous.tracks[0].z[1] > 8.2:
        return False                                     # it would be too far away
    if motion in ('overtaking', 'braking', 'cutting in') and old['motion'] == motion:
        return False
    if motion == 'braking' and old['place'] != 'ahead' and old['motion'] != 'cutting in':
        return False
    if motion in ('parked', 'waiting', 'walking') and ego != 'stopped':
        return False                                     # it would be passed within the second
    return not (ego == 'braking' and old['ego'] == 'braking' or ego in _TURNS and not previous.first)


class Script:
    """The beats of a drive, made on demand in order.

    ``pace``: 'brisk' (a new street every second or two, every slot changing) or 'calm' (minutes that change as a real
    drive does, with quiet stretches and sudden events).
    """

    def __init__(self, seed: int, pace: str = 'brisk') -> None:
        if pace not in PACES:
            raise CrossSpecError(f'pace must be one of {PACES}, got {pace!r}')
        if seed < 0:
            raise CrossSpecError(f'seed must be >= 0, got {seed}')
        self._seed, self._calm = seed, pace == 'calm'
        self._restart()

    def _restart(self) -> None:
        self._rng = np.random.default_rng([self._seed, 2024])
        self._beats: list[Beat] = []
        self._forgotten = 0                              # beats before the first of the list
        self._light = ''

    def beat(self, index: int) -> Beat:
        """The beat that covers ``(index, index + 1]`` seconds."""
        if index < 0:
            raise CrossSpecError(f'a world starts at 0 s, got the second {index}')
        if index < self._forgotten:
            self._restart()
        while self._forgotten + len(self._beats) <= index:
            self._add_shot()
            if len(self._beats) > _KEPT_BEATS:
                self._forgotten += _KEPT_BEATS // 2
                del self._beats[:_KEPT_BEATS // 2]
        return self._beats[index - self._forgotten]

    def _next_light(self) -> str:
        if self._calm and self._light and self._rng.random() < 0.88:
            return self._light
        return str(self._rng.choice([light for light in LIGHTS if light != self._light]))

    def _add_shot(self) -> None:
        """One street, until its time is over or nothing sensible can follow."""
        rng = self._rng
        self._light = self._next_light()
        length = int(rng.integers(4, 15)) if self._calm else int(rng.choice(_SHOT_SECONDS, p=_SHOT_CHANCE))
        street = int(rng.integers(1 << 31))
        curve = float(rng.choice([0.0, 0.0, -0.004, 0.004]) * rng.uniform(0.4, 1.0))
        previous: Beat | None = None
        for _ in range(length):
            plan = self._sequel(previous) if previous else self._opening()
            if plan is None:
                break
            previous = self._beat_of(plan, previous, street, curve)
            self._beats.append(previous)

    def _beat_of(self, plan: _Plan, previous: Beat | None, street: int, curve: float) -> Beat:
        """The beat that a plan gives in a street."""
        slots = {'object': plan.kind, 'colour': plan.colour if plan.kind != 'none' else 'none', 'place': plan.place,
                 'motion': plan.motion, 'ego': plan.ego, 'weather': self._light, 'signal': 'none', 'second': 'none'}
        tracks: tuple[Track, ...] = ()
        if plan.kind != 'none':
            track = salient_track(slots, previous, plan.band, self._rng)
            tracks = (track,)
            if plan.motion == 'crossing':
                slots['place'] = 'left' if track.x[0] < 0 else 'right'
        slots['signal'], signal_z = self._signal(previous, slots)
        second = self._second(slots, previous)
        if second is not None:
            slots['second'] = f"{second.kind} {'left' if second.x[0] < 0 else 'right'}"
            tracks += (second,)
        return Beat(self._forgotten + len(self._beats), previous is None, street, curve, plan.travelled_m, slots,
                    tracks, leaving_tracks(previous, plan.motion), signal_z)

    def _opening(self) -> _Plan:
        """The first beat of a shot."""
        rng = self._rng
        motion = _pick(rng, tuple(_WITH), _WEIGHT)
        who, places, egos = _WITH[motion]
        ego = _pick(rng, egos, _EGO_WEIGHT)
        if not _believable('cyclist', motion, ego):
            who = tuple(w for w in who if w != 'cyclist')
        elif 'cyclist' in who:
            who = (*who, 'cyclist')
        if motion == 'driving' and ego in _TURNS:
            places = ('ahead',)
        kind, place, colour = _pick(rng, who), _pick(rng, places), _pick(rng, COLOURS[:-1])
        return _Plan(motion, kind, place, colour, ego, float(rng.uniform(0, 90)), _band(rng))

    def _sequel(self, previous: Beat) -> _Plan | None:
        """A beat that follows from ``previous``, or None where none was found."""
        rng, old = self._rng, previous.slots
        for _ in range(40 if self._calm else 12):
            motion, ego = _pick(rng, _NEXT[old['motion']]), _pick(rng, _NEXT_EGO[old['ego']])
            if self._calm and rng.random() < 0.5:
                motion, ego = old['motion'], old['ego']
            who, places, egos = _WITH[motion]
            same = old['object'] != 'none' and motion != 'none'
            if ego not in egos or (same and old['object'] not in who) or not _can_follow(previous, motion, ego):
                continue
            kind = old['object'] if same else _pick(rng, tuple(w for w in who if w != 'pedestrian') or who)
            place = old['place'] if same else _pick(rng, places)
            if motion in ('driving', 'braking') and old['motion'] in ('cutting in', 'braking'):
                place = 'ahead'
            if motion == 'driving' and ego in _TURNS and place != 'ahead':
                continue
            colour = old['colour'] if same else _pick(rng, COLOURS[:-1])
            if place not in places or not _believable(kind, motion, ego):
                continue
            if old['signal'] in hidden_signals(kind, motion, place):
                continue
            band = previous.tracks[0].band if same else _band(rng)
            return _Plan(motion, kind, place, colour, ego, previous.distance_m(1.0), band)
        return None

    def _signal(self, previous: Beat | None, slots: dict[str, str]) -> tuple[str, tuple[float, float]]:
        """Signal slot and its distance over the beat, metres."""
        rng, driven = self._rng, driven_m(slots['ego'])
        if previous is not None:
            z = previous.signal_z[1]
            return previous.slots['signal'], (z, z - driven)
        hidden = hidden_signals(slots['object'], slots['motion'], slots['place'])
        kind = _pick(rng, tuple('none' if kind in hidden else kind for kind in _SIGNALS[slots['ego']]))
        if self._calm and driven > 0 and rng.random() < 0.8:
            kind = 'none'                                # a signal ends the shot when it is passed
        z = (9.5 if kind == 'stop sign' else 12.5) + float(rng.uniform(0.0, 1.0))
        return kind, (z + driven, z)

    def _second(self, slots: dict[str, str], previous: Beat | None) -> Track | None:
        """A second, grey road user standing at the kerb away from the salient one."""
        rng, driven = self._rng, driven_m(slots['ego'])
        if slots['object'] == 'none' or slots['ego'] in _TURNS:
            return None
        if previous is not None:
            old = previous.tracks[1] if len(previous.tracks) > 1 else None
            return None if old is None else replace(old, z=(old.z[1], old.z[1] - driven))
        if self._calm and driven > 0 and rng.random() < 0.8:
            return None
        if (slots['motion'] == 'crossing' and slots['object'] != 'pedestrian') or rng.random() > 0.85:
            return None
        side = {'left': 1.0, 'right': -1.0}.get(slots['place']) or float(rng.choice([-1.0, 1.0]))
        kind = str(rng.choice(['car', 'pedestrian']))
        kind = {'pedestrian': 'car', 'car': 'pedestrian'}.get(slots['object'], kind)     # never two of a kind
        return second_track(kind, side, slots['ego'])
