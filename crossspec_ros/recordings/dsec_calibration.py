"""Calibration of a DSEC sequence: ``calibration/cam_to_cam.yaml`` and the rectify map of the event camera.

cam0 is the left event camera, cam1 the left RGB camera; ``camRect`` are their rectified views. ``T_10`` takes points
of cam0's frame to cam1's. Source: the format description of DSEC (Gehrig et al., RA-L 2021, and its data page).
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from crossspec_ros.errors import CrossSpecError


@dataclass(frozen=True)
class Camera:
    """One camera: pinhole ``matrix`` (3, 3), ``distortion`` (radial-tangential, 4 or 5), size, rectifying ``rotation``
    (3, 3) and the rectified ``rect_matrix`` (3, 3)."""

    matrix: np.ndarray
    distortion: np.ndarray
    width: int
    height: int
    rotation: np.ndarray
    rect_matrix: np.ndarray
    rect_width: int
    rect_height: int


@dataclass(frozen=True)
class Calibration:
    """The left event camera, the left RGB camera, and ``rgb_from_event`` (4, 4): points of cam0 in cam1, metres."""

    event: Camera
    rgb: Camera
    rgb_from_event: np.ndarray

    def homography(self) -> np.ndarray:
        """Rectified RGB pixels to rectified event pixels, (3, 3): K_rect0 R_rect0 R_10^T R_rect1^T K_rect1^-1.

        Rotation only: exact at infinity; 5 cm of baseline shift a thing at 10 m by about 3 px.
        """
        rotation = self.event.rotation @ self.rgb_from_event[:3, :3].T @ self.rgb.rotation.T
        return self.event.rect_matrix @ rotation @ np.linalg.inv(self.rgb.rect_matrix)


def read_calibration(path: Path) -> Calibration:
    """Read ``cam_to_cam.yaml``; CrossSpecError naming the file and the entry that is missing or of another shape."""
    try:
        table = yaml.safe_load(path.read_text('utf-8'))
    except OSError as error:
        raise CrossSpecError(f'calibration {path} cannot be read ({error.strerror}); unpack the calibration of the '
                             'sequence beside its events and images') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CrossSpecError(f'calibration {path} is not YAML: {error}') from error
    try:
        return Calibration(_camera(table, 0), _camera(table, 1), _array(table['extrinsics']['T_10'], (4, 4)))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CrossSpecError(f'calibration {path} must hold intrinsics of cam0, cam1, camRect0, camRect1 and '
                             'extrinsics T_10, R_rect0, R_rect1 as in DSEC; '
                             f'{type(error).__name__}: {error}') from error


def _array(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(values, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f'numbers of shape {shape} wanted, got shape {array.shape}')
    return array


def _camera(table: Any, number: int) -> Camera:
    raw, rect = table['intrinsics'][f'cam{number}'], table['intrinsics'][f'camRect{number}']
    width, height = (int(side) for side in raw['resolution'])
    rect_width, rect_height = (int(side) for side in rect['resolution'])
    if min(width, height, rect_width, rect_height) < 1:
        raise ValueError(f'resolution of cam{number} must be >= 1')
    return Camera(_pinhole(raw['camera_matrix']), np.array(raw['distortion_coeffs'], np.float64).reshape(-1), width,
                  height, _array(table['extrinsics'][f'R_rect{number}'], (3, 3)), _pinhole(rect['camera_matrix']),
                  rect_width, rect_height)


def _pinhole(values: Any) -> np.ndarray:
    """[fx, fy, cx, cy] as a matrix."""
    fx, fy, cx, cy = _array(values, (4,))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


class Aligner:
    """Warps rectified RGB pictures into the raw event view, so that a pixel shows what the event pixel sees, far away.

    ``rectify_map`` (H, W, 2) holds for each raw event pixel (y, x) its rectified place (x, y).
    Raises CrossSpecError when it is not of the event camera's size.
    """

    def __init__(self, calibration: Calibration, rectify_map: np.ndarray) -> None:
        wanted = (calibration.event.height, calibration.event.width, 2)
        if rectify_map.shape != wanted:
            raise CrossSpecError(f'rectify_map must be of shape {wanted}, got {rectify_map.shape}')
        points = rectify_map.reshape(1, -1, 2).astype(np.float64)
        places = cv2.perspectiveTransform(points, np.linalg.inv(calibration.homography()))
        self._map = places.reshape(wanted).astype(np.float32)
        self._size = (calibration.rgb.rect_height, calibration.rgb.rect_width)

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (H_rgb, W_rgb, 3) to uint8 (H_event, W_event, 3); black where the RGB camera does not look."""
        if rgb.shape[:2] != self._size:
            raise CrossSpecError(f'image must be {self._size[1]}x{self._size[0]} as in the calibration, '
                                 f'got {rgb.shape[1]}x{rgb.shape[0]}')
        return cv2.remap(rgb, self._map, None, cv2.INTER_LINEAR)
