"""The house rules that a machine can read: which room imports which, how long a file is, what no file may name."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'crossspec_ros'
MAX_LINES = 450
MAX_COLUMNS = 120
WIDE: set[str] = set()

# Room -> the rooms it may import besides itself, from the lowest to the highest: each may use only rooms before it.
# `errors` and the package itself are open to all.
ARROWS: dict[str, set[str]] = {
    'errors': set(),
    'cores': set(),
    'fields': set(),
    'plugged': set(),
    'interrupts': set(),
    'resources': set(),
    'shell': set(),
    'children': set(),
    'action': set(),
    'forker': {'children'},
    'nursery': {'children', 'forker'},
    'shared_memory': set(),
    'supervisor': {'children', 'nursery', 'shared_memory'},
    'launched': {'children', 'nursery', 'supervisor'},
    'transport': set(),
    'scratch': set(),
    'msg': set(),
    'srv': set(),
    'events': set(),
    'timing': set(),
    'tracing': set(),
    'frames': {'timing'},
    'speculation': {'fields', 'plugged', 'frames', 'timing', 'tracing'},
    'config': {'fields', 'timing', 'speculation'},
    'models': {'children', 'frames', 'speculation', 'tracing'},
    'world': {'events'},
    'recordings': {'plugged', 'events', 'timing', 'frames', 'world'},
    'pipeline': {'cores', 'children', 'resources', 'scratch', 'events', 'timing', 'tracing', 'frames', 'config',
                 'speculation', 'models', 'recordings'},
    'captioner': {'speculation', 'models'},
    'train': {'events', 'speculation', 'models', 'world'},
    'view': {'children', 'scratch', 'speculation'},
    'params_file': {'config'},
    'graph': {'config', 'params_file', 'resources'},
    'security': {'graph'},
    'launching': {'children', 'forker', 'nursery', 'launched', 'graph', 'resources'},
    'nodes': {'interrupts', 'children', 'shared_memory', 'transport', 'shell', 'action', 'msg', 'srv', 'events',
              'timing', 'tracing', 'frames', 'config', 'speculation', 'recordings', 'pipeline', 'view'},
    'demo': {'cores', 'interrupts', 'children', 'shared_memory', 'timing', 'tracing', 'speculation', 'models',
             'recordings', 'view', 'graph', 'nodes'},
    'learn': {'timing', 'frames', 'config', 'speculation', 'models', 'recordings', 'pipeline', 'train', 'view', 'demo'},
    'bench': {'children', 'resources', 'events', 'timing', 'config', 'speculation', 'models', 'world', 'recordings',
              'pipeline', 'view', 'graph', 'nodes', 'demo', 'learn'},
    'experiments': {'children', 'resources', 'events', 'timing', 'tracing', 'speculation', 'models', 'world', 'train',
                    'recordings', 'demo', 'learn', 'bench'},
    'cli': {'interrupts', 'shell'},
    'commands': {'cores', 'security', 'interrupts', 'children', 'nursery', 'shared_memory', 'transport', 'supervisor',
                 'shell', 'events', 'timing', 'tracing', 'config', 'speculation', 'models', 'world', 'recordings',
                 'pipeline', 'train', 'view', 'graph', 'demo', 'learn', 'bench', 'experiments', 'cli'},
}
ROS = {'rclpy', 'std_msgs', 'sensor_msgs', 'diagnostic_msgs', 'std_srvs', 'builtin_interfaces', 'lifecycle_msgs',
       'event_camera_msgs', 'cv_bridge', 'launch', 'launch_ros'}
HEAVY = ROS | {'llguidance', 'torch', 'transformers', 'cv2', 'rosbags', 'mcap', 'h5py', 'av', 'matplotlib', 'rich',
               'jinja2'}
# Room -> distributions it may never import; nobody but `nodes` imports ROS, and few rooms transformers.
FORBIDDEN = {
    'events': HEAVY,
    'timing': HEAVY | {'numba'},
    'tracing': HEAVY | {'numba'},
    'frames': (HEAVY - {'cv2'}) | {'numba'},
    'world': ROS | {'torch', 'transformers'},
    'recordings': ROS | {'torch', 'transformers'},
    'view': ROS | {'torch', 'transformers'},
    'speculation': (HEAVY - {'torch'}) | {'numba'},
    'models': ROS,
    'pipeline': ROS,
    'captioner': ROS,
}
GENERATED = {'action', 'msg', 'srv'}                             # made of the folders of these names by the build
TRANSFORMERS_ROOMS = {'models', 'train'}
ROS_ROOMS = {'nodes'}


def _modules() -> list[Path]:
    found = sorted(PACKAGE.rglob('*.py'))
    generated = {PACKAGE / name for name in GENERATED}
    return [path for path in found if not generated & set(path.parents)]


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def _imports(path: Path) -> set[str]:
    """Absolute names of everything imported anywhere in a file, also inside functions."""
    names: set[str] = set()
    package = ('crossspec_ros', *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(package[:len(package) - node.level + 1]) if node.level else ''
            module = '.'.join(part for part in (base, node.module) if part)
            names |= {f'{module}.{alias.name}' for alias in node.names}
    return names


def _rooms_used(path: Path) -> set[str]:
    parts = [name.split('.') for name in _imports(path)]
    return {part[1] for part in parts if part[0] == 'crossspec_ros' and len(part) > 1} - {'errors', '__version__'}


def _unnamed_rooms() -> set[str]:
    return {_room(path) for path in PACKAGE.rglob('*.py')} - {'__init__'} - set(ARROWS)


@pytest.mark.parametrize('room', sorted(ARROWS))
def test_imports_point_one_way(room):
    allowed = ARROWS[room] | {room}
    wrong = {str(path.relative_to(ROOT)): sorted(_rooms_used(path) - allowed)
             for path in _modules() if _room(path) == room and _rooms_used(path) - allowed}
    assert not wrong


def test_arrows_point_downwards():
    rooms = list(ARROWS)
    assert not {room: upward for at, room in enumerate(rooms) if (upward := ARROWS[room] - set(rooms[:at]))}


def test_every_room_has_its_arrows():
    assert not _unnamed_rooms()
    assert not {room for room in ARROWS if not (PACKAGE / room).is_dir() and not (PACKAGE / f'{room}.py').is_file()
                and room not in GENERATED}


def test_a_new_room_without_arrows_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'PACKAGE', tmp_path)
    for name in ('events', 'attic'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'probe.py').write_text('', encoding='utf-8')
    (tmp_path / 'shed.py').write_text('', encoding='utf-8')
    assert _unnamed_rooms() == {'attic', 'shed'}


def test_imports_keep_heavy_packages_in_their_rooms():
    wrong = []
    for path in _modules():
        room, roots = _room(path), {name.split('.')[0] for name in _imports(path)}
        forbidden = set(FORBIDDEN.get(room, set()))
        forbidden |= set() if room in TRANSFORMERS_ROOMS else {'transformers'}
        forbidden |= set() if room in ROS_ROOMS else ROS - {'launch', 'launch_ros'}
        wrong += [f'{path.relative_to(ROOT)}: {name}' for name in sorted(roots & forbidden)]
    assert not wrong


def test_files_are_short():
    long = {str(path.relative_to(ROOT)): count
            for path in [*_modules(), *sorted((ROOT / 'test').rglob('*.py'))]
            if (count := len(path.read_text(encoding='utf-8').splitlines())) > MAX_LINES}
    assert not long


def test_lines_are_short():
    files = [path for folder in ('crossspec_ros', 'test', 'launch') for path in sorted((ROOT / folder).rglob('*.py'))
             if not {PACKAGE / name for name in GENERATED} & set(path.parents)]
    wide = [f'{path.relative_to(ROOT)}:{number}' for path in [*files, ROOT / 'setup.py']
            for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1)
            if len(line) > MAX_COLUMNS and path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).as_posix()
            not in WIDE]
    assert not wide


def test_files_name_no_machine_and_no_registry():
    # Written in pieces so that this file does not contain what it looks for.
    paths = '|'.join('/' + name + '/' for name in ('work', 'root', r'home/[a-z]\w*'))
    hosts = '|'.join(name + r'\.' + end for name, end in (
        ('pypi', 'org'), ('pythonhosted', 'org'), (r'npmjs', 'org'), (r'registry\.npmjs', 'com'), ('anaconda', 'org')))
    pattern = re.compile(rf'(?<![\w.~}}-])(?:{paths})|\b(?:{hosts})')
    suffixes = {'.py', '.md', '.txt', '.toml', '.yaml', '.xml', '.rst', '.cfg', '.cmake', '.json', '.jinja', '.html',
                '.sh'}
    folders = [PACKAGE, *(ROOT / name for name in ('test config launch scripts docs action msg srv rviz'.split()))]
    files = [path for folder in folders if folder.exists() for path in folder.rglob('*')]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    wrong = [f'{path.relative_to(ROOT)}: {match.group()}' for path in files
             if path.is_file() and (path.suffix in suffixes or path.parent.name == 'scripts')
             and '__pycache__' not in path.parts
             for match in pattern.finditer(path.read_text(encoding='utf-8', errors='replace'))]
    assert not wrong


def test_imports_finds_relative_and_lazy_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'PACKAGE', tmp_path)
    path = tmp_path / 'events' / 'probe.py'
    path.parent.mkdir()
    path.write_text('from . import window\nfrom ..models import x\ndef f():\n    import torch.nn\n', encoding='utf-8')
    assert _imports(path) == {'crossspec_ros.events.window', 'crossspec_ros.models.x', 'torch.nn'}
    assert _rooms_used(path) == {'events', 'models'}


def test_torchvision_is_looked_after_before_transformers_looks_for_it():
    # targets/__init__.py and train/__init__.py do it for what lies in those folders
    alone = [path for path in _modules() if path.parent == PACKAGE / 'models']
    wrong = [path.name for path in alone if re.search(r'^(from|import) transformers', path.read_text(), re.MULTILINE)
             and 'crossspec_ros.models.vision_ops' not in _imports(path)]
    assert len(alone) > 10 and not wrong
    for package in ('models/targets', 'train'):
        assert 'crossspec_ros.models.vision_ops' in _imports(PACKAGE / package / '__init__.py')
