"""The screens of the live view: Rerun's server, its files, Foxglove's websocket, and who may reach them."""
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import psutil
import pytest
from live_view import WebSocket, documents, entities, hear, listening, wait_for

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.view.addresses import check_address, check_port
from crossspec_ros.view.feed import Corrected, Line, Look, Value, Words
from crossspec_ros.view.words import Fate, Run

S = 1_000_000_000
RUNS = (Run(Fate.KEPT, 'a'), Run(Fate.STRUCK, 'red *truck*'), Run(Fate.ADDED, '<b>car'), Run(Fate.OPEN, 'ahead'))
WORDS = Words('what?', 'a car', 'ahead [x](y)', 'cross_modal', (Corrected('12:00:01', 'draft +5 ms', RUNS),))


def look(stamp_ns: int = S, words: Words | None = WORDS, jpeg: bytes = b'') -> Look:
    return Look(stamp_ns, {'camera': jpeg} if jpeg else {}, words, [Value('ages', 'draft', 5.0, stamp_ns)],
                [Line('warn', 'verifier', 'no image', stamp_ns)], {'verifier': 'warn'})


def noise(size: int = 480) -> bytes:
    import cv2
    picture = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    return cv2.imencode('.jpg', picture)[1].tobytes()


def test_rerun_file_holds_the_words_escaped_and_everything_else(tmp_path):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed here')
    from crossspec_ros.view.rerun_screen import RerunScreen
    screen = RerunScreen(path=str(tmp_path / 'a.rrd'))
    assert screen.show(look(jpeg=noise(64)))
    screen.close()
    caption, = documents(tmp_path / 'a.rrd', '/caption')
    assert '**a car** *ahead \\[x\\]\\(y\\)*' in caption
    corrected, = documents(tmp_path / 'a.rrd', '/corrected')
    assert '**a** ~~red \\*truck\\*~~ ***\\<b\\>car*** *ahead*' in corrected
    assert {'/camera', '/ages/draft', '/states/verifier', '/log'} <= entities(tmp_path / 'a.rrd')


def test_rerun_file_ends_at_its_limit(tmp_path):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed here')
    from crossspec_ros.view.rerun_screen import RerunScreen
    path, picture = tmp_path / 'a.rrd', noise()
    screen = RerunScreen(path=str(path), limit_bytes=2_000_000)
    for i in range(100):
        assert screen.show(look(i * S, jpeg=picture))
    assert screen.full and path.stat().st_size < 4_000_000
    screen.close()
    assert documents(path, '/caption')


def test_rerun_screen_that_cannot_write_says_so(tmp_path):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed here')
    from crossspec_ros.view.rerun_screen import RerunScreen
    with pytest.raises(CrossSpecError, match='cannot be written'):
        RerunScreen(path=str(tmp_path / 'none' / 'a.rrd'))


@pytest.fixture
def server():
    pytest.importorskip('rerun', reason='rerun-sdk is not installed here')
    from crossspec_ros.view.rerun_server import RerunServer
    server = RerunServer('127.0.0.1', 0, 64)
    yield server
    os.kill(server.pid, signal.SIGCONT)
    server.close()
    assert not server.running


def test_server_listens_on_its_address_only(server):
    found = listening(iter([server.pid, os.getpid()]))
    mine = {each for each in found if each in listening(iter([server.pid])) or each[1] == server.port}
    assert len(mine) == 3 and {address for address, _ in mine} == {'127.0.0.1'}


def test_page_leads_to_the_data_and_may_call_nobody_else(server):
    with urllib.request.urlopen(f'http://localhost:{server.port}/', timeout=60) as answer:
        policy, text = answer.headers['Content-Security-Policy'], answer.read().decode()
    port = server.data_url.rsplit(':', 1)[1].split('/')[0]
    assert f'rerun%2Bhttp%3A%2F%2Flocalhost%3A{port}%2Fproxy' in answer.url and 'Rerun' in text
    assert f'http://localhost:{port}' in policy and 'https' not in policy and '*' not in policy


def test_page_refuses_a_host_that_is_none(server):
    request = urllib.request.Request(f'http://127.0.0.1:{server.port}/', headers={'Host': 'a b<script>'})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 400


def test_server_that_stands_still_is_told_less_and_nothing_piles_up(server):
    from crossspec_ros.view.rerun_screen import RerunScreen
    screen, picture = RerunScreen(url=server.data_url), noise()
    wait_for(lambda: screen.show(look(jpeg=picture)) and screen.show(look(jpeg=picture)), 'a look taken in')
    os.kill(server.pid, signal.SIGSTOP)
    wait_for(lambda: not screen.show(look(jpeg=picture)), 'a look left out')
    before = psutil.Process().memory_info().rss
    assert not any(screen.show(look(jpeg=picture)) for _ in range(8))
    assert psutil.Process().memory_info().rss - before < 20_000_000
    os.kill(server.pid, signal.SIGCONT)
    wait_for(lambda: screen.show(look(jpeg=picture)), 'a look taken in again')
    screen.close()


def test_server_sends_no_usage_statistics(server):
    environment = psutil.Process(server.pid).environ()
    folder = environment['XDG_CONFIG_HOME']
    with open(f'{folder}/rerun/analytics.json', encoding='utf-8') as file:
        assert '"analytics_enabled": false' in file.read()
    assert 'crossspec-view-' in folder


@pytest.mark.skipif(sys.platform != 'linux', reason='the death signal is of Linux')
def test_server_dies_with_the_process_that_started_it():
    pytest.importorskip('rerun', reason='rerun-sdk is not installed here')
    code = ('import time\nfrom crossspec_ros.view.rerun_server import RerunServer\n'
            "print(RerunServer('127.0.0.1', 0, 64).pid, flush=True)\ntime.sleep(600)\n")
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 'its end')


def test_ports_in_use_and_addresses_that_are_none_are_told():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(CrossSpecError, match='port must be one that is free at 127.0.0.1'):
            check_port('127.0.0.1', taken.getsockname()[1])
    assert check_port('127.0.0.1', 0) > 0
    with pytest.raises(CrossSpecError, match='bind must be an IP address'):
        check_address('everywhere')


@pytest.fixture
def foxglove():
    pytest.importorskip('foxglove', reason='foxglove-sdk is not installed here')
    from crossspec_ros.view.foxglove_screen import FoxgloveScreen
    screen = FoxgloveScreen('127.0.0.1', 0)
    yield screen
    screen.close()


def test_foxglove_client_hears_the_caption(foxglove):
    message = hear(foxglove.port, '/caption', lambda: foxglove.show(look()))
    assert (message['verified'], message['drafted']) == ('a car', 'ahead [x](y)')
    assert [word['fate'] for word in message['corrected'][0]['words']] == ['kept', 'struck', 'added', 'open']


def test_foxglove_client_hears_values(foxglove):
    assert hear(foxglove.port, '/ages', lambda: foxglove.show(look())) == {'name': 'draft', 'value': 5.0}


def test_foxglove_listens_on_its_address_only_and_takes_its_own_protocol(foxglove):
    assert {address for address, port in listening(iter([os.getpid()])) if port == foxglove.port} == {'127.0.0.1'}
    client = WebSocket(foxglove.port, 'something.else')
    client.close()
    assert '101' not in client.status
