"""A process's part: off it is nothing, on it is whole, bounded, and survives the end of its process."""
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from trace_rules import broken

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.tracing import tracer
from crossspec_ros.tracing.timeline import join, read_part, read_parts
from crossspec_ros.tracing.tracer import Tracer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def traced(tmp_path):
    """A tracer that writes, and its folder."""
    made = Tracer()
    made.open(tmp_path / 'parts', '/crossspec/verifier')
    yield made, tmp_path / 'parts'
    made.close()


def test_off_a_span_is_the_same_nothing_each_time():
    off = Tracer()
    assert off.span('a', window=1) is off.span('b')
    with off.span('a'):
        off.instant('c')
    assert not off._waiting and off._on_gc not in gc.callbacks


def test_part_is_the_format_s_array_and_names_process_and_threads(traced):
    made, folder = traced
    with made.span('outer', window=3):
        with made.span('inner'):
            made.instant('mark', slot=4)
    thread = threading.Thread(target=lambda: made.instant('elsewhere'), name='other')
    thread.start()
    thread.join()
    made.close()
    path, = folder.iterdir()
    events = json.loads(path.read_text().rstrip().rstrip(',') + ']')
    assert path.name == f'crossspec.verifier-{os.getpid()}.json'
    assert {event['args']['name'] for event in events if event['name'] == 'thread_name'} >= {'MainThread', 'other'}
    assert [event['args'] for event in events if event['name'] in ('outer', 'mark')] == [{'slot': 4}, {'window': 3}]
    timeline = join(read_parts(folder))
    assert not broken(timeline.events)
    outer, inner = timeline.slices('outer')[0], timeline.slices('inner')[0]
    assert outer['ts'] <= inner['ts'] and 0 <= inner['tdur'] <= outer['tdur'] <= outer['dur'] + 1e3


def test_times_are_those_of_the_system_clock(traced):
    made, folder = traced
    before_ns = time.time_ns()
    made.instant('now')
    after_ns = time.time_ns()
    made.close()
    timeline = join(read_parts(folder))
    event, = timeline.instants('now')
    assert before_ns - 5_000_000 <= timeline.zero_ns + event['ts'] * 1000 <= after_ns + 5_000_000


def test_collections_of_garbage_are_slices(traced, monkeypatch):
    made, folder = traced
    monkeypatch.setattr(tracer, '_SHORT_NS', 0)
    with made.span('work'):
        gc.collect()
    made.close()
    timeline = join(read_parts(folder))
    assert any(event['args']['generation'] == 2 for event in timeline.slices('gc')) and not broken(timeline.events)


def test_part_of_a_killed_process_can_be_read(tmp_path):
    code = ('import sys, time; from crossspec_ros.tracing.tracer import TRACER\n'
            'TRACER.open(sys.argv[1], "node")\n'
            'while True:\n'
            '    with TRACER.span("work", text="x" * 50): time.sleep(0.0005)\n')
    process = subprocess.Popen([sys.executable, '-c', code, str(tmp_path)], env={**os.environ, 'PYTHONPATH': str(ROOT)})
    try:
        until = time.monotonic() + 60
        while not any(path.stat().st_size > 20_000 for path in tmp_path.iterdir()):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    part, = read_parts(tmp_path)
    assert part.name == 'node' and part.pid == process.pid and len(part.events) > 50 and part.torn <= 1
    assert not broken(join([part]).events)


def test_a_torn_line_is_left_out_and_counted(traced):
    made, folder = traced
    made.instant('kept')
    made.close()
    path, = folder.iterdir()
    path.write_text(path.read_text() + '{"name":"torn","ph":"X","ts":12')
    part = read_part(path)
    assert part.torn == 1 and [event['name'] for event in part.events if event['ph'] == 'i'] == ['kept']


def test_a_part_is_bounded_and_keeps_the_newest(tmp_path):
    made = Tracer()
    made.open(tmp_path, 'node', most_mb=1)
    for number in range(30):
        for _ in range(1000):
            made.instant('event', number=number)
        made._flush()
    made.close()
    files = list(tmp_path.iterdir())
    assert len(files) == 2 and sum(path.stat().st_size for path in files) < 1_300_000
    timeline = join(read_parts(tmp_path))
    numbers = [event['args']['number'] for event in timeline.instants('event')]
    assert numbers == sorted(numbers) and numbers[-1] == 29 and numbers[0] > 0
    assert len({event['pid'] for event in timeline.events}) == 1 and not broken(timeline.events)


def test_events_that_nobody_writes_are_counted_and_not_kept(traced, monkeypatch):
    made, _ = traced
    monkeypatch.setattr(tracer, '_WAITING', 10)
    with made._lock:                                            # the writer waits
        for _ in range(25):
            made.instant('event')
        assert made.lost == 15 and len(made._waiting) == 10


def test_a_disk_that_refuses_ends_the_part_and_not_the_process(traced, caplog):
    made, _ = traced
    made._file.close()
    made._file = open('/dev/full', 'wb', buffering=0)
    made.instant('event')
    made._flush()
    assert not made.on and 'the trace of this process ends here' in caplog.text
    made.instant('event')


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(CrossSpecError, match='trace.folder must be a folder that can be written'):
        Tracer().open(tmp_path / 'file' / 'parts', 'node')


def test_a_folder_without_parts_is_refused(tmp_path):
    with pytest.raises(CrossSpecError, match='has none'):
        read_parts(tmp_path)
