"""The demo as a person runs it: real processes over real DDS, what they leave behind, and that none stays running."""
from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import psutil
import pytest
from shared_data import shared
from trace_rules import broken

from crossspec_ros.recordings.dsec_convert import convert
from crossspec_ros.recordings.dsec_make import make_sequence
from crossspec_ros.recordings.dsec_source import DsecOptions

pytest.importorskip('crossspec_ros.msg', reason='the messages are not built')
from tiny_pair import write_pair  # noqa: E402 - only where there are messages

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600
_ENDED = {0, -signal.SIGTERM, -signal.SIGKILL}          # which of them is a matter of how busy the machine is
pytestmark = pytest.mark.timeout(900)                   # models and processes on a machine that others use too


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Command-line words that name a tiny random pair."""
    verifier, drafter = write_pair(tmp_path_factory.mktemp('pair'))
    return ['--verifier', str(verifier), '--drafter', str(drafter)]


def _command(*words: str) -> list[str]:
    return [sys.executable, '-m', 'crossspec_ros.cli', 'demo', *words]


def _environment() -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}


def _run(out: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(_command('--json', '--out', str(out), *words), capture_output=True, text=True,
                          timeout=TIMEOUT_S, env=_environment())


def _demo(out: Path, *words: str) -> tuple[dict, subprocess.CompletedProcess]:
    done = _run(out, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done


@pytest.fixture(scope='module')
def world_demo(tmp_path_factory, pair):
    out = tmp_path_factory.mktemp('world') / 'demo'
    report, done = _demo(out, '--seconds', '8', '--trace', str(out.parent / 'trace.json'), *pair)
    return out, report, done


def test_demo_of_the_world_drafts_and_verifies_each_window(world_demo):
    _, report, done = world_demo
    assert report['windows'] == 8 and 1 <= report['captions'] <= 8
    # A machine under load may leave drafts out, and says of each why.
    told = Counter(report['dropped'].get('drafter', {})) + Counter(report['dropped'].get('monitor', {}))
    left_out = sum(told[cause] for cause in ('windows_skipped', 'drafts_given_up', 'drafts_overtaken'))
    assert 1 <= report['drafts'] <= 8 <= report['drafts'] + left_out
    # On a busy machine a window at the edge of the stream may be captioned, and checked, that the report leaves out.
    assert report['audit']['mismatched'] == 0 and report['audit']['checked'] >= report['captions']
    assert report['mode'] in ('cross_modal', 'verifier_only')
    assert set(report['rss_mb']) == {'player', 'drafter', 'verifier', 'overlay', 'monitor'}
    # A process too slow to end when told to is ended by a signal; none may end with an error of its own.
    assert set(report['exit_codes'].values()) <= _ENDED, done.stderr
    assert report['draft_age_ms']['p50'] <= report['draft_age_ms']['p95'] <= report['draft_age_ms']['p99']
    assert report['first_draft_ms'] > 0 and report['acceptance']['tau'] >= 1.0
    assert report['events']['/event_camera/events']['events'] > 10_000
    assert 'verified' in done.stderr and 'draft' in done.stderr       # the live lines go where stdout is not


def test_demo_leaves_a_report_a_table_and_a_film(world_demo):
    out, report, _ = world_demo
    assert json.loads((out / 'report.json').read_text()) == report
    page = (out / 'report.html').read_text()
    assert page.count('data:image/jpeg;base64,') >= 8
    rows = (out / 'latency.csv').read_text().splitlines()
    assert len(rows) >= 1 + report['windows']
    with av.open(str(out / 'overlay.mp4')) as film:
        frames = sum(1 for _ in film.decode(video=0))
    assert frames >= 10                                               # also where the overlay had to be killed


def test_demo_leaves_a_timeline_of_all_processes_and_the_path_of_each_caption(world_demo):
    out, report, _ = world_demo
    events = json.loads((out.parent / 'trace.json').read_text())['traceEvents']
    assert not broken(events)
    names = {event['args']['name'].rsplit('/')[-1] for event in events if event['name'] == 'process_name'}
    assert names == {'windows', 'player', 'verifier', 'drafter', 'monitor', 'overlay'}
    told = {event['name'] for event in events}
    assert told >= {'play', 'image arrives', 'unpack', 'slot settled', 'feed', 'encode', 'prefill', 'window whole',
                    'answer', 'propose', 'verify', 'accept', 'commit', 'publish', 'publish verdict', 'caption arrives',
                    'events arrives', 'decode', 'voxel grid', 'draft', 'draft forward', 'publish draft', 'draw', 'gc'}
    path = report['critical_path']
    ages = {window['window_id']: window['caption_age_ms'] for window in report['captions_by_window']}
    assert len(path['windows']) >= report['captions'] - 1
    for window in path['windows']:
        assert sum(window['stage_ms'].values()) == pytest.approx(window['age_ms'], abs=0.2)
        # one is of the verifier, the other of the middleware: far apart only where a clock was taken for another
        assert window['age_ms'] == pytest.approx(ages[window['window_id']], abs=300.0)
    page = (out / 'report.html').read_text()
    assert "Where each caption's age went" in page and 'Where the age went' in page


@pytest.mark.parametrize('name', [pytest.param('evt3_trigger', id='evt3'),
                                  pytest.param('mono_cd', id='mono', marks=pytest.mark.long),
                                  pytest.param('libcaer_rollover', id='libcaer', marks=pytest.mark.long)])
def test_demo_with_a_real_recording_drafts_from_its_events(tmp_path, pair, name):
    bag = shared(f'events/{name}')
    expected = json.loads((bag.parent / 'expected.json').read_text())[name]
    report, _ = _demo(tmp_path / 'out', '--bag', str(bag), *pair)
    assert report['mode'] == 'draft_only' and report['captions'] == 0
    assert report['windows'] >= 1 and report['drafts'] == report['windows']
    assert list(report['events'].values()) == [{'packets': expected['packets'], 'events': expected['n']}]
    # The stream begins on a window's end: what the estimate of the sensor's clock puts on or before it is in no window.
    used = sum(window['events_used'] for window in report['captions_by_window'])
    late = report['dropped'].get('drafter', {}).get('packets_late', 0)           # of a machine that had no core for it
    assert (0.98 - late / expected['packets']) * expected['n'] <= used <= expected['n']


def test_demo_with_a_converted_dsec_sequence_verifies_its_windows(tmp_path, pair):
    make_sequence(tmp_path / 'sequence', seconds=4.0)
    convert(tmp_path / 'sequence', tmp_path / 'bag', DsecOptions(images='compressed'))
    done = _run(tmp_path / 'out', '--bag', str(tmp_path / 'bag'), *pair)
    report = json.loads(done.stdout)
    dropped = report['dropped'].get('verifier', {})
    assert report['windows'] >= 4 and report['drafts'] >= 4
    assert report['audit']['mismatched'] == 0 and report['audit']['checked'] >= report['captions']
    assert not {'image_refused', 'frames_damaged'} & set(dropped)
    # 1440x1080 PNGs at 20 Hz: a machine under load may skip windows, even all of them, and says for which pictures
    if report['captions']:
        assert done.returncode == 0, done.stderr
    else:
        lost = sum(causes.get('image_lost', 0) for causes in report['dropped'].values())
        assert done.returncode == 1 and lost and f'image_lost {lost}' in report['reason'], done.stderr
    assert set(report['exit_codes'].values()) <= _ENDED, done.stderr


def test_demo_of_a_camera_too_slow_for_its_windows_fails_with_the_reason(tmp_path, pair):
    bag = shared('trouble/11_camera_at_3_hz') / 'b_0.mcap'
    done = _run(tmp_path / 'out', '--bag', str(bag), *pair)
    report = json.loads(done.stdout)
    assert (done.returncode, report['captions']) == (1, 0), done.stderr
    assert report['dropped']['verifier']['window_few_frames'] >= 3
    assert report['reason'].endswith('needs 8 images/s: set window.frame_interval_ms to 400')
    assert done.stderr.splitlines()[-1] == f'crossspec: error: {report["reason"]}'


@pytest.mark.parametrize('name', ['12_first_stamp_zero',
                                  pytest.param('13_clock_set_while_recording', marks=pytest.mark.long)])
def test_demo_of_a_recording_with_wrong_times_ends(tmp_path, pair, name):
    report, done = _demo(tmp_path / 'out', '--bag', str(shared(f'trouble/{name}') / 'b_0.mcap'), *pair)
    assert report['captions'] >= 1 and report['reason'] is None and 2 < report['stream_s'] < 4
    assert report['notes'] and all(note in done.stderr for note in report['notes'])


def _children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize('sign', [pytest.param(signal.SIGINT, id='ctrl_c'),
                                  pytest.param(signal.SIGTERM, id='terminated', marks=pytest.mark.long)])
def test_demo_interrupted_leaves_no_process_behind(tmp_path, pair, sign):
    demo = subprocess.Popen(_command('--out', str(tmp_path / 'out'), *pair), env=_environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True,
                            # a shell's background job starts with SIGINT ignored, and so would its children
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        until = time.monotonic() + 60
        while len(children := _children(demo.pid)) < 5:
            assert time.monotonic() < until and demo.poll() is None
            time.sleep(0.1)
        demo.send_signal(sign)
        output, _ = demo.communicate(timeout=120)
    finally:
        if demo.poll() is None:
            demo.kill()
    assert demo.returncode == 130, output
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert 'Traceback' not in output


def _frames(film: av.container.InputContainer) -> list[av.VideoFrame]:
    """What can be seen of a film whose last words may be torn."""
    frames = []
    with contextlib.suppress(av.error.InvalidDataError):
        for frame in film.decode(video=0):
            frames.append(frame)
    return frames


def test_demo_whose_overlay_is_killed_leaves_a_film_and_a_report(tmp_path, pair):
    out = tmp_path / 'out'
    demo = subprocess.Popen(_command('--out', str(out), '--seconds', '60', *pair), env=_environment(),
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 300
        while not (out / 'overlay.mp4').exists() or (out / 'overlay.mp4').stat().st_size < 20_000:
            assert time.monotonic() < until and demo.poll() is None
            time.sleep(0.1)
        overlay = next(child for child in _children(demo.pid) if 'nodes.overlay' in ' '.join(child.cmdline()))
        overlay.kill()
        output, _ = demo.communicate(timeout=120)
    finally:
        if demo.poll() is None:
            demo.kill()
    assert demo.returncode == 2 and 'the overlay process was ended by SIGKILL' in output
    with av.open(str(out / 'overlay.mp4')) as film:
        assert len(_frames(film)) >= 5
    report = json.loads((out / 'report.json').read_text())
    assert 'overlay' in report['unfinished'] and report['windows'] >= 1 and (out / 'report.html').exists()


def test_demo_with_a_broken_checkpoint_names_the_process_and_the_reason(tmp_path, pair):
    broken = tmp_path / 'broken'
    broken.mkdir()
    (broken / 'config.json').write_text('{"model_type": "nonsense"}')
    done = subprocess.run(_command('--out', str(tmp_path / 'out'), *pair[2:], '--verifier', str(broken)),
                          env=_environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 2
    assert 'the verifier process ended with exit code 2' in done.stderr and str(broken) in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('node', ['player', 'overlay', 'monitor'])
def test_light_nodes_do_not_load_the_models_libraries(node):
    code = f'import sys, crossspec_ros.nodes.{node}; print(sorted({{"torch", "transformers"}} & set(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, env=_environment())
    assert done.stdout.strip() == '[]', done.stderr


@pytest.mark.parametrize('checked, told', [(3, 'audit: 3 of 5 decoded again'), (5, 'audit: 5 decoded again')])
def test_closing_words_tell_of_captions_that_were_not_checked(checked, told):
    from crossspec_ros.demo.orchestrate import closing_words
    ages = {'p50': 1.0, 'p99': 2.0}
    words = closing_words({'windows': 5, 'drafts': 5, 'captions': 5, 'mode': 'cross_modal', 'draft_age_ms': ages,
                           'caption_age_ms': ages, 'acceptance': {'tau': 9.0}, 'rss_mb': {'verifier': 500.0},
                           'audit': {'checked': checked, 'mismatched': 0}}, Path('out'))
    assert told in words
