"""The policy of SROS2: the file is what the declaration gives, and no node is forgotten."""
from pathlib import Path
from xml.etree import ElementTree

from crossspec_ros.config import NODES
from crossspec_ros.graph import declare
from crossspec_ros.security import ACCESS, policy

POLICY = Path(__file__).parents[1] / 'config' / 'sros2_policy.xml'
ALL = {'viewer': 'true', 'keep': 'true', 'qualifier': 'builtin', 'bag': 'world:1'}


def enclaves(text: str) -> dict[str, ElementTree.Element]:
    return {each.get('path'): each for each in ElementTree.fromstring(text).iter('enclave')}


def test_the_file_is_what_crossspec_up_writes():
    assert POLICY.read_text(encoding='utf-8') == policy(declare(ALL)), (
        'crossspec up --policy config/sros2_policy.xml --view --keep true --qualifier builtin --bag world:1')


def test_every_node_has_access_of_its_own():
    assert set(ACCESS) == set(NODES)
    assert set(enclaves(policy(declare(ALL)))) == {f'/crossspec/{name}' for name in (*NODES, 'operator')}


def test_only_the_verifier_may_publish_captions():
    who = [profile.get('node') for profile in ElementTree.fromstring(POLICY.read_text(encoding='utf-8')).iter('profile')
           for topics in profile.iter('topics') if topics.get('publish')
           for topic in topics if topic.text in ('/crossspec/caption', '/*')]
    assert who == ['verifier']


def test_several_cameras_share_the_enclave_of_their_verifier_and_have_topics_of_their_own():
    found = enclaves(policy(declare({'cameras': 'front,left=/side'})))
    profiles = {profile.get('ns'): profile for profile in found['/crossspec/verifier'].iter('profile')}
    assert set(profiles) == {'/crossspec/front', '/crossspec/left'}
    topics = {topic.text for topic in profiles['/crossspec/left'].iter('topic')}
    assert {'/crossspec/left/caption', '/side/camera/image_raw'} <= topics and '/crossspec/front/caption' not in topics
    assert '/crossspec/front/drafter' in found


def test_secure_gives_each_process_its_enclave():
    for spec in declare(ALL | {'secure': 'true'}):
        assert spec.ros_arguments()[spec.ros_arguments().index('--enclave') + 1] == spec.full_name
    assert all('--enclave' not in spec.ros_arguments() for spec in declare(ALL))
