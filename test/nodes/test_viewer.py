"""The viewer node as a process over real DDS: what reaches a browser, Foxglove and a file, and what is left behind."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from graph_harness import Probe, Processes
from live_view import documents, entities, hear, listening, wait_for
from std_msgs.msg import String

from crossspec_ros.demo.options import free_domain
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.nodes import qos, viewer
from crossspec_ros.nodes.conversions import caption_to, draft_to, image_to
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage

CHROMIUM = Path('/usr/bin/chromium')
needs_rerun = pytest.mark.skipif(viewer.importlib.util.find_spec('rerun') is None, reason='rerun-sdk is not installed')


class Scene:
    """A viewer, and a graph of the test's own: one window, said again and again."""

    def __init__(self, folder: Path, **parameters: object) -> None:
        self.folder = folder
        self.processes = Processes(folder, free_domain(31 + os.getpid() % 40))
        self.process = self.processes.start('viewer', **parameters)
        self.probe = Probe(self.processes.domain_id)
        self._drafts = self.probe.publisher(DraftMsg, 'draft', qos.draft())
        self._captions = self.probe.publisher(CaptionMsg, 'caption', qos.caption())
        self.probe.publisher(String, 'prompt', qos.prompt()).publish(String(data='what *now*?\x1b[2J'))

    def say(self, *_: object) -> None:
        """An image, a draft and its caption of the newest window."""
        window = time.time_ns() // 1_000_000_000
        end_ns = window * 1_000_000_000
        self.probe.images.publish(image_to(np.full((48, 64, 3), window % 255, np.uint8), time.time_ns()))
        self._drafts.publish(draft_to(Draft(window, end_ns, 0, '', '', 'a red truck', ())))
        self._captions.publish(caption_to(Caption(window, end_ns, Stage.FINAL, 'a red <b>car\x1b[31m', 10, (),
                                                  Mode.CROSS_MODAL, True)))

    def told(self, key: str) -> str:
        """What the viewer's diagnostics have under a key."""
        return self.probe.diagnostics.get('/viewer', {}).get(key, '')

    def wait_until_there(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.processes.log('viewer')
            self.say()
            time.sleep(0.1)
            return int(self.told('looks') or 0) > 3
        wait_for(ready, 'the viewer', 120.0)

    def pids(self) -> list[int]:
        return [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children(recursive=True))]

    def close(self) -> None:
        self.processes.close()
        self.probe.close()


@pytest.fixture
def scene(tmp_path):
    """Makes a scene; ends it."""
    made = []

    def make(**parameters) -> Scene:
        made.append(Scene(tmp_path, **{'port': 0, 'foxglove_port': 0, **parameters}))
        return made[0]

    yield make
    for each in made:
        each.close()


@needs_rerun
def test_viewer_shows_the_graph_and_leaves_nothing_behind(scene, tmp_path):
    pytest.importorskip('foxglove', reason='foxglove-sdk is not installed here')
    live = scene(foxglove=True, save_path=str(tmp_path / 'live.rrd'))
    live.wait_until_there()
    pids = live.pids()
    port = int(live.told('websocket').rsplit(':', 1)[1])
    mine, servers = listening(iter(pids[:1])), listening(iter(pids[1:]))
    assert {address for address, _ in servers} == {'127.0.0.1'} and len(servers) == 2
    assert ('127.0.0.1', port) in mine and ('127.0.0.1', int(live.told('page').split(':')[2].strip('/'))) in mine
    # Fast DDS listens at one TCP port for large messages, in this node as in every other.
    assert len([address for address, _ in mine if address != '127.0.0.1']) <= 1
    message = hear(port, '/caption', live.say)
    assert message['verified'] == 'a red <b>car\N{REPLACEMENT CHARACTER}[31m'
    assert message['question'] == 'what *now*?\N{REPLACEMENT CHARACTER}[2J'
    assert live.processes.end('viewer') == 0, live.processes.log('viewer')
    assert not any(psutil.pid_exists(pid) for pid in pids[1:])
    assert any('a red' in text and '~~truck~~' in text for text in documents(tmp_path / 'live.rrd', '/corrected'))
    assert '/camera' in entities(tmp_path / 'live.rrd')


@needs_rerun
@pytest.mark.skipif(sys.platform != 'linux', reason='the death signal is of Linux')
def test_viewer_that_is_killed_takes_its_server_with_it(scene):
    live = scene()
    live.wait_until_there()
    children = live.pids()[1:]
    assert children
    live.processes.kill('viewer')
    wait_for(lambda: not any(map(psutil.pid_exists, children)), 'the end of the server')


@needs_rerun
def test_viewer_whose_server_dies_ends_and_says_so(scene):
    live = scene()
    live.wait_until_there()
    for pid in live.pids()[1:]:
        os.kill(pid, signal.SIGKILL)
    assert live.process.wait(60) == 2
    assert 'the server of Rerun has ended' in live.processes.log('viewer')


@needs_rerun
@pytest.mark.skipif(not CHROMIUM.exists(), reason='Chromium is not installed here')
def test_page_shows_data_in_headless_chromium_and_calls_nobody_else(scene, tmp_path):
    api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed here')
    live = scene()
    live.wait_until_there()
    requests, failed = [], []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[
            '--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'])
        page = browser.new_page(viewport={'width': 640, 'height': 400})
        page.on('request', lambda request: requests.append(request))
        page.on('requestfailed', lambda request: failed.append(request))
        page.goto(live.told('page'), timeout=120_000)
        reading = [None]

        def asked() -> bool:
            live.say()
            page.wait_for_timeout(200)
            reading[0] = next((each for each in requests if each.url.endswith('/ReadMessages')), None)
            return reading[0] is not None and reading[0].response() is not None
        wait_for(asked, 'the page asking for data', 240.0)
        assert reading[0].response().status == 200
        assert page.locator('#the_canvas_id.visible').count() == 1
        browser.close()
    elsewhere = [each for each in requests if '127.0.0.1' not in each.url and not each.url.startswith(('blob', 'data'))]
    assert all(each in failed for each in elsewhere), [each.url for each in elsewhere]


def test_viewer_without_rerun_says_what_to_install(monkeypatch):
    monkeypatch.setattr(viewer.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(CrossSpecError, match=r"pip install 'crossspec_ros\[view\]'") as caught:
        viewer.require('rerun', 'rerun-sdk')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('parameters, rule', [
    pytest.param({'bind': 'everywhere'}, 'bind must be an IP address', id='bind'),
    pytest.param({'rerun': False}, 'one of rerun, foxglove and save_path must be set', id='nothing to show')])
def test_viewer_refuses_in_one_line(scene, parameters, rule):
    live = scene(**parameters)
    assert live.process.wait(60) == 2
    lines = [line for line in live.processes.log('viewer').splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and rule in lines[0]


def test_off_costs_nothing():
    code = ('import sys\nfrom crossspec_ros.nodes import overlay, player, viewer\nfrom crossspec_ros import graph\n'
            "graph.declare()\nprint(sorted({'rerun', 'foxglove', 'pyarrow'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == '[]'
