"""What the driver's eye sees at a time: puts a beat's street, road users and light before the painter."""
from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np

from crossspec_ros.world.dvs import log_light
from crossspec_ros.world.meshes import Colour, actor_parts, signal_parts
from crossspec_ros.world.render import paint
from crossspec_ros.world.scene import Beat, Track
from crossspec_ros.world.script import Script
from crossspec_ros.world.sensor import LIGHT
from crossspec_ros.world.street import FIRST_ACTOR, Packed, Packer, build_street

_EYE_M = 1.35
_FOCAL = 0.84                    # of the width: 61 degrees across
_HORIZON = 0.43                  # of the height
_INSTANTS = ((0.13, -0.37), (0.37, 0.12), (-0.12, 0.38), (-0.38, -0.13))   # pixels by which averaged instants differ
PAINT: dict[str, tuple[float, float, float]] = {
    'red': (205, 28, 30), 'blue': (28, 78, 205), 'green': (24, 140, 62), 'yellow': (240, 196, 24),
    'white': (242, 242, 240), 'black': (22, 22, 26), 'grey': (128, 124, 118)}


class _Stage:
    """A beat's polygons, and which of them belong to whom."""

    def __init__(self, street: Packer, beat: Beat) -> None:
        packer = Packer()
        packer.extend(street)
        self.names: list[tuple[str, str]] = []
        owners: list[tuple[int, int]] = []
        for index, track in enumerate(beat.tracks + beat.leaving):
            body: Colour = (*PAINT[track.colour], track.band)
            for part in actor_parts(track.kind, body, track.braking):
                owners.append((len(packer), index))
                packer.add(part, FIRST_ACTOR + index)
            self.names.append((track.kind, track.colour))
        if beat.slots['signal'] != 'none':
            for part in signal_parts(beat.slots['signal']):
                owners.append((len(packer), len(self.names)))
                packer.add(part, FIRST_ACTOR + len(self.names))
            self.names.append((beat.slots['signal'], 'none'))
        self.packed: Packed = packer.pack()
        self.owner = np.full(len(self.packed.counts) + 1, -1, np.int32)
        for part, owner in owners:
            self.owner[self.packed.starts[part] + 1:self.packed.starts[part + 1] + 1] = owner
        self.table = np.zeros((len(self.packed.counts) + 1, 4), np.float32)


class View:
    """Pictures of a script by a camera of ``width`` x ``height`` pixels."""

    def __init__(self, script: Script, width: int, height: int) -> None:
        self._script, self._width, self._height = script, width, height
        self._ids = np.zeros((height, width), np.uint16)
        self._exposed = np.zeros((len(_INSTANTS), height, width), np.uint16)
        self._streets: OrderedDict[int, Packer] = OrderedDict()
        self._stages: OrderedDict[int, _Stage] = OrderedDict()
        self._light = {name: light.array() for name, light in LIGHT.items()}
        self._sky = {name: light.sky(height, _HORIZON * height) for name, light in LIGHT.items()}

    @staticmethod
    def second(t_s: float) -> int:
        """The beat a time belongs to: beat k covers (k, k + 1]."""
        return max(0, math.ceil(t_s - 1e-9) - 1)

    def cut_before(self, t_s: float) -> bool:
        """Whether the beat of ``t_s`` opens a new street."""
        return self._script.beat(self.second(t_s)).first

    def _stage(self, beat: Beat) -> _Stage:
        if beat.start_s not in self._stages:
            if beat.street_seed not in self._streets:
                self._streets[beat.street_seed] = build_street(beat.street_seed, beat.slots['weather'])
                while len(self._streets) > 3:
                    self._streets.popitem(last=False)
            self._stages[beat.start_s] = _Stage(self._streets[beat.street_seed], beat)
            while len(self._stages) > 3:
                self._stages.popitem(last=False)
        return self._stages[beat.start_s]

    def _paint(self, t_s: float, beat: Beat, ids: np.ndarray, table: np.ndarray,
               offset: tuple[float, float] = (0.0, 0.0)) -> None:
        """Fill ``ids`` (H, W) and ``table`` (P + 1, 4) for an instant."""
        stage, u = self._stage(beat), t_s - beat.start_s
        packed, width = stage.packed, self._width
        yaw, pitch = _attitude(beat, u, t_s)
        camera = np.array([_FOCAL * width, width / 2 + offset[0], _HORIZON * self._height + offset[1], _EYE_M,
                           math.sin(yaw), math.cos(yaw), pitch, beat.curve, beat.distance_m(u), t_s], np.float32)
        tracks = beat.tracks + beat.leaving
        poses = np.array([_pose(track, u, t_s) for track in tracks] + [_signal_pose(beat, u)], np.float32)
        paint(packed.verts, packed.counts, packed.colours, packed.emissive, packed.flat, packed.starts, packed.frame,
              packed.layer, packed.centre, packed.swing, poses, camera, self._light[beat.slots['weather']], ids, table)

    def rgb(self, t_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Instants of the exposure that ends at ``t_s`` for ``RgbCamera.expose``: ids, tables, sky and noise."""
        beat = self._script.beat(self.second(t_s))
        weather, stage = beat.slots['weather'], self._stage(beat)
        exposure, count = LIGHT[weather].exposure_ms * 1e-3, len(_INSTANTS)
        tables = np.empty((count, *stage.table.shape), np.float32)
        for k, offset in enumerate(_INSTANTS):
            instant = max(t_s - exposure * (1 - (k + 1) / count), beat.start_s + 1e-6)
            self._paint(instant, beat, self._exposed[k], tables[k], offset)
        return self._exposed, tables, self._sky[weather], LIGHT[weather].noise

    def log_light(self, t_s: float, dark_level: float) -> np.ndarray:
        """Log intensity (H, W) float32 in the event sensor's band at ``t_s``."""
        beat = self._script.beat(self.second(t_s))
        stage = self._stage(beat)
        self._paint(t_s, beat, self._ids, stage.table)
        out = np.empty((self._height, self._width), np.float32)
        log_light(self._ids, stage.table, self._sky[beat.slots['weather']], dark_level, out)
        return out

    def boxes(self, t_s: float) -> list[tuple[str, str, tuple[int, int, int, int]]]:
        """Name, colour and visible box of road users and the signal at ``t_s``; hidden ones are left out."""
        beat = self._script.beat(self.second(t_s))
        stage = self._stage(beat)
        self._paint(t_s, beat, self._ids, stage.table)
        owners, found = stage.owner[self._ids], []
        for index, (name, colour) in enumerate(stage.names):
            rows, columns = np.nonzero(owners == index)
            if len(rows):
                box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
                found.append((name, colour, box))
        return found


def _pose(track: Track, u: float, t_s: float) -> tuple[float, float, float, float, float]:
    """x, z, sin and cos of the heading, step of the legs."""
    x = track.x[0] + (track.x[1] - track.x[0]) * u
    z = track.z[0] + (track.z[1] - track.z[0]) * u
    return x, z, math.sin(track.heading), math.cos(track.heading), math.sin(2 * math.pi * track.step_hz * t_s)


def _signal_pose(beat: Beat, u: float) -> tuple[float, float, float, float, float]:
    start = beat.signal_z[0]
    x = 3.5 if beat.slots['signal'] == 'stop sign' else 4.1
    return x, start - (beat.distance_m(u) - beat.travelled_m), 0.0, 1.0, 0.0


def _attitude(beat: Beat, u: float, t_s: float) -> tuple[float, float]:
    """Yaw and pitch of the camera, rad: turning swings it, braking dips the nose, engine and road shake it a little."""
    ego = beat.slots['ego']
    yaw = {'turning left': -0.42, 'turning right': 0.42}.get(ego, 0.0) * (u - 0.5)
    shake = {'stopped': 0.0028, 'fast': 0.0035}.get(ego, 0.0022)
    pitch = shake * math.sin(2 * math.pi * 8.5 * t_s) + 0.4 * shake * math.sin(2 * math.pi * 5.3 * t_s + 1.0)
    if ego == 'braking':
        pitch -= 0.045 * math.sin(math.pi * min(u / 0.7, 1.0) * 0.5)
    return yaw, pitch
