"""Writing mp4 films: H.264 by PyAV where it is there, else MPEG-4 by OpenCV."""
from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crossspec_ros.errors import CrossSpecError


# A fragment each second that needs nothing of what follows: a film that is never ended plays to its last second.
_FRAGMENTS = {'movflags': 'frag_keyframe+empty_moov+default_base_moof', 'flush_packets': '1'}


class Film:
    """An mp4 file being written, a context manager; all pictures are uint8 (H, W, 3) RGB of the first one's size.

    Odd sizes lose their last row or column: H.264 has colours for 2x2 pixels. Raises CrossSpecError when the file
    cannot be written or a picture has another size. With PyAV a process that is killed leaves a film that plays, up to
    its last second.
    """

    def __init__(self, path: str | Path, fps: float, live: bool = False) -> None:
        if not 0 < fps <= 1000:
            raise CrossSpecError(f'fps must be above 0 and at most 1000, got {fps}')
        self.path = Path(path)
        self.pictures = 0
        self._fps = Fraction(fps).limit_denominator(1000)
        # A live film cannot spend what a rendered one can, nor keep pictures back.
        self._effort = {'preset': 'ultrafast', 'tune': 'zerolatency'} if live else {'preset': 'veryfast'}
        self._size: tuple[int, int] | None = None
        self._container: Any = None
        self._stream: Any = None
        self._opencv: Any = None

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, rgb: np.ndarray) -> None:
        """Append a picture."""
        rgb = rgb[:rgb.shape[0] // 2 * 2, :rgb.shape[1] // 2 * 2]
        if self._size is None:
            self._size = (rgb.shape[0], rgb.shape[1])
            self._open(*self._size)
        if rgb.shape[:2] != self._size:
            raise CrossSpecError(f'{self.path}: pictures must all be {self._size[1]}x{self._size[0]}, '
                                 f'got {rgb.shape[1]}x{rgb.shape[0]}')
        if self._container is None:
            self._opencv.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        else:
            self._encode(rgb)
        self.pictures += 1

    def _open(self, height: int, width: int) -> None:
        try:
            import av
            self._container = av.open(str(self.path), 'w', format='mp4', options=_FRAGMENTS)
            second = {'g': str(max(1, round(self._fps)))}       # from key picture to key picture, so a fragment
            self._stream = self._container.add_stream('libx264', rate=self._fps,
                                                      options={'crf': '20', **second, **self._effort})
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, 'yuv420p'
            self._container.start_encoding()            # opens the file, and says now if that cannot be done
            return
        except OSError as error:
            self._container = None
            raise CrossSpecError(f'film {self.path} cannot be written: {error}') from error
        except (ImportError, ValueError):               # no PyAV, or one without this encoder
            if self._container is not None:
                self._container.close()
                self._container = None
        code = cv2.VideoWriter_fourcc(*'mp4v')
        self._opencv = cv2.VideoWriter(str(self.path), code, float(self._fps), (width, height))
        if not self._opencv.isOpened():
            raise CrossSpecError(f'film {self.path} cannot be written: check the folder, and that PyAV is installed')

    def _encode(self, rgb: np.ndarray) -> None:
        import av
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format='rgb24')
        frame.pts = self.pictures
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except OSError as error:                        # a full disk
            raise self._stopped(error) from error

    def _stopped(self, error: OSError) -> CrossSpecError:
        return CrossSpecError(f'film {self.path} ends after {self.pictures} pictures, got {error.strerror}; '
                              'make room on its disk and start again')

    def close(self) -> None:
        """Write what is left and end the file; closing twice is fine. Raises CrossSpecError where there is no room."""
        if self._container is not None:
            container, self._container = self._container, None
            try:
                for packet in self._stream.encode() if self.pictures else ():
                    container.mux(packet)
                container.close()
            except OSError as error:
                raise self._stopped(error) from error
        if self._opencv is not None:
            self._opencv.release()
            self._opencv = None
