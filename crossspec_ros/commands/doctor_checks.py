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
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
OK, NOTE, WARN, MISSING = 'ok', 'note', 'warn', 'missing'
NEEDED_BYTES = 4 * 2**30
MESSAGES = {'crossspec_ros.msg': ('Draft', 'Caption', 'Verdict', 'WindowLatency'), 'crossspec_ros.srv': ('SetPrompt',),
            'event_camera_msgs.msg': ('EventPacket',)}
REQUIRED = {'numpy': 'numpy', 'cv2': 'opencv-python-headless', 'rosbags': 'rosbags', 'h5py': 'h5py', 'av': 'av',
            'rich': 'rich', 'jinja2': 'jinja2', 'matplotlib': 'matplotlib', 'psutil': 'psutil',
            'safetensors': 'safetensors', 'tokenizers': 'tokenizers', 'transformers': 'transformers'}
OPTIONAL = {'launch_ros': 'launch files (without it: `crossspec up`)',
            'cv_bridge': 'not needed, images are converted here',
            'event_camera_py': 'another event decoder', 'rviz_2d_overlay_msgs': 'captions over RViz',
            'foxglove_msgs': 'captions over images in Foxglove', 'rerun': '`crossspec view` in a browser',
            'foxglove': '`crossspec view --foxglove`', 'hdf5plugin': 'DSEC files with compressed events'}


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


def check_ros() -> list[Check]:
    """rclpy, its middleware, discovery range and domain."""
    try:
        utilities = importlib.import_module('rclpy.utilities')
        rmw = utilities.get_rmw_implementation_identifier()
    except ImportError as error:
        return [Check('ros', MISSING, f'rclpy cannot be imported ({error})',
                      'pip install "ros-rclpy[fastrtps]" ros-common-interfaces, or source a ROS 2 host')]
    distro = os.environ.get('ROS_DISTRO', 'distribution not named')
    return [Check('ros', OK, f'rclpy {version_of("rclpy") or ""} ({distro})'), _check_rmw(rmw), _check_range(),
            _check_domain()]


def _check_rmw(rmw: str) -> Check:
    if 'fastrtps' in rmw:
        return Check('middleware', OK, rmw)
    return Check('middleware', NOTE, rmw, 'all figures were measured with rmw_fastrtps_cpp')


def _check_range() -> Check:
    value = os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    if value and value not in ('SUBNET', 'LOCALHOST', 'OFF', 'SYSTEM_DEFAULT'):
        return Check('discovery_range', WARN, value, 'ROS_AUTOMATIC_DISCOVERY_RANGE must be SUBNET, LOCALHOST or OFF')
    if value == 'OFF':
        return Check('discovery_range', WARN, 'OFF',
                     'nodes will not find each other; unset ROS_AUTOMATIC_DISCOVERY_RANGE')
    return Check('discovery_range', OK, value or 'SUBNET (default); `crossspec demo` uses LOCALHOST')


def _check_domain() -> Check:
    text = os.environ.get('ROS_DOMAIN_ID', '0')
    if not text.isdigit() or int(text) > 232:
        return Check('domain_id', WARN, text, 'ROS_DOMAIN_ID must be 0 to 232')
    if int(text) > 101:
        return Check('domain_id', WARN, text, 'ports of domains over 101 are also given to other programs on Linux')
    return Check('domain_id', OK, text)


def check_messages() -> Check:
    """Messages importable and their type support loadable, which is what fails on a half-built installation."""
    for module, names in MESSAGES.items():
        try:
            loaded = importlib.import_module(module)
            for name in names:
                type(getattr(loaded, name)).__import_type_support__()
        except (ImportError, AttributeError, OSError) as error:
            return Check('messages', MISSING, f'{module}: {error}',
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
    if 'LARGE_DATA' not in text:
        return Check('dds_profile', WARN, f'{path} does not set LARGE_DATA',
                     'best-effort images are nearly all lost with the default 512 KB segment')
    return Check('dds_profile', OK, path)


def check_torch() -> Check:
    try:
        torch = importlib.import_module('torch')
    except ImportError as error:
        return Check('torch', MISSING, str(error), 'pip install torch')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(i) for i in range(count)]
    return Check('torch', OK, f'{torch.__version__}, {torch.get_num_threads()} threads, devices: '
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


def check_memory() -> Check:
    try:
        free = importlib.import_module('psutil').virtual_memory().available
    except ImportError:
        return Check('memory', NOTE, 'unknown (psutil is not installed)')
    value = f'{free / 2**30:.1f} GiB free, {os.cpu_count()} cores'
    if free < NEEDED_BYTES:
        return Check('memory', WARN, value, f'the demo takes up to {NEEDED_BYTES / 2**30:.0f} GiB')
    return Check('memory', OK, value)


def dead_segments(shm: Path = Path('/dev/shm'), proc: Path = Path('/proc')) -> list[Path]:
    """Shared-memory files of Fast DDS that no process has mapped or open: left behind by killed nodes."""
    names = {path.name: path for path in shm.glob('*fastdds_*')} if shm.is_dir() else {}
    for maps in proc.glob('[0-9]*/maps'):
        try:
            text = maps.read_text(errors='replace')
            targets = [os.readlink(link) for link in (maps.parent / 'fd').iterdir()]
        except OSError:
            continue                                      # ended meanwhile, or not ours to read
        for held in [*(line.rpartition('/')[2] for line in text.splitlines() if f'{shm}/' in line),
                     *(target.rpartition('/')[2] for target in targets if target.startswith(f'{shm}/'))]:
            names.pop(held, None)
    return sorted(names.values())


def check_shared_memory() -> Check:
    left = dead_segments()
    if not left:
        return Check('shared_memory', OK, 'no segments of dead nodes')
    size = sum(path.stat().st_size for path in left if path.exists())
    return Check('shared_memory', WARN, f'{len(left)} files of dead nodes, {size / 2**20:.0f} MiB',
                 'no running process of this user holds them: rm /dev/shm/*fastdds_* when no node runs')


def all_checks() -> list[Check]:
    """Every check, in the order a person reads them."""
    return [check_python(), *check_ros(), check_messages(), check_dds_profile(), check_torch(), check_numba(),
            *check_packages(), check_model('drafter'), check_model('verifier'), check_memory(), check_shared_memory()]
