"""What the tests of launch files need of the machine they run on."""
import os
from pathlib import Path

import pytest


def need_executables() -> None:
    """Skip where no prefix holds what ``ros2 run`` would start."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    try:
        prefix = get_package_prefix('crossspec_ros')
    except PackageNotFoundError:
        pytest.skip('crossspec_ros is not installed in a prefix that AMENT_PREFIX_PATH names')
    if not os.access(Path(prefix, 'lib', 'crossspec_ros', 'monitor'), os.X_OK):
        pytest.skip(f'{prefix} holds no executables of crossspec_ros')
