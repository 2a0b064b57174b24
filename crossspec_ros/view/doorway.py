"""The page that people open: Rerun's web viewer, led to the right data and kept from calling anybody else."""
from __future__ import annotations

import http.client
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

from crossspec_ros.view.addresses import family

_HOST = re.compile(r'[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]')
_REQUEST_S = 30.0
_VISITORS = 16                                                  # served at a time
_PASSED = ('Content-Type', 'Content-Encoding', 'Content-Length', 'rerun-final-length')


def _policy(data: str) -> str:
    """What the page may load: itself and its data. The viewer would ask for fonts and news, and report its use."""
    own = "'self' 'unsafe-inline' 'wasm-unsafe-eval' blob: data:"
    return f"default-src {own}; connect-src 'self' {data} blob: data:; form-action 'none'; frame-ancestors 'self'"


class Doorway:
    """Serves what a viewer on ``inner`` (host, port) serves, to visitors at ``bind`` and ``port``, until `close`.

    Who comes without an address of data is sent to that on ``data_port`` of the host by whose name he came.
    """

    def __init__(self, bind: str, port: int, inner: tuple[str, int], data_port: int) -> None:
        slots = threading.BoundedSemaphore(_VISITORS)

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_S

            def do_GET(self) -> None:
                host = re.sub(r':\d+$', '', self.headers.get('Host', ''))
                if not _HOST.fullmatch(host):
                    self.send_error(400)
                elif not slots.acquire(timeout=_REQUEST_S):
                    self.send_error(503)
                else:
                    try:
                        self._answer(f'{host}:{data_port}')
                    finally:
                        slots.release()

            def _answer(self, data: str) -> None:
                path = urlsplit(self.path)
                if path.path == '/' and 'url' not in parse_qs(path.query):
                    self.send_response(302)
                    self.send_header('Location', f'/?url={quote(f"rerun+http://{data}/proxy", safe="")}'
                                                 '&hide_welcome_screen&persist=false&theme=dark')
                    self.send_header('Content-Length', '0')
                    self.end_headers()
                    return
                self._pass(path.path, data)

            def _pass(self, path: str, data: str) -> None:
                connection = http.client.HTTPConnection(*inner, timeout=_REQUEST_S)
                try:
                    connection.request('GET', path, headers={'Accept-Encoding':
                                                             self.headers.get('Accept-Encoding', 'identity')})
                    answer = connection.getresponse()
                    self.send_response(answer.status)
                    for name in _PASSED:
                        if answer.headers.get(name):
                            self.send_header(name, answer.headers[name])
                    self.send_header('Content-Security-Policy', _policy(f'http://{data}'))
                    self.end_headers()
                    shutil.copyfileobj(answer, self.wfile)
                except (OSError, http.client.HTTPException):
                    self.close_connection = True                # the visitor or the viewer has gone
                finally:
                    connection.close()

            def log_message(self, format: str, *args: object) -> None:
                """Visitors are nothing to log, and what they send is nothing to print."""

        class Server(ThreadingHTTPServer):
            address_family, daemon_threads = family(bind), True

        self._server = Server((bind, port), Handler)
        threading.Thread(target=self._server.serve_forever, name='doorway', daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
