"""The light of a scene and the RGB camera: exposure, motion blur by averaged instants, vignetting, noise."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossspec_ros.world.render import develop


@dataclass(frozen=True)
class Light:
    """Light of a weather slot: see ``render.paint``; sky colours at the top and at the horizon; camera settings."""

    ambient: tuple[float, float, float, float]
    headlight: float
    haze_per_m: float
    top: tuple[float, float, float]
    horizon: tuple[float, float, float]
    noise: float                 # sigma of the RGB noise, grey levels
    exposure_ms: float

    def array(self) -> np.ndarray:
        """(3, 5) float32: ambient; headlight and its reach; haze colour and density."""
        haze = (*self.horizon, sum(self.horizon) / 3)
        return np.array([(*self.ambient, 0.0), (self.headlight,) * 4 + (15.0,), (*haze, self.haze_per_m)], np.float32)

    def sky(self, height: int, horizon_row: float) -> np.ndarray:
        """(H, 4) float32 sky colour by row."""
        rows = np.clip(np.arange(height) / max(horizon_row, 1.0), 0.0, 1.0)[:, None] ** 1.3
        colour = np.asarray(self.top) * (1 - rows) + np.asarray(self.horizon) * rows
        return np.concatenate([colour, np.full((height, 1), sum(self.horizon) / 3)], axis=1).astype(np.float32)


LIGHT: dict[str, Light] = {
    'day': Light((1.0, 1.0, 0.98, 1.0), 0.0, 0.0030, (96, 150, 222), (196, 214, 232), 2.0, 6.0),
    'dusk': Light((0.70, 0.56, 0.50, 0.66), 0.12, 0.0045, (66, 62, 118), (242, 150, 84), 3.5, 12.0),
    'night': Light((0.30, 0.31, 0.38, 0.34), 0.80, 0.0050, (8, 10, 24), (26, 28, 46), 6.0, 20.0),
    'rain': Light((0.66, 0.69, 0.73, 0.68), 0.0, 0.0110, (112, 118, 126), (156, 162, 168), 3.0, 12.0),
    'fog': Light((0.86, 0.87, 0.88, 0.87), 0.0, 0.0420, (186, 190, 193), (198, 201, 203), 2.5, 8.0),
}


class RgbCamera:
    """Makes the 8-bit picture of averaged light. Noise is a function of the seed and the frame's stamp."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 11])
        self._bank = rng.standard_normal((height + 61, width + 67, 3)).astype(np.float32)
        y, x = np.mgrid[0:height, 0:width]
        radius = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2).astype(np.float32)
        self._vignette = 1.0 - np.float32(0.28) * radius

    def expose(self, ids: np.ndarray, tables: np.ndarray, sky: np.ndarray, sigma: float, stamp_ns: int) -> np.ndarray:
        """uint8 (H, W, 3) RGB of the mean over painted instants; arguments as for ``render.develop``."""
        rng = np.random.default_rng([stamp_ns // 1_000_000, 3])
        dy, dx = int(rng.integers(61)), int(rng.integers(67))
        picture = np.empty((*self._vignette.shape, 3), np.uint8)
        develop(ids, tables, sky, self._vignette, self._bank, np.float32(sigma), dy, dx, picture)
        return picture
