"""Checks of single variables: each takes the environment and returns what is wrong as (rule, advice[, settings])."""
from __future__ import annotations

import importlib.util
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

from crossspec_ros.shell.foreign import probe, shadowing

Fault = tuple
THREAD_COUNTS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NUMBA_NUM_THREADS')
RCUTILS_SWITCHES = ('RCUTILS_COLORIZED_OUTPUT', 'RCUTILS_LOGGING_USE_STDOUT', 'RCUTILS_LOGGING_BUFFERED_STREAM')
PUBLICATION_MODES = ('SYNCHRONOUS', 'ASYNCHRONOUS', 'AUTO')
_TRANSPORTS = ('DEFAULT', 'DEFAULTv6', 'SHM', 'UDPv4', 'UDPv6', 'LARGE_DATA', 'LARGE_DATAv6', 'P2P', 'NONE')
_DEFAULT_RMW = 'rmw_fastrtps_cpp'
_IDENTIFIER = ('from rclpy.utilities import get_rmw_implementation_identifier as name\n'
               'print(name())')


# ---- Python

def python_path(environment: Mapping[str, str]) -> Fault | None:
    """PYTHONPATH with packages that were compiled for another Python and hide those of this one."""
    found = shadowing(environment.get('PYTHONPATH', ''))
    if found is None:
        return None
    package, folder = found
    return (f'must name packages of Python {_version()}, and {package} in {folder} is not',
            'unset it, or source a ROS 2 of this Python')


def python_optimize(environment: Mapping[str, str]) -> Fault | None:
    """PYTHONOPTIMIZE=2 takes the docstrings away that transformers reads."""
    if environment.get('PYTHONOPTIMIZE', '') in ('', '0', '1'):
        return None
    return 'must be 0 or 1 (transformers reads docstrings)', 'unset it'


def _version() -> str:
    return f'{sys.version_info.major}.{sys.version_info.minor}'


def temporary_folder(environment: Mapping[str, str]) -> Fault | None:
    """TMPDIR: Python takes another folder by itself where this one cannot be written."""
    folder = environment.get('TMPDIR', '')
    if not folder or _fault_of_folder(Path(folder), make=False) is None:
        return None
    return 'should be a folder that can be written', 'the usual one is used instead'


def count_of(name: str) -> Callable[[Mapping[str, str]], Fault | None]:
    """A number of threads; libraries ignore another text, or warn at every start."""
    def check(environment: Mapping[str, str]) -> Fault | None:
        text = environment.get(name, '')
        # OpenMP takes a number for each level of nesting.
        if not text or re.fullmatch(r'\s*0*[1-9][0-9]*(\s*,\s*[1-9][0-9]*)*\s*', text):
            return None
        return 'must be a whole number from 1', 'it is left out', {name: None}
    return check


# ---- middleware

def middleware(environment: Mapping[str, str]) -> Fault | None:
    """RMW_IMPLEMENTATION: rcl ends the process (102) where another middleware is there than is asked for."""
    name = environment.get('RMW_IMPLEMENTATION', '')
    own, all_known = _middlewares(environment)
    if not name or name in own:
        return None
    answer, error = probe(_IDENTIFIER, environment)
    if answer is not None and answer.strip() == name:
        return None
    there = ', '.join(sorted(own or all_known)) or _DEFAULT_RMW
    return (f'must be a middleware that is installed for this rclpy ({there})',
            f'unset it, or install ros-{environment.get("ROS_DISTRO") or "<distro>"}-{name.replace("_", "-")}')


def _middlewares(environment: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """Those in the prefix that rclpy is in, and those of all prefixes."""
    prefixes = [path for path in environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if path]
    place, own, known = _place_of('rclpy'), set(), set()
    for prefix in dict.fromkeys([*prefixes, sys.prefix]):
        index = Path(prefix, 'share', 'ament_index', 'resource_index', 'rmw_typesupport')
        names = {path.name for path in index.glob('rmw_*')} - {'rmw_implementation'}
        known |= names
        if place is not None and Path(prefix).resolve() in place.parents:
            own |= names
    return own, known


def _place_of(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin else None


def _uses(environment: Mapping[str, str], word: str) -> bool:
    return word in (environment.get('RMW_IMPLEMENTATION') or _DEFAULT_RMW)


def profile_of(name: str) -> Callable[[Mapping[str, str]], Fault | None]:
    """A profile file of Fast DDS, which goes on with its defaults where it cannot be read: large images are lost."""
    def check(environment: Mapping[str, str]) -> Fault | None:
        path = environment.get(name, '')
        fault = _fault_of_xml(Path(path)) if path and _uses(environment, 'fastrtps') else None
        return None if fault is None else (f'must be an XML file of profiles ({fault})', 'correct it or unset it')
    return check


def fastdds_environment(environment: Mapping[str, str]) -> Fault | None:
    """FASTDDS_ENVIRONMENT_FILE: JSON."""
    path = environment.get('FASTDDS_ENVIRONMENT_FILE', '')
    if not path or not _uses(environment, 'fastrtps'):
        return None
    try:
        json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        return f'must be a JSON file ({error.strerror})', 'correct it or unset it'
    except ValueError:
        return 'must be a JSON file', 'correct it or unset it'
    return None


def fastdds_transports(environment: Mapping[str, str]) -> Fault | None:
    """FASTDDS_BUILTIN_TRANSPORTS: a name, and options after a question mark."""
    text = environment.get('FASTDDS_BUILTIN_TRANSPORTS', '')
    if not text or not _uses(environment, 'fastrtps') or text.partition('?')[0] in _TRANSPORTS:
        return None
    return f'must be one of {", ".join(_TRANSPORTS)}', 'correct it or unset it'


def cyclone_uri(environment: Mapping[str, str]) -> Fault | None:
    """CYCLONEDDS_URI: files, addresses of files and pieces of XML, with commas between them."""
    text = environment.get('CYCLONEDDS_URI', '')
    if not text or not _uses(environment, 'cyclone'):
        return None
    for piece in [text] if '<' in text else filter(None, text.split(',')):
        if '<' in piece:
            try:
                ElementTree.fromstring(f'<all>{re.sub("<[?].*?[?]>", "", piece)}</all>')
            except ElementTree.ParseError as error:
                return f'must be XML or an XML file ({error})', 'correct it or unset it'
        elif (fault := _fault_of_xml(_path_of(piece))) is not None:
            return f'must be XML or an XML file ({fault})', 'correct it or unset it'
    return None


def zenoh_uri(environment: Mapping[str, str]) -> Fault | None:
    """ZENOH_SESSION_CONFIG_URI: a file."""
    path = environment.get('ZENOH_SESSION_CONFIG_URI', '')
    if not path or not _uses(environment, 'zenoh') or os.access(path, os.R_OK):
        return None
    return 'must be a file that can be read', 'correct it or unset it'


def _path_of(text: str) -> Path:
    return Path(unquote(urlparse(text).path)) if text.startswith('file:') else Path(text)


def _fault_of_xml(path: Path) -> str | None:
    try:
        ElementTree.parse(path)
    except OSError as error:
        return error.strerror or str(error)
    except (ElementTree.ParseError, ValueError) as error:                # ValueError: an encoding there is none of
        return str(error)
    return None


def one_of(name: str, choices: tuple[str, ...]) -> Callable[[Mapping[str, str]], Fault | None]:
    """A variable with a few values; another one is left out, as ROS does after a page of warnings."""
    def check(environment: Mapping[str, str]) -> Fault | None:
        if environment.get(name, '') in ('', *choices):
            return None
        return f'must be {" or ".join(choices)}', 'it is left out', {name: None}
    return check


def keystore(environment: Mapping[str, str]) -> Fault | None:
    """ROS_SECURITY_KEYSTORE, where security is on and enforced."""
    enforced = (environment.get('ROS_SECURITY_ENABLE') == 'true'
                and environment.get('ROS_SECURITY_STRATEGY') == 'Enforce')
    folder = environment.get('ROS_SECURITY_KEYSTORE', '')
    if not enforced or (folder and Path(folder, 'enclaves').is_dir()):
        return None
    return ('must be a keystore with a folder enclaves, since ROS_SECURITY_STRATEGY is Enforce',
            'make one (ros2 security create_keystore), or unset ROS_SECURITY_ENABLE')


# ---- logs

def log_folder(environment: Mapping[str, str]) -> Fault | None:
    """Where ROS writes logs, by ROS_LOG_DIR, ROS_HOME or HOME; it does not start where it cannot."""
    name, folder = _log_folder(environment)
    fault = 'is not set' if folder is None else _fault_of_folder(folder, make=True)
    if fault is None:
        return None
    try:
        own = own_folder()
    except OSError as error:
        return (f'must be a folder that can be written ({name} does not lead to one: {fault}; nor can '
                f'{error.filename}: {error.strerror})', 'set it to one')
    return (f'must be a folder that can be written ({name} leads to {folder}: {fault})',
            f'logs of ROS go to {own}', {'ROS_LOG_DIR': str(own)})


def _log_folder(environment: Mapping[str, str]) -> tuple[str, Path | None]:
    """The variable that decides, and the folder it leads to."""
    home = environment.get('HOME', '')

    def expanded(text: str) -> Path | None:
        if text.startswith('~'):
            return Path(home + text[1:]) if home else None
        return Path(text)

    if environment.get('ROS_LOG_DIR'):
        return 'ROS_LOG_DIR', expanded(environment['ROS_LOG_DIR'])
    if environment.get('ROS_HOME'):
        folder = expanded(environment['ROS_HOME'])
        return 'ROS_HOME', folder and folder / 'log'
    return 'HOME', Path(home, '.ros', 'log') if home else None


def _fault_of_folder(folder: Path, *, make: bool) -> str | None:
    """Why nothing can be written into a folder, found by doing it."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def own_folder() -> Path:
    """A folder for logs of this user alone among the temporary files. Raises OSError where none can be made."""
    folder = Path(tempfile.gettempdir(), f'crossspec-log-{os.getuid()}')
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return folder
    except OSError:
        pass                                                             # a file, or nobody's: take another name
    return Path(tempfile.mkdtemp(prefix='crossspec-log-'))


def log_format(environment: Mapping[str, str]) -> Fault | None:
    """RCUTILS_CONSOLE_OUTPUT_FORMAT: without the message in it, every line of a node says nothing."""
    text = environment.get('RCUTILS_CONSOLE_OUTPUT_FORMAT', '')
    if not text or '{message}' in text:
        return None
    return 'must have {message} in it', 'it is left out', {'RCUTILS_CONSOLE_OUTPUT_FORMAT': None}
