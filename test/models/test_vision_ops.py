"""torchvision serves although the compiled half of it does not load."""
from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models import vision_ops


def test_absent_torchvision_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(vision_ops, 'load_vision_ops', lambda: False)
    with pytest.raises(CrossSpecError, match='needs torchvision, which is not installed; install'):
        vision_ops.require_vision_ops('here')


@pytest.mark.skipif(find_spec('torchvision') is None, reason='needs torchvision, whole or half')
def test_torchvision_resizes_and_other_registrations_stay_strict():
    script = ('import torch\n'
              'from crossspec_ros.models.vision_ops import load_vision_ops\n'
              'real = torch.library.register_fake\n'
              'assert load_vision_ops() and torch.library.register_fake is real\n'
              'import torchvision.transforms.v2.functional as F\n'
              'assert F.resize(torch.zeros(3, 8, 8, dtype=torch.uint8), [4, 4]).shape == (3, 4, 4)\n'
              'from transformers import Qwen3VLVideoProcessor\n')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
