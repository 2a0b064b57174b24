"""``crossspec view``: what it starts, and the options of demo and up that bring the viewer along."""
import argparse
import shlex

import pytest

from crossspec_ros.commands import up, view
from crossspec_ros.demo.options import DemoOptions, SourceTopics, check
from crossspec_ros.demo.orchestrate import declare_nodes
from crossspec_ros.errors import CrossSpecError


def parse(module, name: str, *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())
    return parser.parse_args([name, *argv])


def settings(words: list[str]) -> dict[str, str]:
    return dict(word.split(':=', 1) for word in words if ':=' in word)


def test_view_listens_on_this_machine_only_by_default():
    found = settings(view.command(parse(view, 'view')))
    assert found['bind'] == "'127.0.0.1'" and found['rerun'] == 'true' and found['foxglove'] == 'false'
    assert found['__ns'] == '/crossspec'


def test_view_passes_its_options_on(tmp_path):
    found = settings(view.command(parse(
        view, 'view', '--bind', '0.0.0.0', '--port', '9500', '--save', str(tmp_path / 'a.rrd'), '--foxglove',
        '--foxglove-port', '9600', '--no-browser', '--namespace', 'car', '--image-topic', '/rgb', '--use-sim-time')))
    assert (found['bind'], found['port'], found['foxglove_port']) == ("'0.0.0.0'", '9500', '9600')
    assert found['save_path'] == f"'{tmp_path / 'a.rrd'}'" and found['rerun'] == 'false' and found['foxglove'] == 'true'
    assert (found['__ns'], found['image'], found['use_sim_time']) == ('/car', '/rgb', 'true')


@pytest.mark.parametrize('argv, rule', [
    pytest.param(['--port', '70000'], 'port must be', id='port'),
    pytest.param(['--rate', '0'], 'rate_hz must be', id='rate'),
    pytest.param(['--memory-mb', '1'], 'memory_mb must be', id='memory')])
def test_view_refuses(argv, rule):
    with pytest.raises(CrossSpecError, match=rule):
        view.command(parse(view, 'view', *argv))


def test_up_brings_the_viewer_when_asked(capsys):
    assert up.run(parse(up, 'up', '--print')) == 0
    assert 'nodes.viewer' not in capsys.readouterr().out
    assert up.run(parse(up, 'up', '--print', '--view', '--param', 'viewer:bind=0.0.0.0')) == 0
    line, = (line for line in capsys.readouterr().out.splitlines() if 'nodes.viewer' in line)
    assert settings(shlex.split(line))['bind'] == "'0.0.0.0'"


@pytest.mark.parametrize('port', [None, 0, 9500])
def test_demo_brings_the_viewer_when_asked(tmp_path, port):
    specs = {spec.name: spec for spec in declare_nodes(DemoOptions(out=tmp_path, view=port), SourceTopics(True, 'raw'),
                                                       tmp_path)}
    assert ('viewer' in specs) == (port is not None)
    if port is not None:
        assert specs['viewer'].parameters['port'] == port


def test_demo_refuses_a_port_that_is_none(tmp_path):
    with pytest.raises(CrossSpecError, match='view must be a port'):
        check(DemoOptions(out=tmp_path, view=70000))
