"""A call that never comes back does not keep a process, even one that holds the interpreter's lock."""
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytestmark = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs a timer of the Linux kernel')


def run(body: str) -> tuple[int, str]:
    code = f'import ctypes, time\nfrom crossspec_ros.nodes.watchdog import leave_if_stuck\n{body}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize('code', [0, 2])
def test_stuck_call_that_holds_the_lock_ends_the_process_with_its_code(code):
    found, output = run(f'with leave_if_stuck(0.3, {code}):\n    ctypes.PyDLL(None).sleep(50)\nprint("came back")')
    assert (found, output) == (code, '')


def test_block_that_comes_back_in_time_leaves_no_timer():
    found, output = run('with leave_if_stuck(0.3, 5):\n    pass\ntime.sleep(0.6)\nprint("still here")')
    assert (found, output) == (0, 'still here\n')


def test_block_that_raises_leaves_no_timer():
    found, output = run('try:\n    with leave_if_stuck(0.3, 5):\n        1 / 0\nexcept ZeroDivisionError:\n    pass\n'
                           'time.sleep(0.6)\nprint("still here")')
    assert (found, output) == (0, 'still here\n')
