"""Findings of doctor: what is broken is named, and only what the main job needs decides the exit code."""
import json
import struct
from datetime import date

import pytest

from crossspec_ros import cli
from crossspec_ros.commands import doctor, doctor_checks
from crossspec_ros.commands.doctor_checks import MISSING, NOTE, OK, WARN, Check
from crossspec_ros.graph import fastdds_profile


def _safetensors(payload: bytes = b'\0' * 8) -> bytes:
    header = json.dumps({'w': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}}).encode()
    return struct.pack('<Q', len(header)) + header + payload


@pytest.mark.parametrize(('data', 'fault'), [
    pytest.param(_safetensors(), None, id='whole'),
    pytest.param(_safetensors(b'\0' * 5), 'its header says', id='cut'),
    pytest.param(_safetensors(b'\0' * 9), 'its header says', id='too_long'),
    pytest.param(b'\xff' * 40, 'header of', id='random_bytes'),
    pytest.param(struct.pack('<Q', 4) + b'nope', 'not JSON', id='header_not_json'),
    pytest.param(b'', 'header of', id='empty'),
])
def test_safetensors_fault_compares_header_and_size(tmp_path, data, fault):
    path = tmp_path / 'model.safetensors'
    path.write_bytes(data)
    found = doctor_checks.safetensors_fault(path)
    assert found is None if fault is None else fault in found


@pytest.mark.parametrize(('env', 'status', 'word'), [
    pytest.param({}, NOTE, 'not set', id='not_set'),
    pytest.param({'FASTDDS_DEFAULT_PROFILES_FILE': '{folder}/none.xml'}, WARN, 'No such file', id='no_file'),
    pytest.param({'FASTDDS_DEFAULT_PROFILES_FILE': '{folder}/plain.xml'}, WARN, 'LARGE_DATA', id='without_large_data'),
    pytest.param({'FASTDDS_DEFAULT_PROFILES_FILE': '{folder}/large.xml'}, OK, 'large.xml', id='good'),
    pytest.param({'FASTDDS_DEFAULT_PROFILES_FILE': str(fastdds_profile())}, OK, 'fastdds.xml', id='ours'),
])
def test_check_dds_profile_reads_the_file(tmp_path, monkeypatch, env, status, word):
    (tmp_path / 'plain.xml').write_text('<dds/>')
    (tmp_path / 'large.xml').write_text('<dds>LARGE_DATA</dds>')
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value.format(folder=tmp_path))
    check = doctor_checks.check_dds_profile()
    assert check.status == status and word in check.value


def test_dead_segments_leaves_out_what_a_process_holds(tmp_path):
    shm, proc = tmp_path / 'shm', tmp_path / 'proc'
    (proc / '12' / 'fd').mkdir(parents=True)
    shm.mkdir()
    for name in ('fastdds_mapped', 'fastdds_open', 'fastdds_dead', 'sem.fastdds_dead', 'other'):
        (shm / name).write_bytes(b'')
    (proc / '12' / 'maps').write_text(f'7f00-7f01 rw-s 00000000 00:1b 5  {shm}/fastdds_mapped\n')
    (proc / '12' / 'fd' / '3').symlink_to(shm / 'fastdds_open')
    assert [path.name for path in doctor_checks.dead_segments(shm, proc)] == ['fastdds_dead', 'sem.fastdds_dead']


@pytest.mark.parametrize(('status', 'code'), [pytest.param(MISSING, 1, id='missing'),
                                              pytest.param(WARN, 0, id='warning')])
def test_doctor_exit_code_follows_what_is_needed(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, 'all_checks', lambda: [Check('thing', status, 'broken', 'mend it')])
    assert cli.main(['doctor']) == code
    assert '-> mend it' in capsys.readouterr().out
    assert cli.main(['doctor', '--json']) == code
    report = json.loads(capsys.readouterr().out)
    assert report['ok'] is (code == 0) and report['checks'][0]['advice'] == 'mend it'


def test_doctor_says_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(doctor_checks, 'REQUIRED', {'no_such_module_here': 'some-package'})
    monkeypatch.setattr(doctor_checks, 'OPTIONAL', {'no_such_option_here': 'for pictures'})
    checks = {check.name: check for check in doctor_checks.check_packages()}
    assert checks['no_such_module_here'].status == MISSING and 'some-package' in checks['no_such_module_here'].advice
    assert checks['no_such_option_here'].status == NOTE


def test_a_qualifier_is_looked_at_where_one_is_named(tmp_path, monkeypatch, capsys):
    from tiny_models import write_checkpoint
    middle = write_checkpoint(tmp_path / 'middle')
    (tmp_path / 'events').mkdir()
    (tmp_path / 'events' / 'config.json').write_text('{"model_type": "crossspec_event_drafter"}')
    (tmp_path / 'events' / 'model.safetensors').write_bytes(_safetensors())
    assert doctor_checks.check_qualifier(str(middle), 'builtin').status == OK
    assert 'the verifier itself' in doctor_checks.check_qualifier('builtin', 'builtin').value
    assert 'looks at events' in doctor_checks.check_qualifier(str(tmp_path / 'events'), 'builtin').value
    assert 'cannot be told' in doctor_checks.check_qualifier(str(tmp_path / 'none'), 'builtin').value
    monkeypatch.setattr(doctor, 'all_checks', lambda: [])
    cli.main(['doctor', '--qualifier', str(middle)])
    assert f'{middle}: video-language model' in capsys.readouterr().out


@pytest.mark.parametrize(('name', 'today', 'status', 'word'), [
    pytest.param('kilted', date(2026, 1, 1), OK, 'December 2026', id='long before'),
    pytest.param('kilted', date(2026, 11, 25), WARN, 'end in 36 days', id='near'),
    pytest.param('kilted', date(2027, 1, 1), WARN, 'no updates any more', id='after'),
    pytest.param('jazzy', date(2026, 11, 25), OK, 'May 2029', id='jazzy'),
    pytest.param('lyrical', date(2026, 11, 25), OK, 'May 2031', id='lyrical'),
    pytest.param('', date(2026, 11, 25), NOTE, 'not named', id='unknown')])
def test_distribution_says_how_long_it_gets_updates(name, today, status, word):
    check = doctor_checks.check_distribution(name, today)
    assert check.status == status and word in check.value
    assert ('lyrical' in check.advice) is (status == WARN or not name)


@pytest.mark.parametrize(('version', 'environment', 'name'), [
    pytest.param('9.1.2', {}, 'kilted', id='by version'), pytest.param('7.1.4', {}, 'jazzy', id='jazzy by version'),
    pytest.param('9.1.2', {'ROS_DISTRO': 'lyrical'}, 'lyrical', id='sourced'), pytest.param('', {}, '', id='neither')])
def test_distribution_is_named_by_what_is_sourced_or_by_rclpy(version, environment, name):
    assert doctor_checks.name_distribution(version, environment) == name


def test_check_that_fails_is_a_finding(monkeypatch):
    def check_thing():
        raise AttributeError('half installed')

    monkeypatch.setattr(doctor_checks, '_ALL', (check_thing, doctor_checks.check_python))
    broken, python = doctor_checks.all_checks()
    assert (broken.name, broken.status) == ('thing', MISSING) and 'half installed' in broken.value
    assert python.status == OK


def test_doctor_lists_what_is_wrong_in_the_shell_and_goes_on(monkeypatch, capfd):
    for name in ('CYCLONEDDS_URI', 'ROS_DISTRO'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp')
    monkeypatch.setenv('ROS_DOMAIN_ID', 'abc')
    monkeypatch.setenv('RCUTILS_COLORIZED_OUTPUT', 'yes')
    assert cli.main(['doctor', '--json']) == 1
    report = json.loads(capfd.readouterr().out)
    found = {check['name']: check for check in report['checks']}
    assert {'RMW_IMPLEMENTATION', 'ROS_DOMAIN_ID'} <= set(report['missing'])
    assert found['RCUTILS_COLORIZED_OUTPUT']['status'] == WARN and found['memory']['status'] in (OK, WARN)


def test_doctor_says_whether_the_drafter_is_for_the_verifier(tmp_path, capsys, monkeypatch):
    kind = '"model_type": "crossspec_event_drafter"'
    for name, config in (('other', f'{{{kind}, "verifier_key": "feed"}}'), ('silent', f'{{{kind}}}'), ('broken', '['),
                         ('eventgpt', '{"model_type": "EventChat_llama"}'), ('text', '{"model_type": "llama"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'config.json').write_text(config, encoding='utf-8')
    assert doctor_checks.check_pair('builtin', 'builtin').status == OK
    found = doctor_checks.check_pair('builtin', str(tmp_path / 'other'))
    assert found.status == WARN and 'not trained for this verifier' in found.value and 'learn' in found.advice
    assert doctor_checks.check_pair('builtin', str(tmp_path / 'silent')).status == NOTE
    found = doctor_checks.check_pair('builtin', str(tmp_path / 'eventgpt'))
    assert found.status == NOTE and 'EventGPT' in found.value and 'learn' in found.advice
    for model, drafter in (('builtin', 'broken'), ('builtin', 'none'), ('builtin', 'text'), ('none', 'other')):
        assert 'cannot be told' in doctor_checks.check_pair(model.replace('none', str(tmp_path / 'none')),
                                                            str(tmp_path / drafter)).value
    monkeypatch.setattr(doctor, 'all_checks', lambda: [])
    cli.main(['doctor', '--drafter-model', str(tmp_path / 'other')])
    assert 'not trained for this verifier' in capsys.readouterr().out
