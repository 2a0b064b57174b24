"""The player node: a bag, a DSEC sequence or the synthetic world instead of the cameras, paced by stamps."""
from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from event_camera_msgs.msg import EventPacket
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from rclpy.client import Client
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from crossspec_ros.config import PlayerConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.conversions import compressed_to, packet_to, raw_image_to, to_time
from crossspec_ros.nodes.health import Health
from crossspec_ros.nodes.inquiry import Inquiry
from crossspec_ros.recordings.replay import Hooks, Pacer, ReplayMessage, play
from crossspec_ros.recordings.sources import open_source
from crossspec_ros.tracing.tracer import TRACER

_NS = 1_000_000_000
_WARM_MESSAGES = 30
_TOPICS = {'events': ('events', EventPacket), 'image': ('image', Image),
           'compressed': ('image/compressed', CompressedImage)}
_TYPE_NAMES = {'event_camera_msgs/msg/EventPacket', 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'}


class PlayerNode(Node):
    """Plays in a thread of its own; the process ends ``drain_s`` after the recording does.

    With clock ``sim`` stamps stay as recorded and /clock goes with them; with ``wall`` stamps are moved so that the
    recording happens now, and no /clock is published.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__('player', **kwargs)
        self._config: PlayerConfig = parameters.declare(self, PlayerConfig)
        process.trace(self, self._config.trace)
        config = self._config
        if config.clock == 'wall' and config.rate != 1.0:
            raise CrossSpecError(f'rate must be 1 with clock wall, got {config.rate}: use clock sim for other rates')
        self.finished, self.exit_code = False, 0
        self._source = open_source(config.source, topics=[name for name in config.topics if name],
                                   world_width=config.world_width, world_height=config.world_height)
        for note in getattr(self._source, 'notes', ()):
            self.get_logger().warning(f'{self._source.name}: {note}')
        for _ in islice(self._source.messages(self._source.start_ns), _WARM_MESSAGES):
            pass                                                # compiles and loads what would delay the first seconds
        self._pacer = Pacer(config.rate)
        self._shift_ns: int | None = None                       # from recorded stamps to published ones
        self._clock_ns = 0                                      # newest on /clock
        self._times = {'first_ns': 0, 'last_ns': 0, 'started_ns': 0}
        self._played = False
        self._health = Health(self, self._statistics)
        self._makers = {'events': packet_to, 'image': raw_image_to, 'compressed': compressed_to}
        self._publishers_by_role = self._advertise()
        self._clock_publisher: Publisher | None = None
        if config.clock == 'sim':
            self._clock_publisher = self.create_publisher(Clock, '/clock', qos.clock())
        self._hooks = Hooks(message=self._on_message, clock=self._on_clock, looped=self._on_loop)
        self._begin = threading.Event()
        self._awaited: dict[str, Client] = {name: self.create_client(GetState, f'{name}/get_state')
                                            for name in config.wait_for.split()}
        self.create_service(Trigger, '~/play', self._on_play)
        self.create_service(Trigger, '~/stop', self._on_stop)
        self._thread = threading.Thread(target=self._play, name='playing', daemon=True)

    def _advertise(self) -> dict[str, Publisher]:
        from crossspec_ros.recordings.sources import role_of
        roles = {role_of(kind) for kind in self._source.topics.values()} & set(_TOPICS)
        profiles = {'events': qos.played_events(), 'image': qos.played_image(), 'compressed': qos.played_image()}
        return {role: self.create_publisher(_TOPICS[role][1], _TOPICS[role][0], profiles[role],
                                            qos_overriding_options=qos.overridable(),
                                            event_callbacks=self._health.publisher_events(role)) for role in roles}

    def start(self) -> bool:
        """Begin to play, or wait for ~/play."""
        if self._config.autostart:
            self._begin.set()
        self._thread.start()
        return True

    def _on_play(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = 'plays already' if self._begin.is_set() else 'playing'
        self._begin.set()
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._hooks.stopped.set()
        self._begin.set()
        response.success, response.message = True, f'stopped {self._source.name}; the node ends when it has drained'
        return response

    # ---- the playing thread

    def _play(self) -> None:
        config = self._config
        try:
            self._begin.wait()
            self._wait_for_nodes()
            self._wait_for_subscribers()
            if not self._hooks.stopped.is_set():
                self.get_logger().info(f'playing {self._source.name}')
                play(self._source, self._pacer, self._hooks, start_s=config.start_s, seconds=config.seconds,
                     loop=config.loop, clock_hz=config.clock_hz)
            self._played = True
            self._health.publish()
            self._drain()
        except CrossSpecError as error:
            self.get_logger().error(str(error))
            self.exit_code = process.EXIT_BAD_INPUT
        except Exception as error:  # noqa: BLE001 - the middleware goes away under us when the process is told to end
            if not self._hooks.stopped.is_set() and self.context.ok():
                self.get_logger().error(f'{type(error).__name__}: {error}')
                self.exit_code = 1
        finally:
            self.finished = True

    def _wait_for_nodes(self) -> None:
        """Wait until each node of ``wait_for`` says that it is active: before, what is played is lost to it.

        As long as a node takes to load, where it is there; `wait_timeout_s` for one that is not.
        """
        unseen_s = time.monotonic() + self._config.wait_timeout_s
        for name, client in self._awaited.items():
            while not self._is_active(client) and not self._hooks.stopped.is_set():
                if not client.service_is_ready() and time.monotonic() > unseen_s:
                    self.get_logger().warning(f'no lifecycle node {name} in {self._config.wait_timeout_s:g} s; '
                                              'playing without it')
                    break
                self._hooks.stopped.wait(0.05)

    def _is_active(self, client: Client) -> bool:
        """Whether a node says so. One that loads its model answers when it has done so."""
        inquiry = Inquiry(client, GetState.Request())
        while client.service_is_ready() and not self._hooks.stopped.wait(0.05):
            if (reply := inquiry.poll()) is not None:
                return reply.current_state.id == State.PRIMARY_STATE_ACTIVE
        return False

    def _wait_for_subscribers(self) -> None:
        """Wait until each topic has its subscribers: what is played before they match is lost to them."""
        wanted, stop_ns = self._config.wait_for_subscribers, time.monotonic() + self._config.wait_timeout_s
        # Who is awaited listens to one of the topics at least; all that the graph knows of are to be matched.
        wanted_of = {publisher: max(wanted, len(self.get_subscriptions_info_by_topic(publisher.topic_name))
                                    if self._awaited else 0) for publisher in self._publishers_by_role.values()}
        while not self._hooks.stopped.is_set():
            missing = [publisher.topic_name for publisher in self._publishers_by_role.values()
                       if publisher.get_subscription_count() < wanted_of[publisher]]
            if not missing:
                return
            if time.monotonic() > stop_ns:
                self.get_logger().warning(f'{", ".join(missing)} did not get all subscribers in '
                                          f'{self._config.wait_timeout_s:g} s; playing anyway')
                return
            time.sleep(0.05)

    def _drain(self) -> None:
        """Let time go on after the last message, so that windows end and drafts and captions come."""
        stop = time.monotonic() + self._config.drain_s
        while time.monotonic() < stop and self.context.ok():
            self._on_clock(self._pacer.now_ns())
            time.sleep(1.0 / self._config.clock_hz)

    def _on_message(self, message: ReplayMessage) -> None:
        role = message.role
        if role not in self._publishers_by_role:
            self._health.count(f'unused {message.topic}')
            return
        if self._shift_ns is None:
            self._shift_ns = self._begin_now(message.due_ns)
        publisher = self._publishers_by_role[role]
        if self._config.clock == 'sim' and message.cdr is not None and message.type in _TYPE_NAMES:
            with TRACER.span('play', role=role):
                publisher.publish(message.cdr)                  # as recorded, to the byte
        else:
            data = replace(message.data, stamp_ns=message.data.stamp_ns + self._shift_ns)
            with TRACER.span('play', role=role, stamp_ns=data.stamp_ns):
                publisher.publish(self._makers[role](data))
        self._times['last_ns'] = message.due_ns + self._shift_ns
        self._health.count(f'played_{role}')

    def _begin_now(self, due_ns: int) -> int:
        """Start a pass with a message due at this recorded time; returns how far stamps are moved, ns."""
        shift_ns = 0
        if self._config.clock == 'wall':
            now_ns, align_ns = time.time_ns(), round(self._config.align_ms * 1e6)
            begin_ns = -(-now_ns // align_ns) * align_ns if align_ns else now_ns
            self._hooks.stopped.wait((begin_ns - now_ns) / _NS)
            self._pacer.restart(due_ns)
            shift_ns = begin_ns - due_ns
        if not self._times['started_ns']:
            self._times |= {'first_ns': due_ns + shift_ns, 'started_ns': time.perf_counter_ns()}
            self._health.publish()                              # who listens learns at once what belongs to the stream
        return shift_ns

    def _on_clock(self, now_ns: int) -> None:
        if self._clock_publisher is not None and now_ns != self._clock_ns:
            self._clock_ns = now_ns
            self._clock_publisher.publish(Clock(clock=to_time(now_ns)))

    def _on_loop(self, number: int) -> None:
        self._shift_ns = None
        self._health.count('loops')
        self.get_logger().info(f'pass {number + 1} of {self._source.name}')

    def _statistics(self) -> dict[str, object]:
        pacing = self._pacer.pacing.as_dict()
        playing = self._begin.is_set() and not self._played
        dropped = {f'dropped_{cause}': count for cause, count in getattr(self._source, 'dropped', {}).items()}
        return {'source': self._source.name, 'playing': playing, **self._times, **pacing, **dropped}

    def close(self) -> None:
        """Stop playing; the process ends."""
        self._hooks.stopped.set()
        self._begin.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._source.close()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit code."""
    return process.run(PlayerNode, args)


if __name__ == '__main__':
    process.leave(main())
