"""Real nodes as real processes over real DDS, with a camera of the test's own and an ear on every topic."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from event_camera_msgs.msg import EventPacket
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from crossspec_ros import children
from crossspec_ros.commands.doctor_checks import dead_segments
from crossspec_ros.demo.options import free_domain
from crossspec_ros.events.encode import encode_mono
from crossspec_ros.events.types import Events, Packet
from crossspec_ros.graph import node_command, node_environment
from crossspec_ros.models.drafter import DrafterConfig, EventDrafter
from crossspec_ros.models.tokenizer import load_tokenizer, tokenizer_key
from crossspec_ros.msg import Caption, Draft, Verdict, WindowLatency
from crossspec_ros.nodes import qos
from crossspec_ros.nodes.conversions import image_to, packet_to, to_time
from crossspec_ros.nodes.inquiry import Inquiry
from crossspec_ros.train.recipe import save_drafter
from tiny_models import write_checkpoint

MS = 1_000_000
# a loaded machine is slow; only a broken graph takes so long
PATIENCE_S = 120.0
TWO = ('drafter', 'verifier')                                 # the nodes that have models
_STARTED = re.compile(r'/(\w+) started, pid (\d+)')


def write_pair(folder: Path) -> dict[str, str]:
    """A tiny random verifier and a random drafter with its tokenizer; parameters ``model.path`` by node."""
    verifier = write_checkpoint(folder / 'verifier')
    tokenizer = load_tokenizer(verifier)
    config = DrafterConfig(tokenizer.get_vocab_size(), tokenizer_key(tokenizer), eos_token_id=1, height=32, width=32,
                           channels=(8, 8, 8, 8), dim=32, layers=1, heads=2, mlp_dim=32)
    torch.manual_seed(0)
    drafter = EventDrafter(config, tokenizer)
    with torch.no_grad():
        drafter.embed.weight[:6] = 0.0                          # special tokens are never the likeliest
    save_drafter(drafter, folder / 'drafter')
    return {'verifier': str(verifier), 'drafter': str(folder / 'drafter')}


class Processes:
    """Nodes as processes of one DDS domain, with their logs."""

    def __init__(self, folder: Path, domain_id: int) -> None:
        self.folder, self.domain_id = folder, domain_id
        self.environment = node_environment(domain_id=domain_id) | {'OMP_NUM_THREADS': '1'}
        self._running: dict[str, subprocess.Popen] = {}
        self._left: set[Path] = set()                           # shared memory of killed nodes, which nobody removes

    def start(self, kind: str, name: str = '', **parameters: Any) -> subprocess.Popen:
        """Start a node, by another ``name`` than its kind's where one is given.

        Parameter names have their dots as double underscores.
        """
        named = {key.replace('__', '.'): value for key, value in parameters.items()}
        command = node_command(kind, named, remaps={'__node': name} if name else None)
        with open(self.folder / f'{name or kind}.log', 'ab') as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
                                       preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self._running[name or kind] = process
        return process

    def log(self, name: str) -> str:
        return (self.folder / f'{name}.log').read_text(errors='replace')

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        maps = Path(f'/proc/{process.pid}/maps')
        if maps.exists():
            self._left |= {Path(line.split()[-1]) for line in maps.read_text().splitlines() if '/dev/shm/' in line}
        process.kill()
        process.wait()

    def end(self, name: str, timeout_s: float = 60.0) -> int:
        """SIGINT; returns the exit code."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def alive(self, name: str) -> bool:
        return self._running[name].poll() is None

    def close(self) -> None:
        children.end(self._running.values(), 15.0)
        self._running.clear()
        for path in self._left & set(dead_segments()):          # some were those of nodes that lived on
            path.unlink(missing_ok=True)


class Probe:
    """A node of the test: hears all, and publishes as cameras do. Its executor spins in a thread of its own."""

    def __init__(self, domain_id: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node('probe', context=self.context)
        self.drafts: list[Draft] = []
        self.captions: list[Caption] = []
        self.verdicts: list[Verdict] = []
        self.latencies: list[WindowLatency] = []
        self.pictures = 0
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.states: dict[str, tuple[int, str]] = {}            # level and message of the newest diagnostics
        create = self.node.create_subscription
        create(Draft, 'draft', self.drafts.append, qos.draft())
        create(Caption, 'caption', self.captions.append, qos.caption())
        create(Verdict, 'verdict', self.verdicts.append, qos.verdict())
        create(WindowLatency, 'latency', self.latencies.append, qos.latency())
        create(Image, 'overlay/image', self._on_picture, qos.picture())
        create(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.diagnostics())
        self.packets = self.node.create_publisher(EventPacket, 'events', qos.events())
        self.images = self.node.create_publisher(Image, 'image', qos.image())
        self._clock = self.node.create_publisher(Clock, '/clock', qos.clock())
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._stop, self._camera_stop = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._spin, daemon=True)]
        self._threads[0].start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def _on_picture(self, message: Image) -> None:
        self.pictures += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {pair.key: pair.value for pair in status.values}
            self.states[status.name] = int.from_bytes(status.level, 'little'), status.message

    def publisher(self, kind: type, topic: str, profile: QoSProfile) -> Publisher:
        return self.node.create_publisher(kind, topic, profile)

    def count(self, node: str, key: str) -> int:
        """A count in a node's newest diagnostics."""
        return int(self.diagnostics.get(f'/{node}', {}).get(key, 0))

    # ---- cameras

    def start_cameras(self, events: bool = True, images: bool = True) -> None:
        """An event packet each 20 ms and a picture each 60 ms, stamped by the wall clock, until `stop_cameras`."""
        self._camera_stop = threading.Event()                   # of this film alone: the one before may still end
        thread = threading.Thread(target=self._film, args=(self._camera_stop, events, images), daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop_cameras(self) -> None:
        self._camera_stop.set()

    def _film(self, stop: threading.Event, events: bool, images: bool) -> None:
        number = 0
        while not stop.wait(0.02):
            now_ns = time.time_ns()
            if events:
                self.send_packet(now_ns - 20 * MS, number)
            if images and number % 3 == 0:
                self.send_image(now_ns, number)
            number += 1

    def send_packet(self, begin_ns: int, seq: int, **changes: Any) -> None:
        """50 events over 20 ms from ``begin_ns`` on."""
        t_ns = begin_ns + np.arange(50, dtype=np.int64) * 400_000
        x = ((np.arange(50) + seq) % 64).astype(np.uint16)
        events = Events(t_ns, x, x % 48, (x % 2).astype(np.uint8), 64, 48)
        fields = dict(encoding='mono', width=64, height=48, seq=seq, time_base_ns=begin_ns, stamp_ns=begin_ns,
                      payload=encode_mono(events, begin_ns))
        self.packets.publish(packet_to(Packet(**(fields | changes))))

    def send_image(self, stamp_ns: int, number: int = 0) -> None:
        rgb = np.full((48, 64, 3), number % 256, np.uint8)
        self.images.publish(image_to(rgb, stamp_ns))

    def tick(self, now_ns: int) -> None:
        self._clock.publish(Clock(clock=to_time(now_ns)))

    # ---- questions

    def wait_for(self, condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
        until = time.monotonic() + patience_s
        while not (value := condition()):
            assert time.monotonic() < until, f'not within {patience_s:g} s: {what}'
            time.sleep(0.05)
        return value

    def wait_for_reader(self, *publishers: Publisher) -> None:
        """Until another node reads what each publishes: the probe hears many topics itself."""
        own = Counter(each.topic_name for each in self.node.subscriptions)
        self.wait_for(lambda: all(each.get_subscription_count() > own[each.topic_name] for each in publishers),
                      'readers of ' + ', '.join(each.topic_name for each in publishers))

    def call(self, kind: type, service: str, request: Any, patience_s: float = PATIENCE_S) -> Any:
        client = self.node.create_client(kind, service)
        try:
            assert client.wait_for_service(patience_s), f'no service {service}'
            return self.wait_for(Inquiry(client, request).poll, f'an answer of {service}', patience_s)
        finally:
            self.node.destroy_client(client)

    def trigger(self, service: str) -> Trigger.Response:
        return self.call(Trigger, service, Trigger.Request())

    def state(self, node: str) -> str:
        return self.call(GetState, f'{node}/get_state', GetState.Request()).current_state.label

    def change(self, node: str, transition: int) -> bool:
        return self.call(ChangeState, f'{node}/change_state',
                         ChangeState.Request(transition=Transition(id=transition))).success

    def close(self) -> None:
        self._camera_stop.set()
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._executor.shutdown(1)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


class Graph:
    """Processes and a probe in a domain that nobody else uses; a context manager."""

    def __init__(self, folder: Path, models: Mapping[str, str]) -> None:
        domain_id = free_domain(30 + hash(str(folder)) % 60)
        self.processes = Processes(folder, domain_id)
        # The probe is a participant of this process: it needs the nodes' transport.
        profile = self.processes.environment['FASTDDS_DEFAULT_PROFILES_FILE']
        os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', profile)
        self.probe = Probe(domain_id)
        self.models = dict(models)

    def start(self, kind: str, name: str = '', **parameters: Any) -> subprocess.Popen:
        if kind in self.models:
            parameters.setdefault('model__path', self.models[kind])
        return self.processes.start(kind, name, **parameters)

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.close()
        self.probe.close()


class Up:
    """`crossspec up --restart` with the two nodes that have models, in a graph's domain."""

    def __init__(self, folder: Path, graph: Graph, *more: str) -> None:
        self._log, models = folder / 'up.log', graph.models
        words = ['up', '--restart', '--only', *TWO, '--namespace', '', '--events-topic', '/events', '--image-topic',
                 '/image', '--model', models['verifier'], '--drafter-model', models['drafter'], *more]
        with self._log.open('wb') as log:
            self.process = children.start([sys.executable, '-m', 'crossspec_ros.cli', *words],
                                          graph.processes.environment, stdout=log, stderr=subprocess.STDOUT)

    def pids(self) -> dict[str, int]:
        return {name: int(pid) for name, pid in _STARTED.findall(self._log.read_text(errors='replace'))}

    def log(self) -> str:
        return self._log.read_text(errors='replace')
