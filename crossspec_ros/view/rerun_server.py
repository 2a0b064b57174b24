"""Rerun's server as a child process: its web viewer and its data port, bound to one address, bounded in memory."""
from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import deque
from pathlib import Path

from crossspec_ros import children
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.scratch import Scratch
from crossspec_ros.view.addresses import check_port, in_url, is_local, nearest, wait_for_port
from crossspec_ros.view.doorway import Doorway

_READY_S = 30.0
_END_S = 5.0


class RerunServer:
    """Page at ``port``, its data and the viewer's own server at the two ports after it, all at ``bind``.

    The server keeps the newest ``memory_mb`` of what was logged, for pages that are opened later.

    Raises:
        CrossSpecError: a port is in use, or the server does not start; with what it said.
    """

    def __init__(self, bind: str, port: int, memory_mb: int) -> None:
        import rerun_cli
        self._bind = bind
        self.port = check_port(bind, port)
        self._data_port, self._web_port = (check_port(bind, self.port + more if port else 0) for more in (1, 2))
        self._private = Scratch('view')
        command = [str(Path(rerun_cli.__file__).with_name('rerun')), '--serve-web', '--bind', bind,
                   '--port', str(self._data_port), '--web-viewer-port', str(self._web_port),
                   '--memory-limit', f'{memory_mb}MB', '--server-memory-limit', f'{memory_mb}MB',
                   '--newest-first']                            # a page that is opened late shows what is now at once
        if not is_local(bind):                                  # else pages from another host may not read the data
            command += ['--cors-allow-origin', f'http://*:{self.port}']
        self._process = children.start(command, self._environment(), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
        self._said: deque[str] = deque(maxlen=5)
        threading.Thread(target=self._listen, name='rerun output', daemon=True).start()
        try:
            self._wait()
            self._doorway = Doorway(bind, self.port, (nearest(bind), self._web_port), self._data_port)
        except BaseException:
            self._end_child()
            raise

    def _environment(self) -> dict[str, str]:
        """Ours, but with a set-up of its own: no usage statistics leave the vehicle, the user's settings stay."""
        folder = self._private.path
        (folder / 'rerun').mkdir()
        (folder / 'rerun' / 'analytics.json').write_text(json.dumps({
            'analytics_enabled': False, 'analytics_id': '', 'metadata': {},
            'config_file_path': str(folder / 'rerun' / 'analytics.json'), 'data_dir_path': str(folder / 'data')}))
        return dict(os.environ, XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder), XDG_CACHE_HOME=str(folder),
                    NO_COLOR='1')

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._said.append(line.strip())

    def _wait(self) -> None:
        for port in (self._data_port, self._web_port):
            if not wait_for_port(nearest(self._bind), port, _READY_S, lambda: self._process.poll() is None):
                raise CrossSpecError(f'the server of Rerun does not listen on port {port} of {self._bind}; it said: '
                                     + (' / '.join(self._said) or 'nothing'))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def data_url(self) -> str:
        """Where this machine sends what is to be shown."""
        return f'rerun+http://{in_url(nearest(self._bind))}:{self._data_port}/proxy'

    def close(self) -> None:
        """End the server."""
        self._doorway.close()
        self._end_child()

    def _end_child(self) -> None:
        children.end([self._process], _END_S)
        self._private.close()
