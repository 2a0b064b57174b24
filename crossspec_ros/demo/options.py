"""What a demo is to do, checked before anything is started."""
from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader
from crossspec_ros.recordings.event_files.opening import is_event_file
from crossspec_ros.recordings.outlook import Passing
from crossspec_ros.recordings.sources import BagSource, open_source, role_of
from crossspec_ros.recordings.topics import choose
from crossspec_ros.timing.window import WindowGrid

MAX_SECONDS = 3600.0
WORLD_SECONDS = 20.0
VIEW_PORT = 9090
_DDS_PORT_BASE, _DDS_PORTS_PER_DOMAIN, _DDS_UNICAST_OFFSET = 7400, 250, 10      # DDSI-RTPS 2.3, 9.6.1.1
_LAST_DOMAIN = 101                          # ports of higher ones are given to other programs by Linux


@dataclass(frozen=True)
class DemoOptions:
    """The command line of ``crossspec demo``. ``seconds`` None: 20 of the synthetic world, all of a bag; ``view``: the
    port of the live view, None for none; ``trace``: file of a timeline of all processes; ``qualifier``: a third model
    between the two, empty for none.
    """

    out: Path = Path('crossspec-demo')
    seconds: float | None = None
    bag: Path | None = None
    seed: int = 1
    pace: str = 'calm'
    prompt: str = ''
    verifier: str = 'builtin'
    drafter: str = 'builtin'
    qualifier: str = ''
    device: str = 'cpu'
    domain_id: int | None = None
    topics: tuple[str, ...] = ()
    image_topic: str = ''
    events_topic: str = ''
    frame_interval_ms: float = WindowGrid().frame_interval_ms
    view: int | None = None
    trace: Path | None = None

    @property
    def grid(self) -> WindowGrid:
        """The windows of all nodes. Raises CrossSpecError where there cannot be such ones."""
        return WindowGrid(frame_interval_ms=self.frame_interval_ms)

    @property
    def source(self) -> str:
        """As the player names it."""
        return f'world:{self.seed}:{self.pace}' if self.bag is None else str(self.bag.resolve())

    @property
    def source_name(self) -> str:
        """As a report names it: no paths of the machine that it was made on."""
        if self.bag is None:
            return f'the synthetic world, seed {self.seed}, {self.pace}'
        return f'the recording {self.bag.resolve().name}'


@dataclass(frozen=True)
class SourceTopics:
    """What the source holds for the graph; ``image_transport`` is raw or compressed, None without images.

    ``names`` are the topics of a bag that were asked for.
    """

    events: bool
    image_transport: str | None
    names: tuple[str, ...] = ()


def check(options: DemoOptions) -> SourceTopics:
    """Check everything that can be known before processes run, and make the output folder.

    Raises:
        CrossSpecError: a number out of range, no usable topic, an unwritable folder, a model that is not there.
    """
    if options.seconds is not None and not 1.0 <= options.seconds <= MAX_SECONDS:
        raise CrossSpecError(f'seconds must be 1 to {MAX_SECONDS:g}, got {options.seconds:g}')
    if not 0 <= options.seed < 2**31:
        raise CrossSpecError(f'seed must be 0 to {2**31 - 1}, got {options.seed}')
    if options.domain_id is not None and not 0 <= options.domain_id <= 232:
        raise CrossSpecError(f'domain-id must be 0 to 232, got {options.domain_id}')
    WindowGrid(frame_interval_ms=options.frame_interval_ms)            # raises where it is out of range
    if options.view is not None and not 0 <= options.view <= 65533:
        raise CrossSpecError(f'view must be a port, 0 to 65533, got {options.view}')
    for role in ('verifier', 'drafter'):
        _check_model(role, getattr(options, role))
    if options.qualifier:
        _check_model('qualifier', options.qualifier)
    topics = _check_source(options)
    _check_writable(options.out)
    if options.trace is not None:
        _check_writable(options.trace.absolute().parent, 'trace must be a file in a folder')
        if options.trace.is_dir():
            raise CrossSpecError(f'trace must be a file, got the folder {options.trace}')
    return topics


def _check_source(options: DemoOptions) -> SourceTopics:
    if options.bag is None:
        if options.topics or options.image_topic or options.events_topic:
            raise CrossSpecError('topics can be chosen of a bag only; give --bag too')
        return SourceTopics(events=True, image_transport='raw')
    chosen = options.topics or options.image_topic or options.events_topic
    names: tuple[str, ...] = ()
    if is_event_file(options.bag):
        if chosen:
            raise CrossSpecError(f'topics can be chosen of a bag only, got {options.bag}')
        source = open_source(str(options.bag))
    else:
        with BagReader(options.bag) as reader:
            names = choose(reader, options.topics, image=options.image_topic, events=options.events_topic).topics
        source = BagSource(options.bag, names)
    source.close()
    roles = {role_of(type_name) for type_name in source.topics.values()}
    transport = 'raw' if 'image' in roles else 'compressed' if 'compressed' in roles else None
    return SourceTopics(events='events' in roles, image_transport=transport, names=names if chosen else ())


def look_through(options: DemoOptions, topics: SourceTopics) -> Passing | None:
    """What the recording holds by its times; None of what has none to judge: the synthetic world, a file of events."""
    if options.bag is None or is_event_file(options.bag):
        return None
    source = BagSource(options.bag, topics.names)
    try:
        return source.passing()
    finally:
        source.close()


def _check_model(role: str, name: str) -> None:
    if name == 'builtin':
        from crossspec_ros.models.builtin import builtin_path
        builtin_path('verifier' if role == 'qualifier' else role)       # raises where it is not installed
        return
    looks_local = name.startswith(('/', '.', '~')) or os.sep in name.rstrip(os.sep) and name.count('/') != 1
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / 'config.json').is_file():
            raise CrossSpecError(f'{role} must be a folder with a config.json, got {path}; save a model there first')
    elif path.exists() or looks_local:
        raise CrossSpecError(f'{role} must be a checkpoint folder, a hub id or builtin, got {name}: '
                             'there is no such folder')


def _check_writable(folder: Path, what: str = 'out must be a folder') -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CrossSpecError(f'{what} that can be written, got {folder}: {error.strerror}') from error


def free_domain(first: int) -> int:
    """A DDS domain that no participant on this machine is in, looked for from ``first`` (1 to 101) on.

    A participant binds the domain's discovery port, so a domain whose first one can be bound is free.
    """
    for offset in range(_LAST_DOMAIN):
        domain = 1 + (first - 1 + offset) % _LAST_DOMAIN
        port = _DDS_PORT_BASE + _DDS_PORTS_PER_DOMAIN * domain + _DDS_UNICAST_OFFSET
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', port))
            except OSError:
                continue
        return domain
    raise CrossSpecError(f'no DDS domain from 1 to {_LAST_DOMAIN} is free; end some of the nodes on this machine')
