"""Build with pip: the Python modules, and the messages of msg/ and srv/ made by the CMakeLists.txt that colcon uses.

CMake installs into a staging prefix. From there the generated modules and libraries go into the package folders, where
a plain Python finds them, and the files that ament, launch and ``ros2`` look up become data files under ``share``.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = 'crossspec_ros'
# What the CMake run may install; the second one only where the host lacks it.
INTERFACE_PACKAGES = (PACKAGE, 'event_camera_msgs')
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / PACKAGE / '__init__.py').read_text()).group(1)
SITE_PACKAGES = f'lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages'
GENERATOR = 'share/rosidl_default_generators/cmake'


def find_ros_prefixes() -> list[str]:
    """Prefixes that hold ROS 2: those sourced, then this Python's own where the wheels are installed."""
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    if (Path(sys.prefix) / GENERATOR).is_dir() and sys.prefix not in prefixes:
        prefixes.append(sys.prefix)
    if not prefixes:
        sys.exit('crossspec_ros: no ROS 2 found to build messages with. Source one '
                 '(source /opt/ros/<distro>/setup.bash), or install the wheels into this environment: '
                 'pip install -r requirements.txt')
    return prefixes


def environment_for_cmake(prefixes: list[str]) -> dict[str, str]:
    """The environment in which the generators find their own Python modules.

    pip's isolated build puts an overlay on PYTHONPATH that hides what the environment has installed. The generators are
    Python programs that live there, so the overlay has to go; the sourced ROS comes back in its place.
    """
    env = dict(os.environ, AMENT_PREFIX_PATH=os.pathsep.join(prefixes))
    if 'pip-build-env' in env.get('PYTHONPATH', ''):
        env.pop('PYTHONNOUSERSITE', None)
        sourced = [Path(p, folder) for p in prefixes if p != sys.prefix
                   for folder in (SITE_PACKAGES, SITE_PACKAGES.replace('lib/', 'local/lib/').replace('site-', 'dist-'))]
        env['PYTHONPATH'] = os.pathsep.join(str(p) for p in sourced if p.is_dir())
        if not env['PYTHONPATH']:
            del env['PYTHONPATH']
    return env


class BuildInterfaces(build_ext):
    """Stands where setuptools would compile extensions: runs CMake and takes what it installed."""

    def run(self) -> None:
        self.taken: list[str] = []
        # An editable install gets no data files: its staging prefix stays, for AMENT_PREFIX_PATH to name it.
        stage = ROOT / 'build' / 'ament' if self.inplace else Path(self.build_temp).resolve() / 'stage'
        shutil.rmtree(stage, ignore_errors=True)
        self._install_into(stage)
        for name in INTERFACE_PACKAGES:
            for generated in stage.glob(f'**/{name}/msg/__init__.py'):
                self._take_modules(name, generated.parents[1], stage)
                self._take_share(name, stage)

    def _install_into(self, stage: Path) -> None:
        prefixes = find_ros_prefixes()
        build_dir = Path(self.build_temp).resolve() / 'cmake'
        configure = ['cmake', '-S', str(ROOT), '-B', str(build_dir), '-DBUILD_TESTING=OFF',
                     '-DCMAKE_BUILD_TYPE=Release', f'-DCMAKE_INSTALL_PREFIX={stage}', '-DCMAKE_INSTALL_RPATH=$ORIGIN',
                     f'-DCMAKE_PREFIX_PATH={";".join(prefixes)}', f'-DPython3_EXECUTABLE={sys.executable}']
        if shutil.which('ninja'):
            configure += ['-G', 'Ninja']
        env = environment_for_cmake(prefixes)
        build = ['cmake', '--build', str(build_dir), '--parallel']
        for command in (configure, build, ['cmake', '--install', str(build_dir)]):
            subprocess.run(command, check=True, env=env)

    def _take_modules(self, name: str, installed: Path, stage: Path) -> None:
        """Generated modules and, side by side for their RPATH, the libraries; rclpy never loads the C++ ones."""
        target = (ROOT if self.inplace else Path(self.build_lib)) / name
        modules = [path for kind in ('action', 'msg', 'srv') for path in installed.glob(f'{kind}/*.py')]
        libraries = [*installed.glob('*.so'), *stage.glob(f'lib/lib{name}__*.so')]
        wanted = {path: path.relative_to(installed) for path in modules}
        wanted |= {path: Path(path.name) for path in libraries if not path.stem.endswith('_cpp')}
        if name != PACKAGE:
            wanted[installed / '__init__.py'] = Path('__init__.py')
        for source, place in wanted.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / place)
            self.taken.append(str(target / place))

    def _take_share(self, name: str, stage: Path) -> None:
        index = stage / 'share' / 'ament_index' / 'resource_index'
        share = stage / 'share' / name
        files = [index / kind / name for kind in ('packages', 'rosidl_interfaces')]
        files += [share / 'package.xml', *stage.glob(f'lib/{name}/*')]
        for folder in ('action', 'msg', 'srv', 'launch', 'config', 'rviz'):
            files += [path for path in share.glob(f'{folder}/*') if path.is_file()]
        for path in files:
            folder = str(path.parent.relative_to(stage))
            self.distribution.data_files.append((folder, [os.path.relpath(path, ROOT)]))

    def get_outputs(self) -> list[str]:
        return [] if self.inplace else getattr(self, 'taken', [])

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []                                               # MANIFEST.in names them


setup(
    name=PACKAGE,
    version=VERSION,
    description='Live, verified captions of a driving scene from an event camera and an RGB camera',
    long_description=(ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    # The root named, an editable install is a plain path entry; without it a folder of the same name could hide it.
    package_dir={'': '.'},
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*'],
                           exclude=[f'{PACKAGE}.{kind}' for kind in ('action', 'msg', 'srv')]),
    package_data={PACKAGE: ['**/*.json', '**/*.jinja', '**/*.model', '**/*.safetensors', '**/*.md', '**/*.csv',
                            '**/*.png', '**/*.txt', '**/*.html', '**/*.j2', '**/*.msg']},
    ext_modules=[Extension(f'{PACKAGE}._interfaces', [])],      # marks the wheel as one for this platform
    cmdclass={'build_ext': BuildInterfaces},
    data_files=[],                                              # filled by BuildInterfaces
    install_requires=[
        'av>=14', 'h5py>=3.11', 'hdf5plugin>=5', 'jinja2>=3.1', 'matplotlib>=3.8', 'mcap>=1.2', 'numba>=0.61',
        'numpy>=1.26', 'opencv-python-headless>=4.9', 'pillow>=10', 'psutil>=5.9', 'pyyaml>=6', 'rich>=13',
        'rosbags>=0.10', 'safetensors>=0.4', 'tokenizers>=0.21', 'torch>=2.4', 'transformers>=5.0,<5.25',
        'zstandard>=0.21',
    ],
    extras_require={
        'forms': ['llguidance>=1.9,<2'],
        'formats': ['aedat>=2.3', 'dv-processing>=2.0'],         # reading and writing AEDAT4
        'eval': ['sacrebleu>=2.4', 'rouge-score>=0.1.2', 'pycocoevalcap>=1.2'],
        'parallel': ['accelerate>=1.10'],                        # a verifier shared by several GPUs
        'quantized': ['torchao>=0.18,<0.19', 'bitsandbytes>=0.50,<0.51', 'accelerate>=1.10'],
        'view': ['rerun-sdk>=0.41,<0.42; python_version >= "3.11"', 'foxglove-sdk>=0.30,<0.31'],
        'docs': ['mkdocs>=1.6,<2', 'mkdocs-material>=9.7,<10'],
        'test': ['pytest>=8,<8.4', 'pytest-timeout>=2.3', 'hypothesis>=6.100'],
    },
    entry_points={'console_scripts': ['crossspec = crossspec_ros.cli:main']},
    zip_safe=False,
)
