"""Models and graphs for the tests of nodes."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))                  # graph_harness


@pytest.fixture(scope='session')
def models(tmp_path_factory) -> dict[str, str]:
    """Folders of a tiny random pair, by node."""
    from graph_harness import write_pair
    return write_pair(tmp_path_factory.mktemp('models'))
