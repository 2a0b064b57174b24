"""Checks of the variables by which nodes find each other."""
from __future__ import annotations

import re
import socket
from collections.abc import Mapping

MAX_DOMAIN = 232                        # ports of higher ones do not exist
_SERVER_PORT, _WAIT_S = 11811, 0.3
_RTPS = b'RTPS\x02\x03\x01\x0f' + bytes(12)                              # a header with nothing after it
_RANGES = ('SUBNET', 'LOCALHOST', 'OFF', 'SYSTEM_DEFAULT')


def domain(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """ROS_DOMAIN_ID: a whole number that has ports."""
    text = environment.get('ROS_DOMAIN_ID', '')
    if not text or (re.fullmatch(r'[0-9]+', text) and int(text) <= MAX_DOMAIN):
        return None
    return f'must be a whole number from 0 to {MAX_DOMAIN}', 'correct it, or unset it for domain 0'


def discovery_range(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """ROS_AUTOMATIC_DISCOVERY_RANGE: rcl reads anything else as LOCALHOST, and other hosts are never found."""
    text = environment.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    if not text or text in _RANGES:
        return None
    return f'must be one of {", ".join(_RANGES)}', 'correct it, or unset it for SUBNET'


def localhost_only(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """ROS_LOCALHOST_ONLY, which ROS_AUTOMATIC_DISCOVERY_RANGE has replaced."""
    text = environment.get('ROS_LOCALHOST_ONLY', '')
    if text in ('', '0', '1'):
        return None
    return 'must be 0 or 1', 'unset it; ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST has taken its place'


def static_peers(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """ROS_STATIC_PEERS: no node can be made where one of them has no address."""
    for peer in filter(None, environment.get('ROS_STATIC_PEERS', '').split(';')):
        if _address(peer) is None:
            return f'must be addresses with ; between them, and {peer!r} has none', 'correct it or unset it'
    return None


def discovery_server(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """ROS_DISCOVERY_SERVER: at least one of them answers, or may: a host that keeps silent is not refused."""
    servers = [text.strip() for text in environment.get('ROS_DISCOVERY_SERVER', '').split(';') if text.strip()]
    if not servers or environment.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp').find('fastrtps') < 0:
        return None
    faults = []
    for server in servers:
        fault = _fault_of_server(server)
        if fault is None:
            return None
        faults.append(f'{server}: {fault}')
    return (f'must name a discovery server that runs ({"; ".join(faults)})',
            'start it (fastdds discovery -i 0), or unset ROS_DISCOVERY_SERVER to find nodes without one')


def _fault_of_server(text: str) -> str | None:
    """Why nodes will not be found through this server, or None where it may be."""
    transport, bracket, rest = text.partition(':[')                      # TCPv4:[127.0.0.1]:42100
    if bracket:
        host, _, port_text = rest.partition(']:')
    else:
        protocol = re.match(r'(TCP|UDP)v?[46]:', text)
        transport = protocol.group(0) if protocol else 'UDP'
        host, _, port_text = text[len(protocol.group(0)) if protocol else 0:].partition(':')
    port_text = port_text or str(_SERVER_PORT)
    if not port_text.isdigit() or not 0 < int(port_text) < 65536:
        return 'a port is 1 to 65535'
    address = _address(host)
    if address is None:
        return f'{host!r} has no address'
    if transport.startswith('TCP'):
        return _refuses_tcp(address, int(port_text))
    return _refuses_udp(address, int(port_text))


def _address(host: str) -> tuple[socket.AddressFamily, str] | None:
    try:
        found = socket.getaddrinfo(host.strip(), None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    return found[0][0], found[0][4][0]


def _refuses_udp(address: tuple[socket.AddressFamily, str], port: int) -> str | None:
    """A host tells by ICMP that nobody listens; one that is off, or behind a filter, tells nothing."""
    with socket.socket(address[0], socket.SOCK_DGRAM) as probe:
        probe.settimeout(_WAIT_S)
        try:
            probe.connect((address[1], port))
            probe.send(_RTPS)
            probe.recv(1)
        except TimeoutError:
            return None
        except OSError as error:
            return f'nothing listens there ({error.strerror or error})'
    return None


def _refuses_tcp(address: tuple[socket.AddressFamily, str], port: int) -> str | None:
    with socket.socket(address[0], socket.SOCK_STREAM) as probe:
        probe.settimeout(3 * _WAIT_S)
        try:
            probe.connect((address[1], port))
        except TimeoutError:
            return None
        except OSError as error:
            return f'nothing listens there ({error.strerror or error})'
    return None
