"""Situations that people have reported, each in a folder with its run.sh: no traceback, one line, a right exit code."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shared_data import shared

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 900.0


def run_case(name: str, folder: Path) -> str:
    """Output of a case's run.sh, in a copy of it, with this package's command on the path."""
    case = folder / 'case'
    shutil.copytree(shared(f'trouble/{name}'), case)
    for path in [case, *case.rglob('*')]:
        path.chmod(path.stat().st_mode | 0o200)
    command = folder / 'bin' / 'crossspec'
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.path.insert(0, r\'{ROOT}\'); '
                       'from crossspec_ros.cli import main; sys.exit(main())" "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, 'PATH': f'{command.parent}{os.pathsep}{os.environ["PATH"]}'}
    environment.pop('RMW_IMPLEMENTATION', None)
    done = subprocess.run(['bash', str(case / 'run.sh')], env=environment, capture_output=True, text=True,
                          timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)
    output = done.stdout + done.stderr
    assert 'Traceback' not in output, output
    return output


def test_middleware_that_is_not_installed(tmp_path):
    output = run_case('27_rmw_of_another_middleware', tmp_path)
    assert 'exit 102' not in output and 'exit 1\n' in output and 'exit 2\n' in output
    assert output.count('RMW_IMPLEMENTATION') >= 2 and 'transformers' in output             # doctor went on to its end


@pytest.mark.long
def test_discovery_server_that_is_off(tmp_path):
    output = run_case('28_discovery_server_that_is_off', tmp_path)
    assert 'exit 0' in output and 'ROS_DISCOVERY_SERVER is left aside' in output


@pytest.mark.long
def test_home_that_cannot_be_written(tmp_path):
    output = run_case('29_home_not_writable', tmp_path)
    assert 'exit 0' in output and 'logs of ROS go to' in output


def test_packages_of_another_python(tmp_path):
    output = run_case('30_packages_of_another_python', tmp_path)
    assert output.count('exit 2') == 2 and output.count('PYTHONPATH') >= 3
    assert 'numpy in' in output and 'rclpy in' in output


def test_parameter_files(tmp_path):
    output = run_case('31_params_file', tmp_path)
    assert "p.yaml, verifier: must have its parameters under ros__parameters, got 'ros_parameters'" in output
    assert 'exit 2' in output and 'must be float' not in output and 'ended with' not in output


@pytest.mark.parametrize('name', [
    '23_chat_template_wants_text', '24_repetition_penalty', '25_lora_beside_the_weights',
    '26_processor_of_another_size'])
def test_checkpoint_with_something_in_it_that_is_not_served(tmp_path, name):
    output = run_case(name, tmp_path)
    assert 'crossspec: error: ' in output or 'captions' in output
