"""The tests of quantised weights in a process that can import torchao, which scripts/setup keeps beside .venv."""
from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_LIBRARY = _HERE.parents[1] / '.venv' / 'quantised'
_ASKED = ('test_quantization.py', 'test_fit.py')


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_quantised_weights_with_the_library_at_hand():
    if find_spec('torchao') is not None:
        pytest.skip('torchao is installed here: the tests run in this process')
    if not _LIBRARY.is_dir():
        pytest.skip('scripts/setup has not put torchao beside .venv')
    path = os.pathsep.join([str(_LIBRARY), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
                           *(str(_HERE / name) for name in _ASKED)],
                          cwd=_HERE.parents[1], env=os.environ | {'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
                          capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "quantization int8 needs torchao" not in done.stdout
