"""Two hosts on one: what the link between them does, and a graph over it."""
import argparse
import json
import socket
import time

import pytest

from crossspec_ros.bench import link
from crossspec_ros.bench.relay import Conditions, Relay
from crossspec_ros.bench.two_hosts import ADDRESSES, TwoHosts, obstacle

_WHY_NOT = obstacle()
needs_hosts = pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))


def test_relay_delays_and_keeps_the_order():
    relay = Relay((1, 2))
    relay.conditions = Conditions(delay_ms=50.0)
    relay.take(1, b'first', 10.0)
    relay.take(2, b'back', 10.01)
    assert relay.due(10.049) == [] and relay.wait_s(10.0) == pytest.approx(0.05)
    assert relay.due(10.07) == [(2, b'first'), (1, b'back')]


def test_relay_counts_what_it_loses_and_cuts():
    relay = Relay((1, 2), seed=3)
    relay.conditions = Conditions(loss=0.3)
    for number in range(1000):
        relay.take(1, b'x', float(number))
    passed = len(relay.due(1e9))
    assert passed + relay.counts['lost'] == relay.counts['packets'] == 1000 and 250 < relay.counts['lost'] < 350
    relay.conditions = Conditions(cut=True)
    relay.take(1, b'x', 0.0)
    assert relay.due(1e9) == [] and relay.counts['cut'] == 1


@pytest.mark.parametrize('as_json', [pytest.param(True, id='json'), pytest.param(False, id='text')])
def test_bench_says_in_a_sentence_why_it_cannot_run(monkeypatch, capsys, as_json):
    monkeypatch.setattr(link, 'obstacle', lambda: 'only root may make network namespaces')
    parser = argparse.ArgumentParser()
    link.add_parser(parser.add_subparsers())
    assert link.run(parser.parse_args(['link', *(['--json'] if as_json else [])])) == 0
    said = capsys.readouterr().out
    assert (json.loads(said)['skipped'] if as_json else said.removeprefix('skipped: ').strip()) == \
        'only root may make network namespaces'


@needs_hosts
def test_hosts_hear_each_other_over_the_link_only():
    with TwoHosts() as hosts:
        hosts.set(Conditions(delay_ms=40.0))
        with hosts.inside('server'):
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with hosts.inside('edge'):
            edge = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server, edge:
            server.bind((ADDRESSES['server'], 4000))
            edge.bind((ADDRESSES['edge'], 4000))
            server.settimeout(30.0)
            begin = time.monotonic()
            edge.sendto(b'here', (ADDRESSES['server'], 4000))
            assert server.recvfrom(100) == (b'here', (ADDRESSES['edge'], 4000))
            assert time.monotonic() - begin >= 0.04
            counts = hosts.set(Conditions(cut=True))
            assert counts['packets'] >= 1 and not counts.get('cut')
            edge.sendto(b'lost', (ADDRESSES['server'], 4000))
            server.settimeout(1.0)
            with pytest.raises(TimeoutError):
                server.recvfrom(100)
            assert hosts.set(Conditions())['cut'] >= 1
