"""The dispatcher: exit codes, one clear line for every kind of error, and no import that was not asked for."""
import argparse
import subprocess
import sys
import types

import pytest

from crossspec_ros import __version__, cli
from crossspec_ros.errors import CrossSpecError


def _command(monkeypatch, run):
    """Put a command ``probe`` into the table whose run is ``run``."""
    module = types.ModuleType('probe_command')

    def add_parser(subparsers: argparse._SubParsersAction) -> None:
        parser = subparsers.add_parser('probe')
        parser.add_argument('--count', type=int, default=0)
        parser.set_defaults(func=run)

    module.add_parser = add_parser
    monkeypatch.setitem(sys.modules, 'probe_command', module)
    monkeypatch.setattr(cli, 'COMMANDS', {**cli.COMMANDS, 'probe': cli.Command('probe_command', 'for tests')})


def test_main_command_returns_its_exit_code(monkeypatch):
    _command(monkeypatch, lambda args: args.count)
    assert cli.main(['probe', '--count', '7']) == 7
    assert cli.main(['probe']) == 0


@pytest.mark.parametrize(('error', 'code', 'words'), [
    pytest.param(CrossSpecError('window_us must be > 0, got 0'), 2, 'error: window_us must be > 0, got 0',
                 id='bad_input'),
    pytest.param(ModuleNotFoundError('No module', name='rclpy.node'), 2, "'rclpy'", id='missing_dependency'),
    pytest.param(ModuleNotFoundError('No module', name='crossspec_ros.msg'), 2, 'pip install .',
                 id='messages_not_built'),
    pytest.param(KeyboardInterrupt(), 130, 'interrupted', id='ctrl_c'),
])
def test_main_error_is_one_line_and_exit_code(monkeypatch, capsys, error, code, words):
    def run(args):
        raise error

    _command(monkeypatch, run)
    assert cli.main(['probe']) == code
    out, err = capsys.readouterr()
    assert out == '' and words in err
    assert len(err.strip().splitlines()) == 1


def test_main_bug_is_not_hidden(monkeypatch):
    def run(args):
        raise ValueError('a bug')

    _command(monkeypatch, run)
    with pytest.raises(ValueError, match='a bug'):
        cli.main(['probe'])


@pytest.mark.parametrize('argv', [pytest.param([], id='no_command'), pytest.param(['nonsense'], id='unknown_command')])
def test_main_wrong_usage_exits_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert 'usage: crossspec' in capsys.readouterr().err


def test_main_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(['--version'])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == f'crossspec {__version__}'


def test_main_bench_without_name_lists_the_benches(capsys):
    with pytest.raises(SystemExit):
        cli.main(['bench', '--help'])
    assert 'traces' in capsys.readouterr().out


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = ("import sys; from crossspec_ros import cli\n"
            "try: cli.main(['--help'])\n"
            "except SystemExit: pass\n"
            "print('HEAVY', sorted({'torch', 'numpy', 'rclpy', 'transformers', 'cv2'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True)
    assert 'HEAVY []' in done.stdout
    assert all(f'\n    {name} ' in done.stdout for name in cli.COMMANDS)
