"""The configurations of other people's viewers, checked against the fields that these know."""
import json
from pathlib import Path

import pytest
import yaml
from rclpy.qos import QoSCompatibility, QoSProfile, QoSReliabilityPolicy, qos_check_compatible

from crossspec_ros.graph import ARGUMENTS, declare
from crossspec_ros.nodes import qos
from crossspec_ros.view.feed import ACCEPTANCE, AGES, DROPS

ROOT = Path(__file__).resolve().parents[2]
RVIZ = yaml.safe_load((ROOT / 'rviz' / 'crossspec.rviz').read_text(encoding='utf-8'))
MANAGER = RVIZ['Visualization Manager']
DISPLAYS = {each['Name']: each for each in MANAGER['Displays']}
DEFAULTS = {argument.name: argument.default for argument in ARGUMENTS}
# What RViz itself brings, with the properties that its Image display saves.
CLASSES = {'rviz_default_plugins/Image', 'rviz_default_plugins/MoveCamera', 'rviz_default_plugins/Orbit',
           'rviz_common/Displays'}
IMAGE = {'Class', 'Name', 'Enabled', 'Value', 'Topic', 'Max Value', 'Min Value', 'Median window', 'Normalize Range'}
TOPIC = {'Depth': range(1, 100), 'Durability Policy': ('Volatile',), 'History Policy': ('Keep Last',),
         'Reliability Policy': ('Reliable', 'Best Effort'), 'Value': None}


def classes(part) -> set[str]:
    if isinstance(part, dict):
        return {str(part['Class'])} - {''} if 'Class' in part else set().union(*map(classes, part.values()), set())
    return set().union(*map(classes, part), set()) if isinstance(part, list) else set()


def test_rviz_needs_nothing_that_may_be_absent():
    found = classes(RVIZ['Panels']) | classes(MANAGER['Displays']) | classes(MANAGER['Tools']) | classes(
        MANAGER['Views'])
    assert found == CLASSES


def test_rviz_opens_with_camera_and_captions_on():
    assert DISPLAYS['Captions']['Topic']['Value'] == f'/{DEFAULTS["namespace"]}/overlay/image'
    assert DISPLAYS['Camera']['Topic']['Value'] == DEFAULTS['image_topic']
    assert all(each['Enabled'] is True and each['Value'] is True for each in DISPLAYS.values())


@pytest.mark.parametrize('name', sorted(DISPLAYS))
def test_rviz_image_display_has_the_properties_that_it_knows(name):
    display = DISPLAYS[name]
    assert display['Class'] == 'rviz_default_plugins/Image' and set(display) == IMAGE
    assert set(display['Topic']) == set(TOPIC)
    assert all(choices is None or display['Topic'][key] in choices for key, choices in TOPIC.items())


def asked(display: dict) -> QoSProfile:
    reliable = display['Topic']['Reliability Policy'] == 'Reliable'
    return QoSProfile(depth=display['Topic']['Depth'], reliability=(
        QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT))


def matches(writer: QoSProfile, reader: QoSProfile) -> bool:
    return qos_check_compatible(writer, reader)[0] != QoSCompatibility.ERROR


def test_rviz_captions_match_what_the_overlay_offers():
    best_effort = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    for reader in (asked(DISPLAYS['Captions']), best_effort):
        assert matches(qos.picture(), reader)
    assert not matches(best_effort, asked(DISPLAYS['Captions']))        # the check can fail


@pytest.mark.parametrize('camera', [pytest.param(qos.image(), id='best effort driver'),
                                    pytest.param(qos.played_image(), id='player')])
def test_rviz_camera_matches_every_driver(camera):
    assert matches(camera, asked(DISPLAYS['Camera']))


def test_rviz_fixed_frame_is_that_of_the_pictures():
    from crossspec_ros.nodes.conversions import image_to
    import numpy as np
    assert MANAGER['Global Options']['Fixed Frame'] == image_to(np.zeros((2, 2, 3), np.uint8), 0).header.frame_id


def test_foxglove_layout_names_topics_and_panels_that_are_there():
    layout = json.loads((ROOT / 'config' / 'foxglove_layout.json').read_text(encoding='utf-8'))
    placed = []

    def walk(part):
        if isinstance(part, str):
            placed.append(part)
        else:
            assert part['direction'] in ('row', 'column') and 0 < part['splitPercentage'] < 100
            walk(part['first']), walk(part['second'])

    walk(layout['layout'])
    assert sorted(placed) == sorted(layout['configById'])
    text = json.dumps(layout)
    for topic in ('camera', 'events', 'caption', 'log', AGES, ACCEPTANCE, DROPS):
        assert f'"/{topic}' in text


def test_viewer_is_there_when_asked_for_only():
    assert 'viewer' not in {spec.name for spec in declare()}
    spec, = (spec for spec in declare({'viewer': 'true', 'image_transport': 'compressed'}) if spec.name == 'viewer')
    assert spec.parameters['image_transport'] == 'compressed'
