"""A verifier that no drafter has ever heard, and a short drive: the drafter that is learned drafts for it."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from second_verifier import QUESTION, make_second_verifier

from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.models.keys import checkpoint_key

pytestmark = [pytest.mark.longest, pytest.mark.timeout(3 * 3600)]


@pytest.fixture(scope='module')
def second(tmp_path_factory) -> Path:
    return make_second_verifier(tmp_path_factory.mktemp('second') / 'verifier')


def test_a_verifier_never_heard_is_learned_from_a_short_drive(second, tmp_path):
    out = tmp_path / 'drafter'
    done = subprocess.run(
        [sys.executable, '-m', 'crossspec_ros.cli', 'learn', 'world:31:brisk', 'world:32:brisk', '--seconds', '150',
         '--model', str(second), '--prompt', QUESTION, '--out', str(out), '--steps', '300', '--json'],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    arms = report['arms']
    assert arms['base_drafter']['tau'] < 1.5
    assert arms['event_drafter']['tau'] > 1.5 * arms['base_drafter']['tau']
    assert arms['merged']['tau_at_changes'] > arms['merged_without']['tau_at_changes']
    drafter = load_drafter(out)
    assert drafter.verifier_key == checkpoint_key(second) and drafter.config.rows < 400
