"""What a demo is to do, checked before anything is started."""
from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.recordings.bag import BagReader
from crossspec_ros.recordings.bag_types import EVENT_TYPES, IMAGE_TYPES
from crossspec_ros.recordings.event_files.opening import is_event_file
from crossspec_ros.recordings.sources import open_source

MAX_SECONDS = 3600.0
WORLD_SECONDS = 20.0
_DDS_PORT_BASE, _DDS_PORTS_PER_DOMAIN, _DDS_UNICAST_OFFSET = 7400, 250, 10      # DDSI-RTPS 2.3, 9.6.1.1
_RAW = IMAGE_TYPES[0]
_LAST_DOMAIN = 101                          # ports of higher ones are given to other programs by Linux


@dataclass(frozen=True)
class DemoOptions:
    """The command line of ``crossspec demo``. ``seconds`` None: 20 of the synthetic world, all of a bag."""

    out: Path = Path('crossspec-demo')
    seconds: float | None = None
    bag: Path | None = None
    seed: int = 1
    pace: str = 'calm'
    prompt: str = ''
    verifier: str = 'builtin'
    drafter: str = 'builtin'
    device: str = 'cpu'
    domain_id: int | None = None

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
    """What the source holds for the graph; ``image_transport`` is raw or compressed, None without images."""

    events: bool
    image_transport: str | None


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
    for role in ('verifier', 'drafter'):
        _check_model(role, getattr(options, role))
    topics = _check_source(options.bag)
    _check_writable(options.out)
    return topics


def _check_source(bag: Path | None) -> SourceTopics:
    if bag is None:
        return SourceTopics(events=True, image_transport='raw')
    if is_event_file(bag):
        source = open_source(str(bag))
        types = set(source.topics.values())
        source.close()
        return SourceTopics(events=True, image_transport='raw' if _RAW in types else None)
    with BagReader(bag) as reader:
        usable = {reader.topics[name].type for name in reader.require_topics()}
    transport = 'raw' if _RAW in usable else 'compressed' if usable & set(IMAGE_TYPES) else None
    return SourceTopics(events=bool(usable & set(EVENT_TYPES)), image_transport=transport)


def _check_model(role: str, name: str) -> None:
    if name == 'builtin':
        from crossspec_ros.models.builtin import builtin_path
        builtin_path(role)                                              # raises where it is not installed
        return
    looks_local = name.startswith(('/', '.', '~')) or os.sep in name.rstrip(os.sep) and name.count('/') != 1
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / 'config.json').is_file():
            raise CrossSpecError(f'{role} must be a folder with a config.json, got {path}; save a model there first')
    elif path.exists() or looks_local:
        raise CrossSpecError(f'{role} must be a checkpoint folder, a hub id or builtin, got {name}: '
                             'there is no such folder')


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CrossSpecError(f'out must be a folder that can be written, got {folder}: {error.strerror}') from error


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
