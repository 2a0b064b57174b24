"""What installs the package elsewhere: rosdep by package.xml, the Dockerfile by the README's steps, and Pythons."""
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'crossspec_ros'
OF_ROS = ('rclpy', 'std_msgs', 'sensor_msgs', 'diagnostic_msgs', 'std_srvs', 'lifecycle_msgs', 'rcl_interfaces',
          'rosgraph_msgs', 'event_camera_msgs', 'launch', 'launch_ros', 'cv_bridge')


def depends() -> set[str]:
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    return {each.text for kind in ('depend', 'exec_depend') for each in root.iter(kind)}


def test_package_xml_names_every_package_of_ros_that_is_imported_or_started():
    sources = '\n'.join(path.read_text(encoding='utf-8') for path in PACKAGE.rglob('*.py')
                        if not {'msg', 'srv'} & set(path.relative_to(PACKAGE).parts))
    used = {name for name in OF_ROS if re.search(rf'^\s*(from|import) {name}\b', sources, re.MULTILINE)}
    assert len(used) > 8
    assert used | {'rviz2', 'cv_bridge', 'event_camera_msgs'} <= depends()


def test_dockerfile_takes_the_steps_of_the_readme():
    text = (ROOT / 'Dockerfile').read_text(encoding='utf-8')
    assert re.search(r'^ARG BASE=ros:jazzy\nFROM \$\{BASE\}$', text, re.MULTILINE) and 'BASE=ros:lyrical' in text
    for step in ('rosdep install --from-paths src --ignore-src -y', '-r src/crossspec_ros/requirements-host.txt',
                 'colcon build --packages-select crossspec_ros', 'source install/setup.bash'):
        assert step in text and step in (ROOT / 'README.md').read_text(encoding='utf-8')
    copied = re.findall(r'^COPY (.+) \S+$', text, re.MULTILINE)
    assert copied and all((ROOT / name).exists() for line in copied for name in line.split())


def test_setup_takes_the_pythons_that_the_readme_names():
    named = re.search(r'Python 3\.(\d+) to 3\.(\d+)', (ROOT / 'README.md').read_text(encoding='utf-8'))
    setup = (ROOT / 'scripts' / 'setup').read_text(encoding='utf-8')
    low, high = named.groups()
    assert f'(3, {low}) <= sys.version_info[:2] <= (3, {high})' in setup
    for minor in range(int(low), int(high) + 1):
        assert f'python3.{minor}' in setup


def test_setup_keeps_the_python_that_it_made_venv_with(tmp_path):
    """Also where .venv knows it by a link of its own (Python 3.10), and where a folder has a space in its name."""
    setup = (ROOT / 'scripts' / 'setup').read_text(encoding='utf-8')
    function = re.search(r'^find_python\(\) \{\n.*?^\}\n', setup, re.MULTILINE | re.DOTALL)
    folder, real = tmp_path / 'a folder', Path(sys.executable).resolve()
    (folder / '.venv' / 'bin').mkdir(parents=True)
    (folder / '.venv' / 'bin' / 'python').symlink_to(real)
    done = subprocess.run(['/bin/bash', '-c', f'set -u; fail() {{ exit 9; }}; {function[0]}find_python'], cwd=folder,
                          env={'PATH': str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(real)), done.stderr


@pytest.mark.parametrize('name', ['RMW_IMPLEMENTATION', 'ROS_DISCOVERY_SERVER', 'ROS_DISTRO', 'PYTHONPATH'])
def test_scripts_leave_a_sourced_ros_aside(tmp_path, name):
    """The scripts' environment, sourced in a checkout whose set-up has nothing to do, in a folder with a space."""
    folder = tmp_path / 'with space'
    (folder / 'scripts').mkdir(parents=True)
    (folder / 'scripts' / 'environment').write_text((ROOT / 'scripts' / 'environment').read_text(encoding='utf-8'))
    (folder / 'scripts' / 'setup').write_text('#!/bin/sh\n')
    (folder / 'scripts' / 'setup').chmod(0o755)
    script = f'set -euo pipefail; . "{folder}/scripts/environment"; echo "${{{name}-unset}}"; echo "$PWD"'
    done = subprocess.run(['bash', '-c', script], env={'PATH': '/usr/bin:/bin', name: 'of another'}, cwd=tmp_path,
                          capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ['unset', str(folder)]
