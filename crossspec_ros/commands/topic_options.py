"""The options that choose topics of a bag, the same for every command that reads one."""
from __future__ import annotations

import argparse
from pathlib import Path

from crossspec_ros.errors import CrossSpecError


def add_topic_options(parser: argparse.ArgumentParser) -> None:
    """--topics, --image-topic and --events-topic."""
    parser.add_argument('--topics', nargs='+', default=[], metavar='TOPIC',
                        help='only these topics of the bag: one of events, one of images, or both')
    parser.add_argument('--image-topic', default='', metavar='TOPIC',
                        help='images of this topic of the bag (default: colour first, then grey, depth last)')
    parser.add_argument('--events-topic', default='', metavar='TOPIC',
                        help='events of this topic of the bag (default: the one with most messages)')


def chosen_topics(args: argparse.Namespace, uri: str | Path) -> tuple[str, ...]:
    """The topics that were asked for, () where the likeliest are to be found.

    Raises CrossSpecError where they are not in the bag, or the recording is no bag.
    """
    if not (args.topics or args.image_topic or args.events_topic):
        return ()
    if str(uri).startswith(('world:', 'load:')) or (Path(uri) / 'events' / 'left').is_dir():
        raise CrossSpecError(f'topics can be chosen of a bag only, got {uri}')
    from crossspec_ros.recordings.bag import BagReader
    from crossspec_ros.recordings.topics import choose
    with BagReader(uri) as bag:
        return choose(bag, args.topics, image=args.image_topic, events=args.events_topic).topics
