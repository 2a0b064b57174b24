"""``crossspec``: a thin dispatcher that imports only the command that was asked for.

A command module has ``add_parser(subparsers) -> None``, which adds its parser and calls
``parser.set_defaults(func=run)``, and ``run(args) -> int``, which returns the exit code. Groups (``bench``) nest the
same way. Importing one module instead of all keeps ``crossspec --help`` instant, and lets ``crossspec doctor`` run
where half of the dependencies are missing.
"""
from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from crossspec_ros import __version__, shell
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.interrupts import interruptible

DESCRIPTION = 'Live captions of a driving scene from an event camera and an RGB camera.'
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
_WITHOUT_SHELL = {'doctor', '--help', '-h', '--version'}            # which tell about the shell, or need nothing of it


class Command(NamedTuple):
    """Where a command lives and its line in the help."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    'demo': Command('crossspec_ros.commands.demo', 'the whole graph live, with a report of what it did'),
    'doctor': Command('crossspec_ros.commands.doctor', 'what is here, what is missing, and what to do about it'),
    'up': Command('crossspec_ros.commands.up', 'start the nodes of a vehicle, on machines with no launch system'),
    'view': Command('crossspec_ros.commands.view', 'the graph live in a browser, in Foxglove or in a file'),
    'trace': Command('crossspec_ros.commands.trace', 'join the timelines of processes, and tell where the time went'),
    'replay': Command('crossspec_ros.commands.replay', 'play a recording, over DDS or straight through the core'),
    'bag': Command('crossspec_ros.commands.bag', 'look into, cut or render a rosbag2'),
    'events': Command('crossspec_ros.commands.events', 'files of event cameras to rosbag2 and back'),
    'dsec': Command('crossspec_ros.commands.dsec', 'turn a DSEC sequence into a rosbag2'),
    'world': Command('crossspec_ros.commands.world', 'the synthetic driving world: pictures and recordings'),
    'model': Command('crossspec_ros.commands.model', 'what a checkpoint is, and whether it is served exactly'),
    'advise': Command('crossspec_ros.commands.advise', 'which method is soonest with a verifier, measured on drives'),
    'bench': Command('crossspec_ros.commands.bench', 'measure: events, stream, traces, decode, view, exactness'),
    'experiment': Command('crossspec_ros.commands.experiment',
                          'methods of the field compared, each claim beside what is measured'),
    'learn': Command('crossspec_ros.commands.learn', 'learn a drafter for a verifier from recorded drives'),
    'train': Command('crossspec_ros.commands.train', 'train the built-in pair'),
    'eval': Command('crossspec_ros.commands.eval', 'what the built-in pair sees, on scenes it has never seen'),
}


def build_parser(prog: str, description: str, commands: Mapping[str, Command],
                 argv: Sequence[str]) -> argparse.ArgumentParser:
    """A parser in which only the command that ``argv`` names has its options; the others have their help line.

    Raises ModuleNotFoundError where the named command, or something that it needs, cannot be imported.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    chosen = next((word for word in argv if not word.startswith('-')), None)
    for name, command in commands.items():
        if name == chosen:
            importlib.import_module(command.module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=command.help)
    return parser


def explain_missing(error: ModuleNotFoundError) -> str:
    """One line about a module that could not be imported: what it is for the user and what to do."""
    name = error.name or str(error)
    root = name.split('.')[0]
    if name.startswith(('crossspec_ros.msg', 'crossspec_ros.srv', 'event_camera_msgs')):
        return f'the messages of {root} are not built here; run `pip install .` or `colcon build` in the repository'
    if root == 'crossspec_ros':
        return f'this installation has no module {name}; install the package again'
    return (f'this command needs the Python package {root!r}, which is not installed; '
            '`crossspec doctor` says how to get it')


def _fail(message: object) -> int:
    print(f'crossspec: error: {message}', file=sys.stderr)
    return EXIT_ERROR


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 2 bad input or something missing, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    shell.settle_streams()
    try:
        if not set(arguments) & _WITHOUT_SHELL:
            shell.settle(ros=False)
        parser = build_parser('crossspec', DESCRIPTION, COMMANDS, arguments)
        parser.add_argument('--version', action='version', version=f'crossspec {__version__}')
        parser.add_argument('-v', '--verbose', action='count', default=0, help='more log lines; twice: debug')
        args = parser.parse_args(arguments)
        level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(args.verbose, 2)]
        logging.basicConfig(level=level, format='%(levelname)s %(name)s: %(message)s', stream=sys.stderr)
        with interruptible():
            return int(args.func(args) or 0)
    except CrossSpecError as error:
        return _fail(error)
    except ModuleNotFoundError as error:
        return _fail(shell.explain(error) or explain_missing(error))
    except KeyboardInterrupt:
        print('crossspec: interrupted', file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        line = shell.explain(error)
        if line is None:
            raise
        return _fail(line)


if __name__ == '__main__':
    sys.exit(main())
