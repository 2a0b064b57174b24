"""Writing files that are whole or not there at all, for training; see `models.writing`."""
from crossspec_ros.models.writing import write_atomic, write_folder_atomic  # noqa: F401
