"""The house rules that a machine can read: which room imports which, how long a file is, what no file may name."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'crossspec_ros'
MAX_LINES = 450

# Room -> the rooms it may import. `errors` and the package itself are open to all; rooms not named here may use all.
ARROWS = {
    'errors': set(),
    'events': {'events'},
    'recordings': {'events', 'recordings'},
    'speculation': {'speculation'},
    'models': {'events', 'speculation', 'models'},
    'pipeline': {'events', 'speculation', 'models', 'recordings', 'pipeline', 'config'},
    'captioner': {'events', 'speculation', 'models'},
}
ROS = {'rclpy', 'std_msgs', 'sensor_msgs', 'diagnostic_msgs', 'std_srvs', 'builtin_interfaces', 'lifecycle_msgs',
       'event_camera_msgs', 'launch', 'launch_ros'}
HEAVY = ROS | {'torch', 'transformers', 'cv2', 'rosbags', 'h5py', 'av', 'matplotlib', 'rich', 'jinja2'}
# Room -> distributions it may never import; `*` holds for every room that is not named in EXCEPT.
FORBIDDEN = {
    'events': HEAVY,
    'recordings': ROS | {'torch', 'transformers'},
    'speculation': (HEAVY - {'torch'}) | {'numba'},
    'models': ROS,
    'pipeline': ROS,
    'captioner': ROS,
}
TRANSFORMERS_ROOMS = {'models', 'train'}
ROS_ROOMS = {'nodes'}


def _modules() -> list[Path]:
    found = sorted(PACKAGE.rglob('*.py'))
    generated = {PACKAGE / 'msg', PACKAGE / 'srv'}
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


@pytest.mark.parametrize('room', sorted(ARROWS))
def test_imports_point_one_way(room):
    wrong = {str(path.relative_to(ROOT)): sorted(_rooms_used(path) - ARROWS[room])
             for path in _modules() if _room(path) == room and _rooms_used(path) - ARROWS[room]}
    assert not wrong


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


def test_files_name_no_machine_and_no_registry():
    # Written in pieces so that this file does not contain what it looks for.
    paths = '|'.join('/' + name + '/' for name in ('work', 'root', r'home/[a-z]\w*'))
    hosts = '|'.join(name + r'\.' + end for name, end in (
        ('pypi', 'org'), ('pythonhosted', 'org'), (r'npmjs', 'org'), (r'registry\.npmjs', 'com'), ('anaconda', 'org')))
    pattern = re.compile(rf'(?<![\w.~}}-])(?:{paths})|\b(?:{hosts})')
    suffixes = {'.py', '.md', '.txt', '.toml', '.yaml', '.xml', '.rst', '.cfg', '.cmake', '.json', '.jinja', '.html',
                '.sh'}
    folders = [PACKAGE, *(ROOT / name for name in ('test config launch scripts docs msg srv rviz'.split()))]
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
