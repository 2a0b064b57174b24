"""Whether torch can use a device here, asked before processes are started for it."""
from __future__ import annotations

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.shell import probe

_ASK = """from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.devices import find_device
try:
    find_device({device!r})
except CrossSpecError as error:
    print(error)"""


def check_device(device: str) -> None:
    """Raises CrossSpecError where torch cannot use a device. A child looks: a GPU's memory is for the nodes."""
    if device == 'cpu':
        return
    printed, error = probe(_ASK.format(device=device))
    if printed is None or printed.strip():
        raise CrossSpecError(printed.strip() if printed else f'device {device!r} cannot be looked at: {error}')
