"""Where road users go in a beat, as the driver sees them.

Every motion ends where the road user is in full view, near enough to be named and clear of the others; what a caption
says of it is then visible by construction.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from crossspec_ros.world.scene import Beat, Track, driven_m
from crossspec_ros.world.street import LANE_M

Span = tuple[float, float]

_SMALL = ('motorcycle', 'cyclist', 'pedestrian')
_HALF_LENGTH = {'car': 2.1, 'van': 2.4, 'truck': 3.8, 'bus': 5.0, 'motorcycle': 1.1, 'cyclist': 0.9, 'pedestrian': 0.3}
_NEARER = {'motorcycle': 0.72, 'cyclist': 0.68, 'pedestrian': 0.62, 'truck': 1.12, 'bus': 1.15}
_SIDE = {'left': -1.0, 'right': 1.0, 'ahead': 0.0, 'none': 0.0}
_CROSSING_REACH = {'pedestrian': (2.5, 0.3), 'cyclist': (4.6, 0.9), 'motorcycle': (6.0, 1.6)}     # m from the middle
_STEP_HZ = {'cyclist': 1.5}
_WALK_HZ = 1.9
_GREY_BAND = 118.0


def lane_m(place: str, kind: str) -> float:
    """Where a road user drives on that side, metres to the right: narrow ones keep nearer, to stay in view."""
    return _SIDE[place] * {'motorcycle': 2.7, 'cyclist': 2.4}.get(kind, LANE_M)


def salient_track(slots: dict[str, str], previous: Beat | None, band: float, rng: np.random.Generator) -> Track:
    """Where the salient road user of ``slots`` goes; it starts where it was if it is the one of the beat before."""
    kind, motion = slots['object'], slots['motion']
    jitter = float(rng.uniform(0.94, 1.08))
    if motion in ('parked', 'waiting', 'walking'):
        track = _at_the_kerb(slots, jitter)
    elif motion == 'crossing':
        track = _crossing(slots, jitter)
    else:
        track = _on_the_road(slots, jitter)
    track = replace(track, band=band, braking=motion == 'braking')
    if previous is not None and previous.tracks:
        old = previous.tracks[0]
        if (old.kind, old.colour) == (kind, slots['colour']):
            track = _carried_on(old, track, motion)
    if motion == 'crossing':
        track = replace(track, heading=np.pi / 2 if track.x[0] < 0 else -np.pi / 2)
    return track


def _on_the_road(slots: dict[str, str], jitter: float) -> Track:
    """Driving, braking, oncoming, overtaking or cutting in."""
    kind, motion, place = slots['object'], slots['motion'], slots['place']
    long, step = _HALF_LENGTH[kind], _STEP_HZ.get(kind, 0.0)
    near, exact = _NEARER.get(kind, 1.0) * jitter, _NEARER.get(kind, 1.0)
    lane: Span = (lane_m(place, kind),) * 2
    if motion == 'driving':
        return Track(kind, slots['colour'], lane, (9.5 * near + long + 0.25, 9.5 * near + long), 0.0, step)
    if motion == 'braking':
        return Track(kind, slots['colour'], (0.0, 0.0), (13.5 * near + long, 7.2 * near + long), 0.0)
    if motion == 'oncoming':
        return Track(kind, slots['colour'], lane, (34.0 * exact + long, 8.2 * near + long), np.pi, step)
    if motion == 'overtaking':
        return Track(kind, slots['colour'], lane, (4.0 - long, 10.5 * near + long), 0.0, step)
    assert motion == 'cutting in', motion
    side = _SIDE[place]
    return Track(kind, slots['colour'], (side * LANE_M, side * 0.25), (9.0 * near + long, 9.6 * near + long),
                 heading=-side * 0.22)


def _crossing(slots: dict[str, str], jitter: float) -> Track:
    """From the side it comes from past the middle."""
    kind, side, driven = slots['object'], _SIDE[slots['place']], driven_m(slots['ego'])
    start, end = _CROSSING_REACH.get(kind, (8.0 + _HALF_LENGTH[kind], 1.2))
    if kind in _SMALL:
        z = 10.0 * _NEARER[kind] * jitter + 0.3 * driven
    else:
        z = 9.6 * jitter
    return Track(kind, slots['colour'], (side * start, -side * end), (z + 0.2 * driven, z), 0.0, _WALK_HZ)


def _at_the_kerb(slots: dict[str, str], jitter: float) -> Track:
    """Parked, waiting or walking: comes nearer by what the ego vehicle drives."""
    kind, motion, side = slots['object'], slots['motion'], _SIDE[slots['place']]
    if motion == 'parked':
        out, near = (3.0, 7.4) if kind == 'motorcycle' else (4.1, 10.2)
    else:
        out, near = 2.7, 6.4
    z1 = near * jitter + _HALF_LENGTH[kind]
    z = (z1 + driven_m(slots['ego']), z1)
    x: Span = (side * out,) * 2
    if motion == 'walking':
        return Track(kind, slots['colour'], x, (z[0] - 0.7, z1), 0.0, _WALK_HZ)
    return Track(kind, slots['colour'], x, z, 0.0 if motion == 'parked' else -side * np.pi / 2)


def _carried_on(old: Track, new: Track, motion: str) -> Track:
    """``new`` from where the same road user was at the end of ``old``."""
    x, z = new.x[1], new.z[1]
    if motion in ('parked', 'waiting'):
        x, z = old.x[1], old.z[1] - (new.z[0] - new.z[1])
    elif motion == 'crossing':
        x, z = -0.3 if old.x[1] > 0 else 0.3, max(old.z[1] - 0.2, 5.2)
    elif motion == 'walking':
        x, z = old.x[1], old.z[1] + 0.8
    elif motion == 'braking':
        z = min(z, 0.72 * old.z[1])
    return replace(new, x=(old.x[1], x), z=(old.z[1], z))


def leaving_tracks(previous: Beat | None, motion: str) -> tuple[Track, ...]:
    """Who was salient and now goes out of sight at once."""
    if previous is None or not previous.tracks or previous.slots['motion'] == motion:
        return ()
    old, before = previous.tracks[0], previous.slots['motion']
    if before == 'oncoming':
        return (replace(old, x=(old.x[1],) * 2, z=(old.z[1], old.z[1] - 26.0)),)
    if before == 'crossing' and old.kind != 'pedestrian':
        away = 22.0 if old.x[1] > old.x[0] else -22.0
        return (replace(old, x=(old.x[1], old.x[1] + away), z=(old.z[1],) * 2),)
    return ()


def second_track(kind: str, side: float, ego: str) -> Track:
    """A grey parked car or standing pedestrian at the kerb; ``side`` is -1 (left) or 1 (right)."""
    z, x = (12.6, 4.3) if kind == 'car' else (8.0, 3.2)
    heading = 0.0 if kind == 'car' else -side * np.pi / 2
    return Track(kind, 'grey', (side * x,) * 2, (z + driven_m(ego), z), heading, band=_GREY_BAND)


def hidden_signals(kind: str, motion: str, place: str) -> tuple[str, ...]:
    """Signals that a salient road user would hide."""
    hidden: tuple[str, ...] = ()
    if kind in ('truck', 'bus') and (place == 'ahead' or motion in ('crossing', 'cutting in')):
        hidden += ('red light', 'green light')
    if kind in ('van', 'truck', 'bus') and motion == 'crossing':
        hidden += ('stop sign',)
    if place == 'right' and motion in ('driving', 'overtaking', 'cutting in', 'waiting', 'walking'):
        hidden += ('stop sign',)
    return hidden
