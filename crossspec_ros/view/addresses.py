"""Where the viewer listens: free ports, and addresses as people type them."""
from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable

from crossspec_ros.errors import CrossSpecError


def check_address(bind: str) -> str:
    """A bind address. Raises CrossSpecError where it is no IP address."""
    try:
        return str(ipaddress.ip_address(bind))
    except ValueError as error:
        raise CrossSpecError(f'bind must be an IP address, got {bind!r}; 127.0.0.1 for this machine only, 0.0.0.0 for '
                             'everybody on its networks') from error


def family(bind: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ':' in bind else socket.AF_INET


def check_port(bind: str, port: int) -> int:
    """The port, or a free one for 0. Raises CrossSpecError where it cannot be bound."""
    with socket.socket(family(bind)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise CrossSpecError(f'port must be one that is free at {bind}, got {port}: {reason}; give another one, '
                                 'or 0 for any') from error
        return probe.getsockname()[1]


def wait_for_port(host: str, port: int, timeout_s: float, alive: Callable[[], bool]) -> bool:
    """Whether something listens there in time, and is ``alive`` until then."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s and alive():
        try:
            socket.create_connection((host, port), 1.0).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def nearest(bind: str) -> str:
    """The address at which this machine itself reaches what listens at ``bind``."""
    return {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(bind, bind)


def is_local(bind: str) -> bool:
    """Whether nobody else reaches what listens there."""
    return ipaddress.ip_address(bind).is_loopback


def in_url(host: str) -> str:
    """A host as a URL has it."""
    return f'[{host}]' if ':' in host else host


def public_name(bind: str) -> str:
    """The host as people on the network may type it."""
    return socket.gethostname() if ipaddress.ip_address(bind).is_unspecified else in_url(bind)
