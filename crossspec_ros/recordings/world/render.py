"""The painter: polygons of a shot, seen by a pinhole camera, as a picture of polygon numbers and their light.

One pass gives a number per pixel and a table of colours per number (r, g, b and the event sensor's band), so that the RGB
camera and the event sensor share the same work. Letters: P polygons, O objects, F frames, H x W pixels.
"""
from __future__ import annotations

import numpy as np
from numba import njit

from crossspec_ros.recordings.world.meshes import MAX_VERTICES
from crossspec_ros.recordings.world.street import FAR, FIRST_ACTOR, FIXED, PERIOD_M, RAIN, SCROLL

_NEAR = 0.45
_BEHIND = 12.0          # metres of street kept behind the camera before it repeats ahead
_FAR, _SCROLL, _FIXED, _RAIN, _ACTOR, _PERIOD = FAR, SCROLL, FIXED, RAIN, FIRST_ACTOR, PERIOD_M
_MAX = MAX_VERTICES + 2


@njit(cache=True, nogil=True)
def _clip_near(points: np.ndarray, count: int, out: np.ndarray) -> int:
    """Sutherland-Hodgman against z = _NEAR; returns the vertex count of ``out``."""
    n = 0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        a, b = points[i, 2], points[j, 2]
        if a >= _NEAR:
            out[n, 0], out[n, 1], out[n, 2] = points[i, 0], points[i, 1], a
            n += 1
        if (a >= _NEAR) != (b >= _NEAR):
            w = (_NEAR - a) / (b - a)
            out[n, 0] = points[i, 0] + w * (points[j, 0] - points[i, 0])
            out[n, 1] = points[i, 1] + w * (points[j, 1] - points[i, 1])
            out[n, 2] = _NEAR
            n += 1
    return n


@njit(cache=True, nogil=True)
def _fill(u: np.ndarray, v: np.ndarray, n: int, ids: np.ndarray, value: int) -> None:
    """Fill a convex polygon; a pixel belongs to it when its centre does."""
    height, width = ids.shape
    low, high = v[0], v[0]
    for i in range(1, n):
        low, high = min(low, v[i]), max(high, v[i])
    first, last = max(0, int(np.ceil(low - 0.5))), min(height - 1, int(np.ceil(high - 0.5)) - 1)
    for row in range(first, last + 1):
        y = row + 0.5
        left, right = 1e9, -1e9
        for i in range(n):
            j = i + 1 if i + 1 < n else 0
            a, b = v[i], v[j]
            if (a <= y) != (b <= y):
                x = u[i] + (y - a) / (b - a) * (u[j] - u[i])
                left, right = min(left, x), max(right, x)
        start, stop = int(np.ceil(max(left, 0.0) - 0.5)), int(np.ceil(min(right, float(width)) - 0.5))
        for column in range(max(start, 0), min(stop, width)):
            ids[row, column] = value


@njit(cache=True, nogil=True)
def _place(point: np.ndarray, out: np.ndarray, kind: int, shift: float, pose: np.ndarray, swing: float, hip: float,
           camera: np.ndarray) -> None:
    """A vertex from its own frame into camera axes (x right, y up from the eye, z forward).

    ``camera``: focal px, cx, cy, eye height m, sin yaw, cos yaw, pitch rad, curvature 1/m, travelled m, time s.
    """
    x, y, z = point[0], point[1], point[2]
    if kind == _RAIN:
        out[0], out[1], out[2] = x, (shift - 0.5) * 1.7 * z + y, z
        return
    if kind >= _ACTOR:
        if swing != 0.0 and y < hip:
            z += swing * (hip - y)
        s, c = pose[2], pose[3]
        x, z = pose[0] + c * x + s * z, pose[1] - s * x + c * z
    elif kind == _SCROLL:
        z += shift
    if kind != _FAR:
        if z > 0:
            x += camera[7] * z * z
        if kind >= _ACTOR:               # road users are scripted as the driver sees them, the street turns below them
            out[0], out[1], out[2] = x, y - camera[3], z
            return
    out[0] = camera[5] * x - camera[4] * z
    out[1] = y - camera[3]
    out[2] = camera[4] * x + camera[5] * z


@njit(cache=True, nogil=True)
def _shade(table: np.ndarray, row: int, colour: np.ndarray, glow: float, depth: float, light: np.ndarray) -> None:
    """Colour of a polygon at a depth. ``light`` (3, 4): ambient, headlight, haze; [0:3, 4] haze, reach, unused."""
    haze = 1.0 - np.exp(-max(depth, 0.0) * light[2, 4])
    lamp = np.exp(-max(depth, 0.0) / light[1, 4])
    for c in range(4):
        lit = colour[c] * (glow + (1.0 - glow) * (light[0, c] + light[1, c] * lamp))
        weight = haze * (1.0 - 0.65 * glow)
        table[row, c] = min(255.0, lit * (1.0 - weight) + light[2, c] * weight)


@njit(cache=True, nogil=True)
def paint(verts: np.ndarray, counts: np.ndarray, colours: np.ndarray, emissive: np.ndarray, flat: np.ndarray,
          starts: np.ndarray, frame: np.ndarray, layer: np.ndarray, centre: np.ndarray, swing: np.ndarray,
          poses: np.ndarray, camera: np.ndarray, light: np.ndarray, ids: np.ndarray, table: np.ndarray) -> None:
    """Paint one instant.

    Arrays of ``street.Packed``; ``poses`` (F, 5) float32: x, z, sin, cos of the heading, step of the legs; ``camera`` (10,)
    and ``light`` (3, 5) float32 as above. Writes ``ids`` (H, W) uint16, 0 = sky, k + 1 = polygon k, and ``table`` (P + 1, 4).
    """
    ids[:] = 0
    objects = len(frame)
    keys, shifts = np.empty(objects, np.float64), np.zeros(objects, np.float32)
    for o in range(objects):
        kind = frame[o]
        x, z = centre[o, 0], centre[o, 1]
        if kind == _SCROLL:
            moved = (z - camera[8] + _BEHIND) % _PERIOD - _BEHIND
            shifts[o], z = moved - z, moved
        elif kind == _RAIN:
            shifts[o] = 1.0 - (x + camera[9] * 2.6) % 1.0
        elif kind >= _ACTOR:
            z = poses[kind - _ACTOR, 1] - poses[kind - _ACTOR, 2] * x + poses[kind - _ACTOR, 3] * z
        keys[o] = layer[o] * 10000.0 - z + o * 1e-5 if layer[o] > 0 else o * 0.001 - 9000.0
        centre_depth = z if kind >= _SCROLL else 60.0
        for k in range(starts[o], starts[o + 1]):
            depth = centre_depth
            if kind == _FIXED:
                depth = 0.5 * (verts[k, 0, 2] + verts[k, 2, 2])
            elif kind == _RAIN:
                depth = 4.0
            _shade(table, k + 1, colours[k], emissive[k], depth, light)
    points, clipped = np.empty((_MAX, 3), np.float32), np.empty((_MAX, 3), np.float32)
    u, v = np.empty(_MAX, np.float32), np.empty(_MAX, np.float32)
    for o in np.argsort(keys):
        kind = frame[o]
        actor = max(kind - _ACTOR, 0)
        step = poses[actor, 4] * swing[o, 0] if kind >= _ACTOR else 0.0
        for k in range(starts[o], starts[o + 1]):
            behind = True
            for i in range(counts[k]):
                _place(verts[k, i], points[i], kind, shifts[o], poses[actor], step, swing[o, 1], camera)
                behind = behind and points[i, 2] < _NEAR
            if behind:
                continue
            n = _clip_near(points, counts[k], clipped)
            area = 0.0
            for i in range(n):
                u[i] = camera[1] + camera[0] * clipped[i, 0] / clipped[i, 2]
                v[i] = camera[2] - camera[0] * (clipped[i, 1] / clipped[i, 2] - camera[6])
            for i in range(n):
                j = i + 1 if i + 1 < n else 0
                area += u[i] * v[j] - u[j] * v[i]
            if n > 2 and (flat[k] == 1 or area < 0.0):      # v points down: outside faces turn the other way
                _fill(u, v, n, ids, k + 1)


@njit(cache=True, nogil=True)
def add_colour(ids: np.ndarray, table: np.ndarray, sky: np.ndarray, weight: float, total: np.ndarray) -> None:
    """Add the picture times ``weight`` to ``total`` (H, W, 3) float32; ``sky`` (H, 4) fills where nothing stands."""
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            k = ids[y, x]
            for c in range(3):
                total[y, x, c] += weight * (table[k, c] if k else sky[y, c])
