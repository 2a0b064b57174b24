"""Polygons of the things in the world.

Coordinates of a thing: x right, y up, z forward in metres, heading +z, origin on the ground in the middle.
A part is convex: its polygons never hide one another except by the order in which they were added.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

MAX_VERTICES = 8
Colour = tuple[float, float, float, float]  # r, g, b and the event sensor's band (near infrared), 0 to 255

GLASS: Colour = (45, 55, 70, 50)
TYRE: Colour = (28, 28, 30, 25)
DARK: Colour = (50, 50, 54, 45)
TAIL: Colour = (150, 20, 20, 90)
BRAKE: Colour = (255, 40, 30, 255)
HEAD: Colour = (255, 250, 220, 255)
SKIN: Colour = (205, 160, 130, 170)


@dataclass
class Part:
    """Polygons drawn together. ``swing`` shears the part along z below ``hip`` with the walker's step."""

    verts: list[np.ndarray] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)
    emissive: list[float] = field(default_factory=list)
    centre: tuple[float, float] = (0.0, 0.0)
    swing: float = 0.0
    hip: float = 0.0

    def add(self, verts: list[tuple[float, float, float]], colour: Colour, shade: float = 1.0,
            emissive: bool = False) -> None:
        """Add a convex polygon, counter-clockwise seen from outside; ``shade`` darkens its colour."""
        self.verts.append(np.asarray(verts, np.float32))
        self.colours.append(tuple(c * shade for c in colour))
        self.emissive.append(1.0 if emissive else 0.0)

    def face(self, side: str, box: tuple[float, ...], rect: tuple[float, float, float, float], colour: Colour,
             emissive: bool = False, shade: float | None = None) -> None:
        """A rectangle on a face of a box (x0, x1, y0, y1, z0, z1); ``rect``: its part of the face (u0, u1, v0, v1)."""
        x0, x1, y0, y1, z0, z1 = box
        u0, u1, v0, v1 = rect
        shade = _SHADE[side] if shade is None else shade
        if emissive:
            shade = 1.0
        ya, yb = y0 + (y1 - y0) * v0, y0 + (y1 - y0) * v1
        if side in ('rear', 'front'):
            xa, xb = x0 + (x1 - x0) * u0, x0 + (x1 - x0) * u1
            z = z0 if side == 'rear' else z1
            quad = [(xa, ya, z), (xb, ya, z), (xb, yb, z), (xa, yb, z)]
            flip = side == 'front'
        elif side in ('left', 'right'):
            za, zb = z0 + (z1 - z0) * u0, z0 + (z1 - z0) * u1
            x = x0 if side == 'left' else x1
            quad = [(x, ya, za), (x, ya, zb), (x, yb, zb), (x, yb, za)]
            flip = side == 'left'
        else:
            quad = [(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)]
            flip = False
        self.add(quad[::-1] if flip else quad, colour, shade, emissive)


_SHADE = {'rear': 0.9, 'front': 0.9, 'left': 0.72, 'right': 0.78, 'top': 1.12}
_FULL = (0.0, 1.0, 0.0, 1.0)


def box_part(box: tuple[float, ...], colour: Colour, swing: float = 0.0) -> Part:
    """A box without a bottom; ``box`` is (x0, x1, y0, y1, z0, z1)."""
    part = Part(centre=((box[0] + box[1]) / 2, (box[4] + box[5]) / 2), swing=swing, hip=box[3])
    for side in ('rear', 'front', 'left', 'right', 'top'):
        part.face(side, box, _FULL, colour)
    return part


def disc(part: Part, side: str, x: float, y: float, z: float, radius: float, colour: Colour,
         emissive: bool = False) -> None:
    """An octagon facing ``side`` ('rear', 'front', 'left', 'right')."""
    angles = (np.arange(8) + 0.5) * np.pi / 4
    ring = [(np.cos(a) * radius, np.sin(a) * radius) for a in angles]
    if side in ('front', 'left'):
        ring = ring[::-1]
    if side in ('rear', 'front'):
        part.add([(x + u, y + v, z) for u, v in ring], colour, 1.0, emissive)
    else:
        part.add([(x, y + v, z + u) for u, v in ring], colour, 1.0, emissive)


def _wheels(part: Part, half: float, zs: tuple[float, ...], radius: float) -> None:
    for z in zs:
        for side, x in (('left', -half - 0.01), ('right', half + 0.01)):
            disc(part, side, x, radius, z, radius, TYRE)
            disc(part, side, x, radius, z, radius * 0.5, (120, 120, 125, 120))


def _lamps(part: Part, box: tuple[float, ...], y: tuple[float, float], braking: bool, width: float = 0.2) -> None:
    tail = BRAKE if braking else TAIL
    for u0 in (0.03, 0.97 - width):
        part.face('rear', box, (u0, u0 + width, *y), tail, emissive=True)
        part.face('front', box, (u0, u0 + width, *y), HEAD, emissive=True)


def _car(body: Colour, braking: bool) -> list[Part]:
    low = (-0.9, 0.9, 0.25, 0.85, -2.1, 2.1)
    part = box_part(low, body)
    _wheels(part, 0.9, (-1.35, 1.35), 0.34)
    part.face('rear', low, (0.0, 1.0, 0.0, 0.22), DARK)
    part.face('front', low, (0.0, 1.0, 0.0, 0.25), DARK)
    part.face('rear', low, (0.36, 0.64, 0.3, 0.55), (225, 225, 215, 220))
    part.face('front', low, (0.28, 0.72, 0.35, 0.62), DARK)
    _lamps(part, low, (0.5, 0.85), braking)
    top = Part(centre=(0.0, 0.0))
    base, roof, front, back = 0.85, 1.45, 0.95, -1.6
    quads = {
        'rear': [(-0.85, base, back), (0.85, base, back), (0.68, roof, back + 0.5), (-0.68, roof, back + 0.5)],
        'front': [(0.85, base, front), (-0.85, base, front), (-0.68, roof, front - 0.75), (0.68, roof, front - 0.75)],
        'right': [(0.85, base, back), (0.85, base, front), (0.68, roof, front - 0.75), (0.68, roof, back + 0.5)],
        'left': [(-0.85, base, front), (-0.85, base, back), (-0.68, roof, back + 0.5), (-0.68, roof, front - 0.75)],
        'top': [(-0.68, roof, back + 0.5), (0.68, roof, back + 0.5), (0.68, roof, front - 0.75),
                (-0.68, roof, front - 0.75)]}
    for side, quad in quads.items():
        top.add(quad, body, _SHADE[side])
        if side != 'top':
            middle = np.mean(quad, axis=0)
            top.add([tuple(middle + (np.asarray(v) - middle) * 0.82) for v in quad], GLASS)
    return [part, top]


def _van(body: Colour, braking: bool) -> list[Part]:
    box = (-1.0, 1.0, 0.3, 2.15, -2.4, 2.4)
    part = box_part(box, body)
    _wheels(part, 1.0, (-1.6, 1.6), 0.38)
    part.face('rear', box, (0.1, 0.47, 0.56, 0.86), GLASS)
    part.face('rear', box, (0.53, 0.9, 0.56, 0.86), GLASS)
    part.face('rear', box, (0.49, 0.51, 0.06, 0.95), DARK)
    part.face('front', box, (0.06, 0.94, 0.52, 0.88), GLASS)
    part.face('left', box, (0.72, 0.94, 0.52, 0.85), GLASS)
    part.face('right', box, (0.72, 0.94, 0.52, 0.85), GLASS)
    part.face('rear', box, (0.0, 1.0, 0.0, 0.1), DARK)
    part.face('front', box, (0.0, 1.0, 0.0, 0.12), DARK)
    _lamps(part, box, (0.2, 0.36), braking, 0.14)
    return [part]


def _truck(body: Colour, braking: bool) -> list[Part]:
    cargo = (-1.25, 1.25, 0.95, 3.5, -3.8, 1.6)
    under = box_part((-1.1, 1.1, 0.35, 0.95, -3.7, 3.4), DARK)
    _wheels(under, 1.15, (-3.0, -2.0, 2.6), 0.5)
    load = box_part(cargo, body)
    load.face('rear', cargo, (0.48, 0.52, 0.03, 0.97), DARK)
    load.face('rear', cargo, (0.0, 1.0, 0.94, 1.0), DARK)
    load.face('left', cargo, (0.0, 1.0, 0.44, 0.5), DARK)
    load.face('right', cargo, (0.0, 1.0, 0.44, 0.5), DARK)
    tail = (-1.2, 1.2, 0.6, 0.95, -3.81, 3.4)
    _lamps(under, tail, (0.1, 0.9), braking, 0.16)
    cab_box = (-1.2, 1.2, 0.5, 2.75, 1.8, 3.7)
    cab = box_part(cab_box, body)
    cab.face('front', cab_box, (0.06, 0.94, 0.5, 0.88), GLASS)
    cab.face('left', cab_box, (0.3, 0.9, 0.5, 0.85), GLASS)
    cab.face('right', cab_box, (0.3, 0.9, 0.5, 0.85), GLASS)
    cab.face('front', cab_box, (0.25, 0.75, 0.12, 0.38), DARK)
    _lamps(cab, cab_box, (0.08, 0.24), braking, 0.15)
    return [under, load, cab]


def _bus(body: Colour, braking: bool) -> list[Part]:
    box = (-1.25, 1.25, 0.35, 3.1, -5.0, 5.0)
    part = box_part(box, body)
    _wheels(part, 1.25, (-3.2, 3.2), 0.5)
    part.face('rear', box, (0.08, 0.92, 0.55, 0.84), GLASS)
    part.face('front', box, (0.05, 0.95, 0.36, 0.82), GLASS)
    part.face('front', box, (0.2, 0.8, 0.86, 0.96), (255, 190, 60, 230), emissive=True)
    for side in ('left', 'right'):
        for k in range(6):
            part.face(side, box, (0.03 + k * 0.16, 0.16 + k * 0.16, 0.46, 0.84), GLASS)
    part.face('rear', box, (0.0, 1.0, 0.0, 0.08), DARK)
    part.face('front', box, (0.0, 1.0, 0.0, 0.08), DARK)
    _lamps(part, box, (0.12, 0.26), braking, 0.13)
    return [part]


def _rider(cloth: Colour, seat: float, lean: float, helmet: Colour, width: float) -> list[Part]:
    half = width / 2
    torso = box_part((-half, half, seat, seat + 0.62, -0.25 + lean, 0.1 + lean), cloth)
    torso.centre = (0.0, 0.0)
    head = Part(centre=(0.0, 0.0))
    for side in ('rear', 'front', 'left', 'right'):
        x = {'left': -0.13, 'right': 0.13}.get(side, 0.0)
        z = {'rear': -0.13, 'front': 0.13}.get(side, 0.0)
        disc(head, side, x, seat + 0.8, z + lean, 0.17, helmet)
    legs = [box_part((s - 0.09, s + 0.09, seat - 0.55, seat + 0.05, -0.1, 0.2), DARK, swing=0.6 * np.sign(s))
            for s in (-half * 0.8, half * 0.8)]
    return [*legs, torso, head]


def _motorcycle(body: Colour, braking: bool) -> list[Part]:
    frame = (-0.26, 0.26, 0.35, 0.95, -0.95, 0.9)
    part = box_part(frame, body)
    wheels = box_part((-0.12, 0.12, 0.0, 0.62, -1.15, 1.15), TYRE)
    for z in (-0.85, 0.85):
        for side, x in (('left', -0.27), ('right', 0.27)):
            disc(part, side, x, 0.34, z, 0.34, TYRE)
    part.face('rear', frame, (0.15, 0.85, 0.5, 0.85), BRAKE if braking else TAIL, emissive=True)
    part.face('front', frame, (0.1, 0.9, 0.45, 1.0), HEAD, emissive=True)
    bars = box_part((-0.55, 0.55, 1.0, 1.14, 0.4, 0.55), (150, 150, 155, 150))
    bags = box_part((-0.48, 0.48, 0.5, 0.85, -0.9, -0.35), DARK)
    bags.centre = bars.centre = (0.0, 0.0)
    rider = _rider(body, 0.85, 0.0, (205, 205, 210, 200), 0.66)
    for leg in rider[:2]:
        leg.swing = 0.0
    return [wheels, bags, part, bars, *rider]


def _cyclist(body: Colour, braking: bool) -> list[Part]:
    wheels = Part(centre=(0.0, 0.0))
    for z in (-0.55, 0.55):
        for side, x in (('left', -0.03), ('right', 0.03)):
            disc(wheels, side, x, 0.36, z, 0.38, TYRE)
            disc(wheels, side, x, 0.36, z, 0.3, (150, 150, 150, 140))
    frame = box_part((-0.05, 0.05, 0.0, 0.72, -0.88, 0.9), TYRE)
    frame.verts, frame.colours, frame.emissive = frame.verts[:2], frame.colours[:2], frame.emissive[:2]
    beam = box_part((-0.05, 0.05, 0.55, 0.68, -0.55, 0.55), (190, 190, 190, 180))
    bars = box_part((-0.32, 0.32, 1.0, 1.06, 0.4, 0.5), DARK)
    return [frame, wheels, beam, bars, *_rider(body, 0.95, 0.05, (235, 235, 235, 230), 0.5)]


def _pedestrian(body: Colour, braking: bool) -> list[Part]:
    legs = [box_part((s - 0.11, s + 0.11, 0.0, 0.85, -0.11, 0.11), DARK, swing=0.75 * np.sign(s))
            for s in (-0.14, 0.14)]
    torso = box_part((-0.3, 0.3, 0.8, 1.48, -0.18, 0.18), body)
    arms = [box_part((s - 0.08, s + 0.08, 0.85, 1.45, -0.09, 0.09), tuple(c * 0.8 for c in body),
                     swing=-0.5 * np.sign(s)) for s in (-0.38, 0.38)]
    head = Part(centre=(0.0, 0.0))
    for side in ('rear', 'front', 'left', 'right'):
        x = {'left': -0.1, 'right': 0.1}.get(side, 0.0)
        z = {'rear': -0.1, 'front': 0.1}.get(side, 0.0)
        disc(head, side, x, 1.64, z, 0.17, (70, 50, 40, 60) if side == 'rear' else SKIN)
    return [*legs, *arms, torso, head]


_MAKERS = {'car': _car, 'van': _van, 'truck': _truck, 'bus': _bus, 'motorcycle': _motorcycle, 'cyclist': _cyclist,
           'pedestrian': _pedestrian}
# (half width, height, half length), metres
SIZES = {'car': (0.92, 1.45, 2.1), 'van': (1.02, 2.15, 2.4), 'truck': (1.26, 3.5, 3.8), 'bus': (1.27, 3.1, 5.0),
         'motorcycle': (0.5, 1.87, 1.15), 'cyclist': (0.32, 1.92, 0.9), 'pedestrian': (0.46, 1.81, 0.3)}


def actor_parts(kind: str, body: Colour, braking: bool = False) -> list[Part]:
    """The parts of a road user. ``body`` paints it; ``braking`` lights its brake lamps."""
    return _MAKERS[kind](body, braking)


def signal_parts(kind: str) -> list[Part]:
    """A traffic light over the lane or a stop sign beside it."""
    if kind == 'stop sign':
        post = box_part((-0.06, 0.06, 0.0, 2.0, 0.0, 0.12), (150, 150, 150, 140))
        disc(post, 'rear', 0.0, 2.4, -0.02, 0.72, (245, 245, 245, 240))
        disc(post, 'rear', 0.0, 2.4, -0.03, 0.64, (215, 20, 30, 120))
        post.add([(-0.42, 2.3, -0.05), (0.42, 2.3, -0.05), (0.42, 2.5, -0.05), (-0.42, 2.5, -0.05)],
                 (245, 245, 245, 240))
        return [post]
    post = box_part((-0.1, 0.1, 0.0, 4.9, 0.0, 0.2), (90, 95, 95, 85))
    arm = box_part((-3.4, 0.0, 4.75, 4.9, 0.0, 0.15), (90, 95, 95, 85))
    head_box = (-3.75, -2.85, 2.75, 4.85, -0.2, 0.1)
    head = box_part(head_box, (25, 28, 25, 25))
    lit = {'red light': 0, 'green light': 2}[kind]
    lamps: list[Colour] = [(255, 30, 25, 250), (255, 200, 40, 250), (40, 255, 110, 250)]
    for k, lamp in enumerate(lamps):
        y = 4.5 - 0.7 * k
        disc(head, 'rear', -3.3, y, -0.22, 0.32, lamp if k == lit else tuple(c * 0.22 for c in lamp), k == lit)
    return [post, arm, head]
