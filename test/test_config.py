"""Defaults, ranges, and that YAML and dataclasses say the same; test/pages holds docs/ to them."""
import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from crossspec_ros.config import (NODES, DrafterConfig, MonitorConfig, PlayerConfig, VerifierConfig, check, make,
                                  parameters_of)
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.graph import check_params_file
from crossspec_ros.speculation.settings import EngineConfig

ROOT = Path(__file__).resolve().parents[1]


def test_make_without_values_is_the_defaults():
    assert make(DrafterConfig, {}) == DrafterConfig()


def test_make_takes_whole_numbers_for_times():
    assert make(DrafterConfig, {'draft.lead_ms': 200}).lead_ms == 200.0


@pytest.mark.parametrize('config, values, rule', [
    pytest.param(DrafterConfig, {'draft.lead_ms': -1.0}, 'draft.lead_ms must be 0 to 60000, got -1.0', id='too small'),
    pytest.param(DrafterConfig, {'draft.lead_ms': float('nan')}, 'must be 0 to 60000, got nan', id='not a number'),
    pytest.param(DrafterConfig, {'model.threads': 1.5}, 'model.threads must be int, got 1.5', id='fraction'),
    pytest.param(DrafterConfig, {'autostart': 1}, 'autostart must be bool, got 1', id='number for a truth value'),
    pytest.param(DrafterConfig, {'events.clock': 'ptp'}, 'events.clock must be one of estimated', id='choice'),
    pytest.param(DrafterConfig, {'draft.source': 'My drafter'},
                 "draft.source must be [a-z0-9_]{1,32}, got 'My drafter'",
                 id='pattern'),
    pytest.param(DrafterConfig, {'lead': 1.0}, "has no parameter 'lead'", id='unknown name'),
    pytest.param(VerifierConfig, {'window.frames': 4, 'window.stride_frames': 8},
                 'stride_frames must be 1 to window_frames',
                 id='together')])
def test_make_refuses(config, values, rule):
    with pytest.raises(CrossSpecError, match=re.escape(rule)):
        make(config, values)


@pytest.mark.parametrize('node', NODES)
def test_defaults_keep_their_own_rules(node):
    for info in parameters_of(NODES[node]):
        assert check(info, info.default) == info.default
        assert info.description and not info.description.endswith('.')


@pytest.mark.parametrize('node', NODES)
def test_parameter_names_are_unique(node):
    names = [info.name for info in parameters_of(NODES[node])]
    groups = [field for field in dataclasses.fields(NODES[node]) if 'group' in field.metadata]
    inner = [field for group in groups for field in dataclasses.fields(group.default_factory)
             if field.name not in group.metadata['without']]
    assert len(names) == len(set(names)) == len(dataclasses.fields(NODES[node])) - len(groups) + len(inner)


def test_every_setting_of_the_engine_is_a_parameter_of_the_verifier():
    infos = {info.name: info for info in parameters_of(VerifierConfig)}
    settings = [field.name for field in dataclasses.fields(EngineConfig) if field.name != 'window_frames']
    assert settings and 'decode.window_frames' not in infos
    for name in settings:
        info = infos[f'decode.{name}']
        assert info.field == f'decode.{name}' and info.default == getattr(EngineConfig(), name)
    for name, value in {'exactness': 'certified', 'block': 8, 'memory_captions': 5, 'sources': ['drafts'],
                        'max_new_tokens': 7, 'speculate': False, 'near_tie': 0.5}.items():
        wanted = tuple(value) if isinstance(value, list) else value
        assert getattr(make(VerifierConfig, {f'decode.{name}': value}).decode, name) == wanted


@pytest.mark.parametrize('given, kept', [([''], ()), ([], ()), (['', '.'], ('.',))], ids=['ROS', 'none', 'one'])
def test_stop_strings_of_ros_that_are_empty_are_none(given, kept):
    assert make(VerifierConfig, {'decode.stop_strings': given}).decode.stop_strings == kept


@pytest.mark.parametrize('name, value, rule', [
    pytest.param('stop_strings', 'abc', "stop_strings must be a list of strings, got 'abc'", id='a text for a list'),
    pytest.param('sources', ['oracle'], 'sources must be among', id='source'),
    pytest.param('sources', ['drafts', 'drafts'], 'named once each', id='source twice'),
    pytest.param('exactness', 'maybe', 'exactness must be one of auto, certified', id='exactness'),
    pytest.param('block', 1, 'block must be 2 to 256', id='block'),
    pytest.param('max_new_tokens', 0, 'max_new_tokens must be 1 to 4096', id='length')])
def test_bad_setting_of_the_engine_is_refused(name, value, rule):
    with pytest.raises(CrossSpecError, match=re.escape(rule)):
        make(VerifierConfig, {f'decode.{name}': value})
    with pytest.raises(CrossSpecError, match=re.escape(rule)):
        EngineConfig(**{name: value})


def test_nodes_agree_on_windows_and_deadlines():
    grids = {make(NODES[node], {}).grid() for node in ('drafter', 'qualifier', 'verifier', 'overlay', 'monitor')}
    assert len(grids) == 1
    # A subscriber that asks for a shorter deadline than is offered gets nothing at all.
    assert MonitorConfig().draft_deadline_ms >= DrafterConfig().deadline_ms > grids.pop().stride_ns / 1e6
    assert MonitorConfig().caption_deadline_ms >= VerifierConfig().deadline_ms


@pytest.mark.parametrize('path', sorted((ROOT / 'config').glob('*.yaml')), ids=lambda path: path.name)
def test_yaml_files_set_what_exists(path):
    check_params_file(path)


def test_yaml_file_with_a_wrong_value_is_told(tmp_path):
    path = tmp_path / 'p.yaml'
    path.write_text('/**/drafter:\n  ros__parameters:\n    draft:\n      lead_ms: -5.0\n')
    with pytest.raises(CrossSpecError, match=r'p.yaml, /\*\*/drafter: draft.lead_ms must be 0 to 60000'):
        check_params_file(path)


@pytest.mark.parametrize('text, rule', [pytest.param('a: [', 'must be YAML', id='no yaml'),
                                        pytest.param(None, 'must be readable', id='absent')])
def test_yaml_file_that_cannot_be_read_is_told(tmp_path, text, rule):
    path = tmp_path / 'p.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(CrossSpecError, match=rule):
        check_params_file(path)


def test_player_wall_clock_has_no_rate():
    assert PlayerConfig().rate == 1.0


def test_yaml_is_what_the_header_says():
    content = yaml.safe_load((ROOT / 'config' / 'crossspec.yaml').read_text(encoding='utf-8'))
    assert {key.rsplit('/', 1)[-1] for key in content} <= set(NODES)
