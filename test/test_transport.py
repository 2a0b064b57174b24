"""Readers and writers give the memory of messages back once they are read, with each profile of this package."""
import ctypes
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from crossspec_ros import transport
from crossspec_ros.demo.options import free_domain
from crossspec_ros.transport import (FROM_PROFILE, PROFILE, PUBLICATION, ROOM_BYTES, follow_profile,
                                     receive_by_datagrams)

ROOT = Path(__file__).resolve().parents[1]
OURS = str(ROOT / 'config' / 'fastdds.xml')
# Backlogs in which each place of the history has held a large message once, and what is held when all are read.
BACKLOGS = '''
import array, ctypes, os, time
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.process import starting

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ('arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks',
                                                     'fsmblks', 'uordblks', 'fordblks', 'keepcost')]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info

def held():
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd

with starting():
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
node, read = rclpy.create_node('reader'), []
executor = SingleThreadedExecutor()
executor.add_node(node)
subscription = node.create_subscription(EventPacket, 'events', lambda message: read.append(len(message.events)),
                                        qos.events())
publisher = node.create_publisher(EventPacket, 'events', qos.events())

def backlog(size):
    message, wanted = EventPacket(events=array.array('B', bytes(size))), len(read) + 200
    for _ in range(200):
        publisher.publish(message)
    until = time.monotonic() + 20.0
    while len(read) < wanted and time.monotonic() < until:
        executor.spin_once(timeout_sec=0.1)
    assert len(read) == wanted, (len(read), wanted)

while not publisher.get_subscription_count():
    executor.spin_once(timeout_sec=0.1)
backlog(1000)
before = held()
backlog(100_000)
print(held() - before, flush=True)
os._exit(0)
'''


def held_after_backlogs(**environment: str) -> int:
    """Bytes that a reader and a writer hold of messages that were read."""
    base = {name: value for name, value in os.environ.items() if name not in (FROM_PROFILE, PUBLICATION)}
    own = {'ROS_DOMAIN_ID': str(free_domain(30 + os.getpid() % 60)), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    done = subprocess.run([sys.executable, '-c', BACKLOGS], env=base | own | environment, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallinfo2'), reason='the C library does not tell what is held')
@pytest.mark.parametrize('profile', ['fastdds', 'fastdds_events', 'fastdds_link'])
def test_a_reader_holds_nothing_of_a_backlog_that_was_read(profile):
    assert held_after_backlogs(**{PROFILE: str(ROOT / 'config' / f'{profile}.xml')}) < 2_000_000    # of 20,000,000


@pytest.mark.parametrize('environment, follows', [
    pytest.param({PROFILE: OURS}, True, id='ours'),
    pytest.param({PROFILE: str(ROOT / 'config' / 'fastdds_link.xml')}, True, id='ours of a link'),
    pytest.param({PROFILE: OURS, PUBLICATION: 'SYNCHRONOUS'}, True, id='what the profile says anyway'),
    pytest.param({}, False, id='none'),
    pytest.param({PROFILE: '/none/such.xml'}, False, id='absent'),
    pytest.param({PROFILE: str(ROOT / 'package.xml')}, False, id='of the user'),
    pytest.param({PROFILE: OURS, FROM_PROFILE: '0'}, False, id='the user said no'),
    pytest.param({PROFILE: OURS, PUBLICATION: 'ASYNCHRONOUS'}, False, id='the user wants another mode'),
    pytest.param({PROFILE: str(ROOT / 'package.xml'), FROM_PROFILE: '1'}, True, id='the user said yes')])
def test_profiles_of_this_package_are_followed_unless_the_user_said_otherwise(monkeypatch, environment, follows):
    for name in (PROFILE, FROM_PROFILE, PUBLICATION):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert follow_profile() == follows
    assert (os.environ.get(FROM_PROFILE) == '1') == follows


def test_readers_of_events_have_the_general_profile_but_for_where_they_receive():
    general, of_events = (ElementTree.parse(ROOT / 'config' / name).getroot()
                          for name in ('fastdds.xml', 'fastdds_events.xml'))
    rtps = next(each for each in of_events.iter() if each.tag.endswith('}rtps'))
    only = next(each for each in rtps if each.tag.endswith('}defaultUnicastLocatorList'))
    assert [each.tag.rpartition('}')[2] for each in only.iter()][1:] == ['locator', 'udpv4']
    rtps.remove(only)
    assert parts(of_events) == parts(general)


def parts(root: ElementTree.Element) -> list[tuple[str, str]]:
    return [(each.tag, (each.text or '').strip()) for each in root.iter()]


@pytest.mark.parametrize('profile, used', [
    pytest.param(OURS, 'fastdds_events.xml', id='ours'),
    pytest.param(str(ROOT / 'config' / 'fastdds_events.xml'), 'fastdds_events.xml', id='asked for'),
    pytest.param(str(ROOT / 'config' / 'fastdds_link.xml'), 'fastdds_link.xml', id='of a link'),
    pytest.param('{folder}/fastdds.xml', 'fastdds.xml', id='of the user, of the same name'),
    pytest.param('', '', id='none')])
def test_readers_of_events_receive_by_datagrams_with_the_profile_of_this_package(monkeypatch, tmp_path, profile, used):
    (tmp_path / 'fastdds.xml').write_text('<dds/>')
    monkeypatch.setenv(PROFILE, profile.format(folder=tmp_path))
    monkeypatch.setattr(transport, 'socket_room', lambda: ROOM_BYTES)
    assert receive_by_datagrams() == (used == 'fastdds_events.xml')
    assert Path(os.environ[PROFILE]).name == used


def test_readers_of_events_stay_with_shared_memory_where_sockets_hold_little(monkeypatch):
    monkeypatch.setenv(PROFILE, OURS)
    monkeypatch.setattr(transport, 'socket_room', lambda: ROOM_BYTES - 1)
    assert not receive_by_datagrams() and Path(os.environ[PROFILE]).name == 'fastdds.xml'
