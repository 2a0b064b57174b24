"""A full disk and a full /dev/shm: the trial runs in a mount namespace of its own, where both are small."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from crossspec_ros.bench.resilience.referee import Referee
from crossspec_ros.bench.resilience.stage import accounts, playing
from crossspec_ros.errors import CrossSpecError

INSIDE = ('disk', 'shm')
_TIMEOUT_S = 300.0


def outside(what: str, seconds: float) -> dict[str, Any]:
    """Run a trial in a namespace of its own; ``skipped`` says why it could not be."""
    where, size = ('/dev/shm', '1m') if what == 'shm' else (None, '1m')
    with tempfile.TemporaryDirectory(prefix='crossspec-full-') as folder:
        where = where or folder
        unshare = shutil.which('unshare')
        if unshare is None:
            return {'skipped': 'there is no unshare here (util-linux, on Linux only)'}
        flags = ['-m'] if os.geteuid() == 0 else ['-U', '-r', '-m']
        mount = f'mount -t tmpfs -o size={size} none {where}'
        tried = subprocess.run([unshare, *flags, 'sh', '-c', mount], capture_output=True, text=True, timeout=30)
        if tried.returncode:
            return {'skipped': f'no tmpfs may be mounted here: {tried.stderr.strip().splitlines()[-1]}'}
        command = [unshare, *flags, 'sh', '-c', f'{mount} && exec "$@"', 'sh', sys.executable, '-m',
                   'crossspec_ros.bench.resilience.full', what, where, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise CrossSpecError(f'the trial of a full {what} failed: {done.stderr.strip().splitlines()[-1:]}')
    return json.loads(done.stdout.splitlines()[-1])


def fill(folder: Path) -> int:
    """Write until there is no more room; how many bytes there were."""
    written = 0
    with open(folder / 'filler', 'wb', buffering=0) as file:
        try:
            while True:
                written += file.write(b'\0' * 4096)
        except OSError:
            return written


def inside(what: str, where: Path, seconds: float) -> dict[str, Any]:
    """The trial: the place is full from the start (shm), or once everything has been written to it for a while."""
    parameters: dict[str, dict[str, Any]] = {}
    environment: dict[str, str] = {}
    if what == 'disk':
        parameters = {'verifier': {'audit.keep': True}, 'overlay': {'record_path': str(where / 'film.mp4')},
                      'monitor': {'csv_path': str(where / 'windows.csv'), 'report_path': str(where / 'report.json')},
                      'keeper': {'keep.folder': str(where / 'moments'), 'keep.rules': ['change']}}
        environment = {'TMPDIR': str(where)}
    else:
        fill(where)
    with playing(parameters, environment=environment, given={'keep': 'true'} if what == 'disk' else None) as graph:
        graph.tap.poll(1.0)
        if what == 'disk':
            fill(where)
        began_s = time.monotonic()
        next_s = graph.next_word()
        graph.tap.poll(max(0.0, seconds - (time.monotonic() - began_s)))
        graph.alive()
        said = {name.rsplit('/', 1)[-1]: _disk_causes(status.values)
                for name, status in graph.heard.record.diagnostics.items()}
        logs = {name: graph.processes.log_tail(name, 4) for name in ('overlay', 'monitor', 'keeper')
                if what == 'disk'}
        after = graph.settle()
        words = Referee().check(graph.heard.captions, graph.cameras.pictures)
    return {'seconds': seconds, 'captions': len(graph.heard.captions), 'next_caption_s': round(next_s, 2),
            'counted': {name: causes for name, causes in said.items() if causes}, 'inputs': accounts({}, after),
            'words': words, 'log': logs}


def _disk_causes(values: dict[str, str]) -> dict[str, str]:
    words = ('not_kept', 'not_written', 'failed', 'disk', 'record', 'film', 'csv')
    return {name: value for name, value in values.items()
            if any(word in name for word in words) and value not in ('0', '', 'False', 'None')}


if __name__ == '__main__':
    print(json.dumps(inside(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))))
