"""CrossSpec: live captions of a driving scene from an event camera and an RGB camera."""

__version__ = '0.1.0'
