"""Every default of every node, once: the ROS parameters, the YAML files' checks and the tables of docs/ are made from
these.

A field's metadata holds its parameter name, its description, its range or choices, and whether it may change while the
node runs (``live``). ``parameters_of(NodeConfig)`` lists them; ``make(NodeConfig, values)`` checks and builds.
"""
from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.fields import checked, described
from crossspec_ros.speculation.settings import EngineConfig
from crossspec_ros.timing.arrivals import MODES
from crossspec_ros.timing.when import BOTH, CHANGE, GRID, WHENS, Speaking
from crossspec_ros.timing.window import WindowGrid

DEFAULT_PROMPT = 'What is happening?'
IDLE = 'idle'
QUANTIZATIONS = ('none', 'int8', 'int4', 'nf4', 'dynamic')


_p = described


@dataclass(frozen=True)
class TraceConfig:
    """Where a process leaves its part of a timeline of all."""

    folder: str = _p('', 'write what this process does when to a file in this folder, in the trace event format (see '
                     'docs/time.md); empty: nothing')
    mb: int = _p(32, 'size of that file, MB at most; the oldest go', low=1, high=65536)


def _trace() -> TraceConfig:
    """The settings of the trace, the same for each node."""
    return dataclasses.field(default_factory=TraceConfig, metadata={'group': 'trace', 'without': ()})


@dataclass(frozen=True)
class WindowConfig:
    """The grid of windows; drafter, verifier, overlay and monitor must agree on it."""

    window_frames: int = _p(8, 'frame slots of a window', name='window.frames', low=1, high=64)
    frame_interval_ms: float = _p(125.0, 'time between frame slots, ms', name='window.frame_interval_ms', low=1,
                                  high=60000)
    stride_frames: int = _p(8, 'slots from one window to the next; window.frames: tumbling',
                            name='window.stride_frames', low=1, high=64)

    when: str = _p('grid', 'which windows are captioned: all of the grid, those at a change of the scene as the event '
                   'camera sees it, or both', name='window.when', choices=WHENS)
    min_s: float = _p(0.125, 'by change: windows end at least so long after one another, s', name='window.min_s', low=0,
                      high=3600)
    max_s: float = _p(5.0, 'by change: a window is captioned this long after the last one at the latest, s',
                      name='window.max_s', low=0, high=3600)
    change: float = _p(0.14, 'by change: how much the events of a frame interval must differ from those before, or '
                       'twice as much from the last caption\'s', name='window.change', low=0, high=1)

    def grid(self) -> WindowGrid:
        """The grid these parameters name. Raises CrossSpecError where they do not go together.

        By change a window may end at each slot.
        """
        grid = WindowGrid(self.window_frames, self.frame_interval_ms, self.stride_frames)
        return grid if self.when == GRID else dataclasses.replace(grid, stride_frames=1)

    def speaking(self) -> Speaking | None:
        """Which windows are opened by change; None: those of the grid. Raises CrossSpecError as `grid` does."""
        if self.when == GRID:
            return None
        return Speaking(self.stride_frames, max(1, round(1000 * self.min_s / self.frame_interval_ms)),
                        round(1000 * self.max_s / self.frame_interval_ms), self.change, self.when == BOTH)


@dataclass(frozen=True)
class OnlineConfig:
    """How a drafter learns from verdicts while it drives."""

    online: bool = _p(False, 'learn from verdicts while driving, in a copy that takes over only where it drafts better')
    online_cpu_share: float = _p(0.2, 'time of one core that learning may take, as a share', low=0.01, high=1)
    online_memory_mb: int = _p(768, 'memory of the learning process in all, MB at most; windows fill what is left of '
                               'it, the oldest go', low=64, high=65536)
    online_priority: str = _p(IDLE, 'idle: learn only while nothing else wants the core; normal: take the share in any '
                              'case', choices=(IDLE, 'normal'))
    judge_windows: int = _p(40, 'windows at most by which a copy is judged against the active drafter; sooner where '
                            'the difference is clear', low=8, high=10000)
    rate: float = _p(5e-4, 'learning rate', low=1e-7, high=0.1)
    folder: str = _p('crossspec-drafter-online', '~/learn/save writes the active drafter to this folder')


def _learn() -> OnlineConfig:
    """The settings of learning while driving."""
    return dataclasses.field(default_factory=OnlineConfig, metadata={'group': 'learn', 'without': ()})


@dataclass(frozen=True)
class DrafterConfig(WindowConfig):
    """Parameters of the drafter node."""

    model: str = _p('builtin', 'folder of the drafter, or builtin: an event drafter, EventGPT, or a video-language '
                    'model that is given pictures of events', name='model.path')
    device: str = _p('cpu', 'torch device of the drafter', name='model.device')
    dtype: str = _p('auto', 'type that EventGPT or a video-language model computes in; auto: float32 on a CPU, '
                    'else bfloat16; 4bit: EventGPT in NF4, where bitsandbytes is installed', name='model.dtype',
                    choices=('auto', 'float32', 'float16', 'bfloat16', '4bit'))
    allow_pickle: bool = _p(False, 'read pytorch_model.bin of EventGPT or a video-language model, by weights_only, '
                            'where there is no safetensors file', name='model.allow_pickle')
    speaks: str = _p('', 'folder of the verifier, or builtin, whose tokens EventGPT or a video-language model speaks '
                     'and goes on from; empty: its own, and the verifier tokenises its text again',
                     name='model.speaks')
    threads: int = _p(1, 'torch threads of the drafter; 0: all cores but one', name='model.threads', low=0, high=256)
    prompt: str = _p('', 'the question at the start; empty: the built-in pair\'s own; a verifier\'s prompt replaces it')
    autostart: bool = _p(True, 'configure and activate by itself')
    enabled: bool = _p(True, 'drafts at the start; ~/enable changes it')
    source: str = _p('event_drafter', 'the name that drafts carry and are counted by; drafters of one verifier differ '
                     'in it', name='draft.source', pattern='[a-z0-9_]{1,32}')
    max_tokens: int = _p(64, 'tokens of a draft at most', name='draft.max_tokens', low=1, high=1024, live=True)
    lead_ms: float = _p(125.0, 'an early draft is begun this long before the window ends, ms; 0: none',
                        name='draft.lead_ms', low=0, high=60000)
    grace_ms: float = _p(15.0, 'wait this long after the window\'s end for the packet that covers it, ms',
                         name='draft.grace_ms', low=0, high=10000)
    grace_max_ms: float = _p(500.0, 'where packets come later, wait as long as they lately took, ms at most',
                             name='draft.grace_max_ms', low=0, high=60000)
    redrafts: int = _p(2, 'drafts of a window at most that continue a verdict\'s prefix where it departs from the '
                       'draft', name='draft.redrafts', low=0, high=100, live=True)
    alternatives: int = _p(0, 'tokens of second choices and what follows them that a draft holds beside its likeliest '
                           'words, at most; 0: none', name='draft.alternatives', low=0, high=256, live=True)
    deadline_ms: float = _p(2500.0, 'largest gap between drafts offered as the QoS deadline, ms; 0: none',
                            name='draft.deadline_ms', low=0, high=600000)
    event_clock: str = _p('estimated', 'estimated: sensor time is mapped to the ROS clock by packet arrival; '
                          'synchronised: event times are ROS time already', name='events.clock',
                          choices=('estimated', 'synchronised'))
    stamps: str = _p('auto', 'what stands for the time of a packet: header (its stamp), arrival, or auto: its stamp, '
                     'unless all stamps are zero or of another clock', name='events.stamps', choices=MODES)
    gap_ms: float = _p(0.0, 'a longer gap between packets is counted where their publishers offer no QoS deadline, ms; '
                       '0: three times their usual interval', name='events.gap_ms', low=0, high=600000)
    buffer_mb: int = _p(256, 'moments of events kept, MB at most', name='events.buffer_mb', low=1, high=65536)
    queue_mb: int = _p(64, 'packets waiting to be decoded, MB at most; the oldest go', name='events.queue_mb',
                       low=1, high=65536)
    idle_s: float = _p(2.0, 'drafts go on this long after the last packet: a still scene may give none, s',
                       name='events.idle_s', low=0, high=3600)
    silence_s: float = _p(5.0, 'no packet for this long: a warning says why, s', name='events.silence_s', low=0.1,
                          high=3600)
    learn: OnlineConfig = _learn()
    trace: TraceConfig = _trace()


@dataclass(frozen=True)
class VerifierConfig(WindowConfig):
    """Parameters of the verifier node."""

    model: str = _p('builtin', 'checkpoint folder or hub id of the verifier, or builtin', name='model.path')
    device: str = _p('cpu', 'torch device of the verifier', name='model.device')
    dtype: str = _p('auto', 'type the verifier computes in; auto: float32 on a CPU, else the checkpoint\'s own',
                    name='model.dtype', choices=('auto', 'float32', 'float16', 'bfloat16'))
    quantization: str = _p('none', 'how weights of the decoder are kept; none: in model.dtype; int8: 8 bits, a scale a '
                           'row (torchao); int4: 4 bits, a scale a group of 128, CUDA devices in bfloat16 (torchao); '
                           'nf4: 4 bits (bitsandbytes); dynamic: 8 bits, activations too, row by row, CPUs (torchao)',
                           name='model.quantization', choices=QUANTIZATIONS)
    cache: str = _p('auto', 'how passes reach the device; dynamic: as long as they are; padded: filled up to a few '
                    'sizes and captured; auto: padded on a CUDA device', name='model.cache',
                    choices=('auto', 'dynamic', 'padded'))
    tensor_parallel: int = _p(1, 'processes, each with a device of its own from 0 on, that share the verifier; all but '
                              'this one are started with it; 1: none, or those that torchrun has started',
                              name='model.tensor_parallel', low=1, high=64)
    trust_remote_code: bool = _p(False, 'run Python code that a checkpoint brings; false: such a checkpoint is refused',
                                 name='model.trust_remote_code')
    allow_pickle: bool = _p(False, 'read pytorch_model.bin, by weights_only, where there is no safetensors file',
                            name='model.allow_pickle')
    threads: int = _p(0, 'torch threads of the verifier; 0: all cores but one', name='model.threads', low=0, high=256)
    heads: tuple[str, ...] = _p((), 'folders of heads on the verifier\'s states that draft too, each of another kind; '
                                'none by default', name='model.heads')
    prompt: str = _p('', 'the question at the start; empty: the built-in pair\'s own')
    autostart: bool = _p(True, 'configure and activate by itself')
    enabled: bool = _p(True, 'captions at the start; ~/enable changes it')
    decode: EngineConfig = dataclasses.field(default_factory=EngineConfig, metadata={
        'group': 'decode', 'without': ('window_frames',)})
    timeout_ms: float = _p(30000.0, 'a window is given up when its answer takes longer, ms', name='decode.timeout_ms',
                           low=1, high=3600000)
    frame_grace_ms: float = _p(60.0, 'wait this long after a slot\'s end for its frame until it is known how long '
                               'frames take, ms; then as long as they take', name='frames.grace_ms', low=0, high=10000)
    frame_grace_max_ms: float = _p(500.0, 'never wait longer than this for a frame, ms', name='frames.grace_max_ms',
                                   low=0, high=60000)
    stamps: str = _p('auto', 'what stands for the time of an image: header (its stamp), arrival, or auto: its stamp, '
                     'unless all stamps are zero or of another clock', name='frames.stamps', choices=MODES)
    gap_ms: float = _p(0.0, 'a longer gap between images is counted where their publishers offer no QoS deadline, ms; '
                       '0: three times their usual interval', name='frames.gap_ms', low=0, high=600000)
    image_transport: str = _p('raw', 'raw: image; compressed: image/compressed', name='image_transport',
                              choices=('raw', 'compressed'))
    frame_queue: int = _p(32, 'frames waiting at most; the oldest go', name='frames.queue', low=1, high=4096)
    silence_s: float = _p(5.0, 'no image for this long: a warning says why, s', name='frames.silence_s', low=0.1,
                          high=3600)
    deadline_ms: float = _p(2500.0, 'largest gap between captions offered as the QoS deadline, ms; 0: none',
                            name='caption.deadline_ms', low=0, high=600000)
    ask_history_s: float = _p(10.0, 'frames of so many seconds are kept for questions about a moment ago, s',
                              name='ask.history_s', low=0.1, high=3600)
    ask_history_mb: int = _p(256, 'frames kept for questions, MB at most; the oldest go', name='ask.history_mb', low=1,
                             high=65536)
    ask_waiting: int = _p(4, 'questions that wait at most; more are refused', name='ask.waiting', low=1, high=64)
    audit_rate: float = _p(0.0, 'share of windows decoded again without drafts while idle', name='audit.rate',
                           low=0, high=1, live=True)
    audit_after: bool = _p(False, 'keep every window\'s frames on disk for ~/audit', name='audit.keep')
    audit_keep: int = _p(1000, 'windows kept for ~/audit at most', name='audit.keep_windows', low=1, high=1000000)
    audit_keep_mb: int = _p(2048, 'frames on disk for ~/audit, MB at most', name='audit.keep_mb', low=1, high=1000000)
    trace: TraceConfig = _trace()


@dataclass(frozen=True)
class QualifierConfig(WindowConfig):
    """Parameters of the qualifier node."""

    model: str = _p('builtin', 'checkpoint folder or hub id of the middle model, or builtin: the built-in verifier',
                    name='model.path')
    device: str = _p('cpu', 'torch device of the qualifier', name='model.device')
    dtype: str = _p('auto', 'type the qualifier computes in; auto: float32 on a CPU, else the checkpoint\'s own',
                    name='model.dtype', choices=('auto', 'float32', 'float16', 'bfloat16'))
    cache: str = _p('auto', 'as of the verifier', name='model.cache', choices=('auto', 'dynamic', 'padded'))
    trust_remote_code: bool = _p(False, 'run Python code that a checkpoint brings; false: such a checkpoint is refused',
                                 name='model.trust_remote_code')
    allow_pickle: bool = _p(False, 'read pytorch_model.bin, by weights_only, where there is no safetensors file',
                            name='model.allow_pickle')
    speaks: str = _p('', 'folder of the verifier, or builtin, whose tokens a model of another vocabulary speaks; '
                     'empty: its own, and the verifier tokenises its text again', name='model.speaks')
    threads: int = _p(1, 'torch threads of the qualifier; 0: all cores but one', name='model.threads', low=0, high=256)
    nice: int = _p(5, 'how far its thread stands behind others that want the core', name='model.nice', low=0, high=19)
    prompt: str = _p('', 'the question at the start; empty: the built-in pair\'s own; a verifier\'s prompt replaces it')
    autostart: bool = _p(True, 'configure and activate by itself')
    enabled: bool = _p(True, 'drafts at the start; ~/enable changes it')
    source: str = _p('qualifier', 'the name that its drafts carry and are counted by; no drafter\'s',
                     name='draft.source', pattern='[a-z0-9_]{1,32}')
    max_tokens: int = _p(64, 'tokens of a draft at most', name='draft.max_tokens', low=1, high=1024)
    lead_ms: float = _p(125.0, 'the frames it looks at end this long before the window does, ms', name='draft.lead_ms',
                        low=0, high=60000)
    yield_ms: float = _p(500.0, 'it rests from a window\'s end until the verifier has answered, ms at most; 0: never, '
                         'for a verifier with a device of its own', name='draft.yield_ms', low=0, high=60000)
    deadline_ms: float = _p(2500.0, 'QoS deadline offered on draft, as the drafter\'s, ms; 0: none',
                            name='draft.deadline_ms', low=0, high=600000)
    every: int = _p(1, 'look at each so-manieth frame slot; 1: at the frames of the verifier', name='frames.every',
                    low=1, high=64)
    frame_grace_ms: float = _p(60.0, 'as of the verifier, ms', name='frames.grace_ms', low=0, high=10000)
    frame_grace_max_ms: float = _p(500.0, 'as of the verifier, ms', name='frames.grace_max_ms', low=0, high=60000)
    stamps: str = _p('auto', 'as of the verifier', name='frames.stamps', choices=MODES)
    gap_ms: float = _p(0.0, 'as of the verifier, ms', name='frames.gap_ms', low=0, high=600000)
    image_transport: str = _p('raw', 'raw: image; compressed: image/compressed', choices=('raw', 'compressed'))
    frame_queue: int = _p(32, 'frames waiting at most; the oldest go', name='frames.queue', low=1, high=4096)
    silence_s: float = _p(5.0, 'no image for this long: a warning says why, s', name='frames.silence_s', low=0.1,
                          high=3600)
    trace: TraceConfig = _trace()

    def look(self) -> WindowGrid:
        """The grid of the frames that it looks at: that of the windows whose end is known before they end.

        Raises CrossSpecError where parameters do not go together.
        """
        if self.when == CHANGE:
            raise CrossSpecError('window.when must be grid or both for a qualifier, got change: it speaks before a '
                                 'window ends, and of such a window nobody knows before')
        if self.yield_ms and not self.lead_ms:
            raise CrossSpecError('draft.lead_ms must be > 0 where draft.yield_ms is, got 0: all drafts would be late')
        if self.window_frames % self.every or self.stride_frames % self.every:
            raise CrossSpecError(f'frames.every must divide window.frames ({self.window_frames}) and '
                                 f'window.stride_frames ({self.stride_frames}), got {self.every}')
        return WindowGrid(self.window_frames // self.every, self.every * self.frame_interval_ms,
                          self.stride_frames // self.every)


@dataclass(frozen=True)
class OverlayConfig(WindowConfig):
    """Parameters of the overlay node."""

    rate_hz: float = _p(10.0, 'pictures a second', low=0.1, high=120)
    width: int = _p(640, 'width of the picture without the events beside it, px', low=160, high=4096)
    show_events: bool = _p(False, 'draw the events beside the image; subscribes events')
    image_transport: str = _p('raw', 'raw: image; compressed: image/compressed', choices=('raw', 'compressed'))
    stale_ms: float = _p(4000.0, 'a caption older than this is taken off the picture, ms', low=100, high=600000,
                         live=True)
    show_untrained: bool = _p(False, 'show the words of a drafter that was not trained for this verifier')
    record_path: str = _p('', 'write the pictures to this mp4 file too; empty: none')
    snapshot_dir: str = _p('', 'a frame and an event picture of every captioned window go to this folder; empty: none')
    trace: TraceConfig = _trace()


@dataclass(frozen=True)
class ViewerConfig(WindowConfig):
    """Parameters of the viewer node."""

    rerun: bool = _p(True, 'serve a page for browsers')
    bind: str = _p('127.0.0.1', 'address to listen at; 0.0.0.0: everybody on the network may look')
    port: int = _p(9090, 'port of the page; the two after it are used too; 0: free ones', low=0, high=65533)
    foxglove: bool = _p(False, 'serve a websocket for Foxglove and Lichtblick')
    foxglove_port: int = _p(8765, 'port of the websocket; 0: a free one', low=0, high=65535)
    save_path: str = _p('', 'write what is shown to this .rrd file too; empty: none')
    save_mb: int = _p(2000, 'the file ends at this size, MB', low=1, high=1000000)
    open_browser: bool = _p(False, 'open the page here')
    rate_hz: float = _p(5.0, 'pictures of each camera a second at most', low=0.1, high=30)
    width: int = _p(640, 'width of the pictures at most, px', low=64, high=4096)
    memory_mb: int = _p(300, 'what the server keeps for pages opened later, MB at most', low=16, high=65536)
    show_events: bool = _p(True, 'show the events as a picture; subscribes events')
    image_transport: str = _p('raw', 'raw: image; compressed: image/compressed', choices=('raw', 'compressed'))
    stale_ms: float = _p(4000.0, 'a caption older than this is taken off the page, ms', low=100, high=600000)
    show_untrained: bool = _p(False, 'show the words of a drafter that was not trained for this verifier')
    trace: TraceConfig = _trace()


@dataclass(frozen=True)
class MonitorConfig(WindowConfig):
    """Parameters of the monitor node."""

    max_draft_age_ms: float = _p(200.0, 'budget of the draft\'s age, ms', low=0, high=3600000, live=True)
    max_caption_age_ms: float = _p(1000.0, 'budget of the final caption\'s age, ms', low=0, high=3600000, live=True)
    draft_deadline_ms: float = _p(2500.0, 'QoS deadline requested on draft, ms; 0: none', low=0, high=600000)
    caption_deadline_ms: float = _p(2500.0, 'QoS deadline requested on caption, ms; 0: none', low=0, high=600000)
    statistics_windows: int = _p(1000, 'windows that the percentiles look back on', low=2, high=1000000)
    close_after_ms: float = _p(5000.0, 'a window with no final caption is closed this long after its end, ms', low=100,
                               high=600000)
    csv_path: str = _p('', 'a row a window is written to this file; empty: none')
    report_path: str = _p('', 'a JSON report is written to this file at the end; empty: none')
    trace: TraceConfig = _trace()


@dataclass(frozen=True)
class PlayerConfig:
    """Parameters of the player node."""

    source: str = _p('world:1', 'bag folder or file, DSEC sequence folder, or world:SEED for the synthetic world')
    topics: tuple[str, ...] = _p((), 'topics of a bag to play, one of events and one of images; empty: the likeliest')
    clock: str = _p('sim', 'sim: stamps as recorded, /clock published; wall: stamps moved to now, no /clock',
                    choices=('sim', 'wall'))
    rate: float = _p(1.0, 'recorded seconds a second; not 1 only with clock sim', low=0.01, high=100)
    loop: bool = _p(False, 'begin again at the end; with clock sim time jumps back')
    start_s: float = _p(0.0, 'begin this far into the recording, s', low=0, high=1e9)
    seconds: float = _p(0.0, 'stop after this much of the recording, s; 0: at its end', low=0, high=1e9)
    align_ms: float = _p(0.0, 'with clock wall: begin at a whole multiple of this time, ms; 0: at once', low=0,
                         high=60000)
    drain_s: float = _p(3.0, '/clock goes on this long after the end, s', low=0, high=3600)
    clock_hz: float = _p(200.0, 'rate of /clock', low=1, high=10000)
    wait_for_subscribers: int = _p(0, 'subscribers of each topic to wait for before the start', low=0, high=100)
    wait_for: str = _p('', 'lifecycle nodes to wait for before the start, until they are active and listen; names in '
                       'the player\'s namespace, or from / on, with spaces between')
    wait_timeout_s: float = _p(60.0, 'wait this long at most for subscribers and for nodes that do not show up, s',
                               low=0, high=3600)
    autostart: bool = _p(True, 'play at once; false: ~/play starts it')
    world_width: int = _p(320, 'width of the synthetic world\'s cameras, px', low=64, high=1920)
    world_height: int = _p(240, 'height of the synthetic world\'s cameras, px', low=48, high=1080)
    trace: TraceConfig = _trace()


@dataclass(frozen=True)
class KeeperConfig:
    """Parameters of the keeper node."""

    seconds: float = _p(30.0, 'seconds before a moment that are kept', name='keep.seconds', low=1, high=3600)
    after_s: float = _p(5.0, 'seconds after a moment that are kept', name='keep.after_s', low=0, high=3600)
    longest_s: float = _p(120.0, 'a moment in which more happens goes on, but no longer than this, s',
                          name='keep.longest_s', low=1, high=7200)
    ring_mb: int = _p(512, 'messages held in memory, MB at most; the oldest go', name='keep.ring_mb', low=1, high=65536)
    folder: str = _p('crossspec-moments', 'bags of moments go to this folder', name='keep.folder')
    disk_mb: int = _p(8192, 'bags of moments, MB at most; none is removed, the next are not written',
                      name='keep.disk_mb', low=1, high=10000000)
    waiting: int = _p(2, 'moments that wait for the disk at most', name='keep.waiting', low=1, high=64)
    rules: tuple[str, ...] = _p((), 'captions that are a moment: word:TEXT, field:NAME=VALUE, change, change:NAME',
                                name='keep.rules')
    braking_ms2: float = _p(0.0, 'deceleration on the topic imu that is a moment, m/s^2; 0: imu is not listened to',
                            name='keep.braking_ms2', low=0, high=100)
    trace: TraceConfig = _trace()


NODES: dict[str, type] = {'drafter': DrafterConfig, 'qualifier': QualifierConfig, 'verifier': VerifierConfig,
                          'overlay': OverlayConfig, 'monitor': MonitorConfig, 'player': PlayerConfig,
                          'keeper': KeeperConfig, 'viewer': ViewerConfig}


@dataclass(frozen=True)
class ParameterInfo:
    """One ROS parameter as the dataclass declares it. ``field`` is dotted where it lies in a group of settings."""

    name: str
    field: str
    default: bool | int | float | str | tuple[str, ...]
    description: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    live: bool
    pattern: str


def parameters_of(config: type) -> list[ParameterInfo]:
    """The parameters of a node, in the order of its dataclass; those of a group as ``group.name``."""
    found = []
    for field in dataclasses.fields(config):
        meta = field.metadata
        if 'group' in meta:
            group = [info for info in parameters_of(field.default_factory) if info.field not in meta['without']]
            found += [dataclasses.replace(info, name=f'{meta["group"]}.{info.name}', field=f'{field.name}.{info.field}')
                      for info in group]
        else:
            found.append(ParameterInfo(meta['name'] or field.name, field.name, field.default, meta['description'],
                                       meta['low'], meta['high'], meta['choices'], meta['live'], meta['pattern']))
    return found


def check(info: ParameterInfo, value: Any) -> Any:
    """The value as the parameter's type. Raises CrossSpecError with the rule it breaks."""
    return checked(info.name, value, info.default, dataclasses.asdict(info))


def with_values(config: Any, values: Mapping[str, Any]) -> Any:
    """A config with other values, by (dotted) field."""
    own = {field: value for field, value in values.items() if '.' not in field}
    for group in {field.split('.', 1)[0] for field in values if '.' in field}:
        inner = {field.split('.', 1)[1]: value for field, value in values.items() if field.startswith(f'{group}.')}
        own[group] = with_values(getattr(config, group), inner)
    return dataclasses.replace(config, **own)


def make(config: type, values: Mapping[str, Any]) -> Any:
    """A node's config from values by parameter name; what is absent has its default.

    Raises:
        CrossSpecError: an unknown name, or a value of a wrong type or out of range.
    """
    infos = {info.name: info for info in parameters_of(config)}
    unknown = sorted(set(values) - set(infos))
    if unknown:
        close = difflib.get_close_matches(unknown[0], infos, 1)
        raise CrossSpecError(f'{config.__name__} has no parameter {unknown[0]!r}; '
                             + (f'did you mean {close[0]}?' if close else f'it has {", ".join(infos)}'))
    made = with_values(config(), {infos[name].field: check(infos[name], value) for name, value in values.items()})
    if isinstance(made, WindowConfig):
        made.grid()
        made.speaking()
    return made
