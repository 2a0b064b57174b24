"""The painter: polygons of a shot, seen by a pinhole camera, as a picture of polygon numbers and their light.

One pass gives a number per pixel and a table of colours per number (r, g, b and the event sensor's band), so that the
RGB camera and the event sensor share the same work. Letters: P polygons, O objects, F frames, H x W pixels.
"""
from __future__ import annotations

import numpy as np
from numba import njit

from crossspec_ros.world.meshes import MAX_VERTICES
from crossspec_ros.world.street import FAR, FIRST_ACTOR, FIXED, PERIOD_M, RAIN, SCROLL

_NEAR = 0.45
_BEHIND = 12.0          # metres of street kept behind the camera before it repeats ahead
_FAR, _SCROLL, _FIXED, _RAIN, _ACTOR, _PERIOD = FAR, SCROLL, FIXED, RAIN, FIRST_ACTOR, PERIOD_M
_MAX = MAX_VERTICES + 2
_JIT = {'cache': True, 'nogil': True, 'fastmath': True, 'error_model': 'numpy'}


@njit(**_JIT)
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


@njit(**_JIT)
def _fill(u: np.ndarray, v: np.ndarray, n: int, ids: np.ndarray, value: int) -> None:
    """Fill a convex polygon; a pixel belongs to it when its centre does."""
    height, width = ids.shape
    low, high = v[0], v[0]
    for i in range(1, n):
        low, high = min(low, v[i]), max(high, v[i])
    first, last = max(0, int(np.ceil(low - 0.5))), min(height - 1, int(np.ceil(high - 0.5)) - 1)
    for row in range(first, last + 1):
        y = np.float32(row + 0.5)
        left, right = np.float32(1e9), np.float32(-1e9)
        for i in range(n):
            j = i + 1 if i + 1 < n else 0
            a, b = v[i], v[j]
            if (a <= y) != (b <= y):
                x = u[i] + (y - a) / (b - a) * (u[j] - u[i])
                left, right = min(left, x), max(right, x)
        start = int(np.ceil(max(left, np.float32(0.0)) - np.float32(0.5)))
        stop = int(np.ceil(min(right, np.float32(width)) - np.float32(0.5)))
        for column in range(max(start, 0), min(stop, width)):
            ids[row, column] = value


@njit(**_JIT)
def _transform(verts: np.ndarray, k: int, count: int, kind: int, shift: float, poses: np.ndarray, step: float,
               hip: float, camera: np.ndarray, points: np.ndarray) -> float:
    """Polygon ``k`` from its own frame into camera axes (x right, y up from the eye, z forward); gives the farthest z.

    Road users are scripted as the driver sees them; the street turns below them.
    """
    farthest = np.float32(-1e9)
    for i in range(count):
        x, y, z = verts[k, i, 0], verts[k, i, 1], verts[k, i, 2]
        if kind == _RAIN:
            y += (shift - np.float32(0.5)) * np.float32(1.7) * z
        elif kind >= _ACTOR:
            actor = kind - _ACTOR
            if y < hip:
                z += step * (hip - y)
            x, z = (poses[actor, 0] + poses[actor, 3] * x + poses[actor, 2] * z,
                    poses[actor, 1] - poses[actor, 2] * x + poses[actor, 3] * z)
            x += camera[7] * z * abs(z)
            y -= camera[3]
        else:
            if kind == _SCROLL:
                z += shift
            if kind != _FAR and z > 0:
                x += camera[7] * z * z
            y -= camera[3]
            x, z = camera[5] * x - camera[4] * z, camera[4] * x + camera[5] * z
        points[i, 0], points[i, 1], points[i, 2] = x, y, z
        farthest = max(farthest, z)
    return farthest


@njit(**_JIT)
def _shade(colours: np.ndarray, emissive: np.ndarray, k: int, haze: float, lamp: float, light: np.ndarray,
           table: np.ndarray) -> None:
    """Colour of polygon ``k`` where ``lamp`` of the headlights' light arrives and haze takes ``haze`` of the view."""
    glow = emissive[k]
    weight = haze * (np.float32(1.0) - np.float32(0.65) * glow)
    for c in range(4):
        lit = colours[k, c] * (glow + (np.float32(1.0) - glow) * (light[0, c] + light[1, c] * lamp))
        table[k + 1, c] = min(np.float32(255.0), lit + (light[2, c] - lit) * weight)


@njit(**_JIT)
def _arrange(frame: np.ndarray, layer: np.ndarray, centre: np.ndarray, poses: np.ndarray, camera: np.ndarray,
             keys: np.ndarray, shifts: np.ndarray, depths: np.ndarray) -> None:
    """Order, displacement and depth (m) of each object."""
    for o in range(len(frame)):
        kind = frame[o]
        x, z = centre[o, 0], centre[o, 1]
        shifts[o] = 0.0
        if kind == _SCROLL:
            moved = (z - camera[8] + _BEHIND) % _PERIOD - _BEHIND
            shifts[o], z = moved - z, moved
        elif kind == _RAIN:
            shifts[o] = 1.0 - (x + camera[9] * 2.6) % 1.0
            z = 4.0
        elif kind >= _ACTOR:
            actor = kind - _ACTOR
            z = poses[actor, 1] - poses[actor, 2] * x + poses[actor, 3] * z
        else:
            z = 60.0
        keys[o] = layer[o] * 10000.0 - z + o * 1e-5 if layer[o] > 0 else o * 0.001 - 9000.0
        depths[o] = max(z, 0.0)


@njit(**_JIT)
def paint(verts: np.ndarray, counts: np.ndarray, colours: np.ndarray, emissive: np.ndarray, flat: np.ndarray,
          starts: np.ndarray, frame: np.ndarray, layer: np.ndarray, centre: np.ndarray, swing: np.ndarray,
          poses: np.ndarray, camera: np.ndarray, light: np.ndarray, ids: np.ndarray, table: np.ndarray) -> None:
    """Paint one instant.

    Arrays of ``street.Packed``; ``poses`` (F, 5) float32: x, z, sin, cos of the heading, step of the legs; ``camera``
    (10,) float32: focal px, cx, cy, eye height m, sin yaw, cos yaw, pitch rad, curvature 1/m, travelled m, time s;
    ``light`` (3, 5) float32: ambient; headlights and their reach m; haze and its density 1/m. Writes ``ids`` (H, W)
    uint16, 0 = sky, k + 1 = polygon k, and ``table`` (P + 1, 4), the light of the polygons that were drawn.
    """
    ids[:] = 0
    objects = len(frame)
    keys, shifts, depths = np.empty(objects), np.empty(objects, np.float32), np.empty(objects, np.float32)
    _arrange(frame, layer, centre, poses, camera, keys, shifts, depths)
    points, clipped = np.empty((_MAX, 3), np.float32), np.empty((_MAX, 3), np.float32)
    u, v = np.empty(_MAX, np.float32), np.empty(_MAX, np.float32)
    near, focal = np.float32(_NEAR), camera[0]
    for o in np.argsort(keys):
        kind = frame[o]
        step = poses[max(kind - _ACTOR, 0), 4] * swing[o, 0] if kind >= _ACTOR else np.float32(0.0)
        haze, lamp = np.float32(1.0 - np.exp(-depths[o] * light[2, 4])), np.float32(np.exp(-depths[o] / light[1, 4]))
        for k in range(starts[o], starts[o + 1]):
            if _transform(verts, k, counts[k], kind, shifts[o], poses, step, swing[o, 1], camera, points) < near:
                continue
            n = _clip_near(points, counts[k], clipped)
            area = np.float32(0.0)
            for i in range(n):
                inverse = focal / clipped[i, 2]
                u[i] = camera[1] + clipped[i, 0] * inverse
                v[i] = camera[2] - clipped[i, 1] * inverse + focal * camera[6]
            for i in range(n):
                j = i + 1 if i + 1 < n else 0
                area += u[i] * v[j] - u[j] * v[i]
            if n > 2 and (flat[k] == 1 or area < 0.0):      # v points down: outside faces turn the other way
                if kind == _FIXED:
                    depth = np.float32(0.5) * (verts[k, 0, 2] + verts[k, 2, 2])
                    haze = np.float32(1.0 - np.exp(-depth * light[2, 4]))
                    lamp = np.float32(np.exp(-depth / light[1, 4]))
                _shade(colours, emissive, k, haze, lamp, light, table)
                _fill(u, v, n, ids, k + 1)


@njit(**_JIT)
def develop(ids: np.ndarray, tables: np.ndarray, sky: np.ndarray, gain: np.ndarray, noise: np.ndarray, sigma: float,
            dy: int, dx: int, out: np.ndarray) -> None:
    """The 8-bit picture: mean of ``ids`` (K, H, W) through ``tables`` (K, P + 1, 4), times ``gain`` (H, W), plus noise.

    ``sky`` (H, 4) shows where nothing stands; ``noise`` (>= H + dy, >= W + dx, 3) has unit variance. Writes ``out``
    (H, W, 3) uint8.
    """
    instants = ids.shape[0]
    share = np.float32(1.0 / instants)
    for y in range(ids.shape[1]):
        for x in range(ids.shape[2]):
            r, g, b = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for i in range(instants):
                k = ids[i, y, x]
                if k:
                    r, g, b = r + tables[i, k, 0], g + tables[i, k, 1], b + tables[i, k, 2]
                else:
                    r, g, b = r + sky[y, 0], g + sky[y, 1], b + sky[y, 2]
            scale = share * gain[y, x]
            out[y, x, 0] = np.uint8(min(max(r * scale + sigma * noise[y + dy, x + dx, 0], 0.0), 255.0))
            out[y, x, 1] = np.uint8(min(max(g * scale + sigma * noise[y + dy, x + dx, 1], 0.0), 255.0))
            out[y, x, 2] = np.uint8(min(max(b * scale + sigma * noise[y + dy, x + dx, 2], 0.0), 255.0))
