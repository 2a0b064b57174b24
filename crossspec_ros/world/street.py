"""A street: everything that stands still, and a shot's polygons packed into arrays for the painter.

The street repeats every ``PERIOD_M`` metres, far enough for haze to hide the seam.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossspec_ros.world.meshes import MAX_VERTICES, Colour, Part, box_part

PERIOD_M = 96.0
LANE_M = 3.3
FAR, SCROLL, FIXED, RAIN = 0, 1, 2, 3          # how the painter places an object; above: actor frames
FIRST_ACTOR = 4
GROUND, BUILDING, THING = 0, 1, 2              # layers, painted in this order


@dataclass(frozen=True)
class Packed:
    """Polygons (P) of objects (O) as arrays; see ``render.paint``."""

    verts: np.ndarray      # (P, MAX_VERTICES, 3) float32
    counts: np.ndarray     # (P,) int32
    colours: np.ndarray    # (P, 4) float32
    emissive: np.ndarray   # (P,) float32
    flat: np.ndarray       # (P,) uint8: 1 = seen from both sides
    starts: np.ndarray     # (O + 1,) int32
    frame: np.ndarray      # (O,) int32
    layer: np.ndarray      # (O,) int32
    centre: np.ndarray     # (O, 2) float32: x, z
    swing: np.ndarray      # (O, 2) float32: amplitude, hip height


class Packer:
    """Collects parts, gives ``Packed``."""

    def __init__(self) -> None:
        self._parts: list[tuple[Part, int, int, bool]] = []

    def add(self, part: Part, frame: int, layer: int = THING, flat: bool = False) -> None:
        self._parts.append((part, frame, layer, flat))

    def __len__(self) -> int:
        return len(self._parts)

    def extend(self, other: Packer) -> None:
        self._parts.extend(other._parts)

    def pack(self) -> Packed:
        """All parts in the order they were added."""
        total = sum(len(part.verts) for part, *_ in self._parts)
        verts = np.zeros((total, MAX_VERTICES, 3), np.float32)
        counts, flat = np.zeros(total, np.int32), np.zeros(total, np.uint8)
        starts, k = [0], 0
        for part, _, _, two_sided in self._parts:
            for polygon in part.verts:
                verts[k, :len(polygon)] = polygon
                counts[k], flat[k] = len(polygon), two_sided
                k += 1
            starts.append(k)
        parts = [part for part, *_ in self._parts]
        return Packed(
            verts, counts, np.array([c for p in parts for c in p.colours], np.float32),
            np.array([e for p in parts for e in p.emissive], np.float32), flat, np.array(starts, np.int32),
            np.array([f for _, f, _, _ in self._parts], np.int32),
            np.array([layer for _, _, layer, _ in self._parts], np.int32),
            np.array([p.centre for p in parts], np.float32),
            np.array([(p.swing, p.hip) for p in parts], np.float32))


def _flat_quad(x0: float, x1: float, z0: float, z1: float, colour: Colour, y: float = 0.0) -> Part:
    part = Part(centre=((x0 + x1) / 2, (z0 + z1) / 2))
    part.add([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], colour)
    return part


_WALLS: tuple[Colour, ...] = ((176, 140, 118, 150), (196, 184, 160, 185), (150, 152, 158, 140), (168, 120, 100, 120),
                              (206, 200, 190, 200), (128, 118, 112, 105), (188, 170, 130, 165))


def _building(rng: np.random.Generator, side: int, z0: float, length: float, night: bool) -> Part:
    height, x = rng.uniform(6, 15), rng.uniform(9.0, 11.0)
    box = (-x - 8, -x, 0.0, height, z0, z0 + length) if side < 0 else (x, x + 8, 0.0, height, z0, z0 + length)
    part = box_part(box, _WALLS[rng.integers(len(_WALLS))])
    part.centre = (part.centre[0], z0 + length / 2)
    face = 'right' if side < 0 else 'left'
    rows, columns = max(2, int(height // 3.2)), max(2, int(length // 2.8))
    lit: Colour = (250, 205, 120, 210)
    for row in range(rows):
        for column in range(columns):
            u, v = (column + 0.25) / columns, (row + 0.3) / rows
            glow = night and rng.random() < 0.35
            part.face(face, box, (u, u + 0.5 / columns, v, v + 0.45 / rows), lit if glow else (62, 72, 88, 60),
                      emissive=glow)
    for row in range(rows):
        for u in (0.15, 0.6):
            part.face('rear', box, (u, u + 0.25, (row + 0.3) / rows, (row + 0.75) / rows), (62, 72, 88, 60))
    return part


def _tree(rng: np.random.Generator, x: float, z: float) -> Part:
    """A trunk and a crown of overlapping discs, facing the road's direction."""
    part = Part(centre=(x, z))
    height, radius = rng.uniform(3.2, 4.6), rng.uniform(1.1, 1.7)
    part.add([(x - 0.14, 0, z), (x + 0.14, 0, z), (x + 0.1, height, z), (x - 0.1, height, z)], (86, 66, 48, 60))
    for k in range(4):
        cx, cy = x + rng.uniform(-0.7, 0.7), height + rng.uniform(-0.3, 1.3)
        angles = np.arange(8) * np.pi / 4
        tone = 0.8 + 0.13 * k
        part.add([(cx + np.cos(a) * radius * 0.8, cy + np.sin(a) * radius * 0.75, z - 0.05 * k) for a in angles],
                 (52, 92, 46, 150), tone)
    return part


def _lamp(x: float, z: float, night: bool) -> Part:
    inward = -np.sign(x)
    part = box_part((x - 0.07, x + 0.07, 0.0, 5.6, z, z + 0.14), (105, 108, 110, 100))
    part.add([(x, 5.55, z), (x + inward * 1.4, 5.7, z), (x + inward * 1.4, 5.82, z), (x, 5.7, z)], (105, 108, 110, 100))
    colour: Colour = (255, 222, 150, 255) if night else (210, 210, 205, 205)
    part.add([(x + inward * 1.0, 5.55, z), (x + inward * 1.6, 5.55, z), (x + inward * 1.6, 5.72, z),
              (x + inward * 1.0, 5.72, z)], colour, emissive=night)
    return part


def _hills(rng: np.random.Generator, town: bool) -> Part:
    part = Part()
    for k in range(40):
        x = (k - 20) * 28 + rng.uniform(-8, 8)
        width, height = rng.uniform(14, 40), rng.uniform(8, 30) if town else rng.uniform(6, 14)
        part.add([(x - width, 0, 300), (x + width, 0, 300), (x + width * (0.95 if town else 0.3), height, 300),
                  (x - width * (0.95 if town else 0.3), height, 300)], (128, 134, 140, 130))
    return part


def _rain() -> Packer:
    rng, packer = np.random.default_rng(5), Packer()
    for _ in range(46):
        z = rng.uniform(1.6, 5.0)
        x, y, length = rng.uniform(-0.7, 0.7) * z, rng.uniform(0, 1), 0.10 * z * rng.uniform(0.6, 1.2)
        part = Part(centre=(y, 3.0))
        half = 0.0028 * z
        part.add([(x - half, 0, z), (x + half, 0, z), (x + half, length, z), (x - half, length, z)],
                 (205, 212, 220, 220))
        packer.add(part, RAIN, THING, True)
    return packer


def build_street(seed: int, light: str) -> Packer:
    """The things that stand still in a street. ``light`` is a weather slot."""
    rng, packer, night = np.random.default_rng(seed), Packer(), light in ('night', 'dusk')
    town = rng.random() < 0.65
    packer.add(_hills(rng, town), FAR, GROUND, True)
    verge: Colour = (128, 126, 120, 125) if town else (92, 116, 62, 140)
    road: Colour = ((74, 76, 80, 72), (86, 85, 84, 82), (64, 66, 72, 62))[rng.integers(3)]
    packer.add(_flat_quad(-300, 300, 0.6, 320, verge), FIXED, GROUND, True)
    zs = np.array([0.6, 4, 8, 13, 19, 26, 34, 44, 56, 70, 88, 110, 140])
    strip = Part()
    for z0, z1 in zip(zs[:-1], zs[1:]):
        for x0, x1, y, colour in ((-5.9, 5.9, 0.0, (150, 148, 142, 150)), (-5.6, 5.6, 0.0, road),
                                  (-4.95, -4.8, 0.0, (205, 205, 200, 205)), (4.8, 4.95, 0.0, (205, 205, 200, 205))):
            strip.add([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], colour)
    packer.add(strip, FIXED, GROUND, True)
    yellow = rng.random() < 0.4
    for z in np.arange(0, PERIOD_M, 8.0):
        left: Colour = (215, 175, 60, 190) if yellow else (215, 215, 210, 215)
        packer.add(_flat_quad(-1.72, -1.58, z, z + 3.2, left), SCROLL, GROUND, True)
        packer.add(_flat_quad(1.58, 1.72, z, z + 3.2, (215, 215, 210, 215)), SCROLL, GROUND, True)
    for _ in range(16):                                       # patches of asphalt and of the verge carry the flow
        z, x, tone = rng.uniform(0, PERIOD_M), rng.uniform(-4.4, 3.6), rng.uniform(0.82, 1.16)
        packer.add(_flat_quad(x, x + rng.uniform(0.5, 1.6), z, z + rng.uniform(0.8, 2.5),
                              tuple(c * tone for c in road)), SCROLL, GROUND, True)
    for _ in range(14):
        z, x, tone = rng.uniform(0, PERIOD_M), rng.choice([-1, 1]) * rng.uniform(6.4, 8.2), rng.uniform(0.8, 1.2)
        packer.add(_flat_quad(x - 0.6, x + 0.6, z, z + 1.6, tuple(c * tone for c in verge)), SCROLL, GROUND, True)
    for side in (-1, 1):
        _side(rng, packer, side, town, night)
    if light == 'rain':
        packer.extend(_rain())
    return packer


def _side(rng: np.random.Generator, packer: Packer, side: int, town: bool, night: bool) -> None:
    """Buildings, trees and lamps of one side."""
    z = 0.0
    while z < PERIOD_M - 8:
        length = rng.uniform(8, 14)
        length = PERIOD_M - z if PERIOD_M - z - length < 8 else length
        if rng.random() < (0.85 if town else 0.15):
            packer.add(_building(rng, side, z + 0.4, length - 0.8, night), SCROLL, BUILDING)
        z += length
    for z in np.arange(rng.uniform(0, 6), PERIOD_M, rng.uniform(9, 15) if town else rng.uniform(6, 9)):
        packer.add(_tree(rng, side * rng.uniform(7.2, 8.2), float(z)), SCROLL, THING, True)
    for z in np.arange(4.0 + 12 * (side > 0), PERIOD_M, 24.0):
        packer.add(_lamp(side * 6.3, float(z), night), SCROLL, THING, True)
