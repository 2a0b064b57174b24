"""The single checks behind ``crossspec doctor``: each looks at one thing and returns what it found.

Nothing here may fail because something is missing: that is the finding.
"""
from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from crossspec_ros.cores import cores
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.shell import REFUSED, TOLD, TURNED, VARIABLES, explain, look, probe, settle

from crossspec_ros.shared_memory import dead_segments
from crossspec_ros.transport import ROOM_BYTES, socket_room

PACKAGE = Path(__file__).resolve().parents[1]
OK, NOTE, WARN, MISSING = 'ok', 'note', 'warn', 'missing'
NEEDED_BYTES = 4 * 2**30
MESSAGES = {'crossspec_ros.msg': ('Draft', 'Caption', 'Verdict', 'WindowLatency'), 'crossspec_ros.srv': ('SetPrompt',),
            'event_camera_msgs.msg': ('EventPacket',)}
REQUIRED = {'numpy': 'numpy', 'cv2': 'opencv-python-headless', 'rosbags': 'rosbags', 'mcap': 'mcap', 'h5py': 'h5py',
            'av': 'av', 'rich': 'rich', 'jinja2': 'jinja2', 'matplotlib': 'matplotlib', 'psutil': 'psutil',
            'safetensors': 'safetensors', 'tokenizers': 'tokenizers', 'transformers': 'transformers'}
OPTIONAL = {'launch_ros': 'launch files (without it: `crossspec up`)',
            'cv_bridge': 'not needed, images are converted here',
            'event_camera_py': 'another event decoder', 'rviz_2d_overlay_msgs': 'captions over RViz',
            'foxglove_msgs': 'captions over images in Foxglove', 'rerun': '`crossspec view` in a browser',
            'torchao': 'model.quantization int8, int4, dynamic', 'bitsandbytes': 'model.quantization nf4',
            'foxglove': '`crossspec view --foxglove`', 'hdf5plugin': 'DSEC files with compressed events'}


# Distribution -> rclpy's major numbers, and the end of its life (the last day of the month that is planned).
DISTRIBUTIONS = {'humble': (('3',), date(2027, 5, 31)), 'iron': (('4',), date(2024, 12, 4)),
                 'jazzy': (('7',), date(2029, 5, 31)), 'kilted': (('9',), date(2026, 12, 31)),
                 'lyrical': ((), date(2031, 5, 31))}
TESTED, NEWEST = ('jazzy', 'kilted', 'lyrical'), 'lyrical'
_SOON = timedelta(days=183)


@dataclass(frozen=True)
class Check:
    """One finding: ``status`` is ok, note, warn or missing; only missing keeps the main job from running."""

    name: str
    status: str
    value: str
    advice: str = ''


def version_of(module: str) -> str | None:
    """Version of the distribution that brings ``module``, '' where it has none, None where it is not here."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except (ImportError, ValueError):
        return None
    for name in importlib.metadata.packages_distributions().get(module, (module,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ''


def check_python() -> Check:
    version = platform.python_version()
    if sys.version_info < (3, 10):
        return Check('python', MISSING, version, 'Python 3.10 or newer is needed')
    return Check('python', OK, f'{version} at {sys.executable}')


_RCLPY = """import json, rclpy
from rclpy.utilities import get_rmw_implementation_identifier as rmw
print(json.dumps([rmw(), rclpy.__file__]))"""
_MESSAGES = """import importlib
for module, names in {messages!r}.items():
    loaded = importlib.import_module(module)
    for name in names:
        type(getattr(loaded, name)).__import_type_support__()"""
_TORCH = """import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps([torch.__version__, torch.get_num_threads(),
                  [torch.cuda.get_device_name(i) for i in range(count)]]))"""


def check_shell() -> list[Check]:
    """What the shell's variables would do, and what is made of it; a line for each that is wrong."""
    status = {REFUSED: MISSING, TURNED: WARN, TOLD: WARN}
    found = [Check(finding.variable, status[finding.kind], f'{finding.value!r} {finding.rule}', finding.advice)
             for finding in look(os.environ)]
    return found or [Check('shell', OK, f'{len(VARIABLES)} variables looked at, none that keeps nodes from running')]


def _asked(code: str) -> tuple[Any, str]:
    """What a child Python prints as JSON, or None and why not: its libraries may end a process."""
    environment = dict(os.environ)
    with suppress(CrossSpecError):                        # what is refused is told by `check_shell`
        settle(environment, say=lambda text: None)
    printed, error = probe(code, environment)
    return (json.loads(printed or 'null'), '') if printed is not None else (None, error)


def check_ros() -> list[Check]:
    """rclpy, its distribution and that one's end of life, its middleware, discovery range and domain."""
    answer, error = _asked(_RCLPY)
    if answer is None:
        hidden = any(row.kind == REFUSED for row in look(os.environ))
        return [Check('ros', MISSING, f'rclpy cannot be used ({error})', 'mend the variables named above' if hidden else
                      'pip install "ros-rclpy[fastrtps]" ros-common-interfaces, or source a ROS 2 host')]
    rmw, place = answer
    return [Check('ros', OK, f'rclpy {version_of("rclpy") or ""} at {Path(place).parent}'),
            check_distribution(name_distribution(version_of('rclpy') or '', os.environ), date.today()),
            _check_rmw(rmw), _check_range(), _check_domain()]


def name_distribution(rclpy_version: str, environment: Mapping[str, str]) -> str:
    """The ROS 2 distribution by what is sourced, else by rclpy's major number; '' where neither says it."""
    major = rclpy_version.partition('.')[0]
    by_version = next((name for name, (numbers, _) in DISTRIBUTIONS.items() if major in numbers), '')
    return environment.get('ROS_DISTRO', '') or by_version


def check_distribution(name: str, today: date) -> Check:
    """How long a distribution gets updates yet."""
    if name not in DISTRIBUTIONS:
        return Check('distribution', NOTE, name or 'not named', 'tested with ' + ', '.join(TESTED))
    end = DISTRIBUTIONS[name][1]
    text, advice = f'{name}, end of life {end:%B %Y}', f'move to {NEWEST} (until {DISTRIBUTIONS[NEWEST][1]:%B %Y})'
    if today > end:
        return Check('distribution', WARN, f'{text}: it gets no updates any more', advice)
    if end - today < _SOON:
        return Check('distribution', WARN, f'{text}: updates end in {(end - today).days} days', advice)
    return Check('distribution', OK, text)


def _check_rmw(rmw: str) -> Check:
    if 'fastrtps' in rmw:
        return Check('middleware', OK, rmw)
    return Check('middleware', NOTE, rmw, 'all figures were measured with rmw_fastrtps_cpp')


def _check_range() -> Check:
    value = os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    if value == 'OFF':
        return Check('discovery_range', WARN, 'OFF',
                     'nodes will not find each other; unset ROS_AUTOMATIC_DISCOVERY_RANGE')
    return Check('discovery_range', OK, value or 'SUBNET (default); `crossspec demo` uses LOCALHOST')


def _check_domain() -> Check:
    text = os.environ.get('ROS_DOMAIN_ID') or '0'
    if text.isdigit() and int(text) > 101:
        return Check('domain_id', WARN, text, 'ports of domains over 101 are also given to other programs on Linux')
    return Check('domain_id', OK, text)


def check_messages() -> Check:
    """Messages importable and their type support loadable, which is what fails on a half-built installation."""
    _, error = _asked(_MESSAGES.format(messages=MESSAGES))
    if error:
        return Check('messages', MISSING, error,
                     'run `pip install .` or `colcon build` in the repository, with a C++ compiler at hand')
    return Check('messages', OK, ', '.join(name for names in MESSAGES.values() for name in names))


def check_dds_profile() -> Check:
    """Whether nodes started by hand would get the transport that large messages need."""
    path = os.environ.get('FASTDDS_DEFAULT_PROFILES_FILE')
    if not path:
        return Check('dds_profile', NOTE, 'not set in this shell; crossspec sets it for what it starts',
                     'for nodes of your own: export FASTDDS_DEFAULT_PROFILES_FILE=.../config/fastdds.xml')
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        return Check('dds_profile', WARN, f'{path}: {error.strerror}', 'point FASTDDS_DEFAULT_PROFILES_FILE at a file')
    if 'LARGE_DATA' not in text and '<segment_size>' not in text:
        return Check('dds_profile', WARN, f'{path} sets neither segment_size nor LARGE_DATA',
                     'best-effort images are nearly all lost with the default 512 KB segment')
    return Check('dds_profile', OK, path)


def check_sockets() -> Check:
    """Whether event packets may come by UDP, so that a killed drafter leaves nothing with a driver."""
    room = socket_room()
    if room >= ROOM_BYTES:
        return Check('sockets', OK, f'hold {room} bytes: the drafter receives by UDP')
    return Check('sockets', NOTE, f'hold {room} bytes: the drafter receives through shared memory',
                 f'if one driver publishes events and images: sudo sysctl -w net.core.rmem_max={2 * ROOM_BYTES}, or '
                 'its images may be lost for all after a drafter was killed')


def check_torch() -> Check:
    answer, error = _asked(_TORCH)
    if answer is None:
        return Check('torch', MISSING, error, 'pip install torch')
    version, threads, gpus = answer
    return Check('torch', OK, f'{version}, {threads} threads, devices: '
                              + ', '.join(['cpu', *(f'cuda:{i} {name}' for i, name in enumerate(gpus))]))


def check_packages() -> list[Check]:
    """What the main job imports, and what it can do without."""
    found = []
    for module, distribution in REQUIRED.items():
        version = version_of(module)
        found.append(Check(module, MISSING, 'not installed', f'pip install {distribution}') if version is None
                     else Check(module, OK, version))
    for module, use in OPTIONAL.items():
        version = version_of(module)
        found.append(Check(module, NOTE, f'not installed: {use}') if version is None
                     else Check(module, OK, version or 'here'))
    return found


def check_numba() -> Check:
    """numba and whether its compiled code can be kept: else every start compiles again."""
    version = version_of('numba')
    if version is None:
        return Check('numba', MISSING, 'not installed', 'pip install numba')
    folder = Path(os.environ.get('NUMBA_CACHE_DIR') or PACKAGE / 'events' / '__pycache__')
    writable = os.access(folder if folder.exists() else folder.parent, os.W_OK)
    if not writable:
        return Check('numba', WARN, f'{version}, cache {folder} is not writable',
                     'set NUMBA_CACHE_DIR to a folder that is, or every start compiles for seconds')
    kept = len(list(folder.glob('*.nbi')))
    return Check('numba', OK, f'{version}, {kept} compiled functions in the cache')


def safetensors_fault(path: Path) -> str | None:
    """What is wrong with a safetensors file by its own header (8 bytes length, JSON, data), or None."""
    size = path.stat().st_size
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if not 2 <= length <= size - 8:
            return f'header of {length} bytes in a file of {size}'
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return 'header is not JSON'
    ends = [entry['data_offsets'][1] for name, entry in header.items() if name != '__metadata__']
    expected = 8 + length + max(ends, default=0)
    return None if expected == size else f'{size} bytes, its header says {expected}'


def check_model(role: str) -> Check:
    """The built-in verifier or drafter: files there and whole."""
    name, folder = f'builtin_{role}', PACKAGE / 'models' / 'builtin' / role
    weights = sorted(folder.glob('*.safetensors'))
    if not weights:
        return Check(name, MISSING, f'no safetensors file in models/builtin/{role}',
                     'install the package again, with its data')
    for path in weights:
        fault = safetensors_fault(path)
        if fault:
            return Check(name, MISSING, f'{path.name} is broken: {fault}', 'install the package again')
    total = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    return Check(name, OK, f'{len(weights)} weight file(s), {total / 1e6:.1f} MB in all, whole')


def check_pair(model: str, drafter: str) -> Check:
    """Whether a drafter learned from the verifier that it is to draft for; each a folder, or builtin."""
    from crossspec_ros.models.builtin import model_path
    from crossspec_ros.models.drafters.kinds import EVENT_DRAFTER, describe, kind_of
    from crossspec_ros.models.keys import checkpoint_key
    from crossspec_ros.speculation.drafter import NOT_TRAINED
    advice = f'crossspec learn BAG... --model {model}'
    try:
        folder = model_path(drafter, 'drafter')
        if kind_of(folder) != EVENT_DRAFTER:
            return Check('pair', NOTE, f'{drafter}: {describe(drafter)}', 'its words seldom hit; one that learned from '
                         f'your verifier: {advice}')
        learned = json.loads((folder / 'config.json').read_text(encoding='utf-8')).get('verifier_key', '')
        key = checkpoint_key(model_path(model, 'verifier'))
    except (CrossSpecError, OSError, ValueError, AttributeError) as error:
        return Check('pair', WARN, f'cannot be told: {error}', 'give folders that are here')
    if not learned:
        return Check('pair', NOTE, f'{drafter}: it does not say which verifier it learned from', advice)
    if learned != key:
        return Check('pair', WARN, f'{drafter}: {NOT_TRAINED} ({model}, {key}; it learned from {learned})', advice)
    return Check('pair', OK, f'{drafter} was trained for {model}')


def check_qualifier(qualifier: str, model: str) -> Check:
    """Whether a third model can stand between the drafter and this verifier; each a folder, or builtin."""
    from crossspec_ros.models.builtin import model_path
    from crossspec_ros.models.drafters.kinds import VIDEO_MODEL, kind_of
    from crossspec_ros.models.keys import checkpoint_key
    try:
        folder, own = model_path(qualifier, 'verifier'), model_path(model, 'verifier')
        kind, alike = kind_of(folder), checkpoint_key(folder) == checkpoint_key(own)
    except (CrossSpecError, OSError, ValueError) as error:
        return Check('qualifier', WARN, f'cannot be told: {error}', 'give folders that are here')
    if kind != VIDEO_MODEL:
        return Check('qualifier', WARN, f'{qualifier}: {kind}, which looks at events; a qualifier looks at images',
                     f'--drafter-model {qualifier}')
    if alike:
        return Check('qualifier', NOTE, f'{qualifier}: the verifier itself, which it takes as long as',
                     'good to try the graph; name a smaller model')
    return Check('qualifier', OK, f'{qualifier}: {kind}')


def check_memory() -> Check:
    try:
        free = importlib.import_module('psutil').virtual_memory().available
    except ImportError:
        return Check('memory', NOTE, 'unknown (psutil is not installed)')
    value = f'{free / 2**30:.1f} GiB free, {cores()} cores'
    if free < NEEDED_BYTES:
        return Check('memory', WARN, value, f'the demo takes up to {NEEDED_BYTES / 2**30:.0f} GiB')
    return Check('memory', OK, value)


def check_shared_memory() -> Check:
    left = dead_segments()
    if not left:
        return Check('shared_memory', OK, 'no segments of dead nodes')
    size = sum(path.stat().st_size for path in left if path.exists())
    return Check('shared_memory', WARN, f'{len(left)} files of dead nodes, {size / 2**20:.0f} MiB',
                 'no running process of this user holds them: rm /dev/shm/*fastdds_* when no node runs')


_ALL: tuple[Callable[[], Check | list[Check]], ...] = (
    check_python, check_shell, check_ros, check_messages, check_dds_profile, check_sockets,
    check_torch, check_numba, check_packages,
    lambda: check_model('drafter'), lambda: check_model('verifier'), check_memory, check_shared_memory)


def all_checks() -> list[Check]:
    """Every check, in the order a person reads them; one that fails is a finding itself."""
    checks: list[Check] = []
    for look_at in _ALL:
        try:
            found = look_at()
        except Exception as error:  # noqa: BLE001 - doctor is for hosts on which anything may be broken
            found = Check(look_at.__name__.removeprefix('check_'), MISSING, f'{type(error).__name__}: {error}',
                          explain(error) or 'this part of the host cannot be looked at')
        checks += [found] if isinstance(found, Check) else found
    return checks
