"""The stream bench tells loss from none."""
from __future__ import annotations

import json

import pytest

from crossspec_ros.bench import stream
from crossspec_ros.cli import main
from crossspec_ros.view.record import Diagnostic, Recorder, WindowRecord

PACKETS = 975                                                               # of 10.24 ms in 10 s


def _record(player, drafter, ages=(10.0, 20.0, 90.0)):
    record = Recorder()
    for node, values in (('player', player), ('drafter', drafter)):
        record.diagnostics[f'/bench/{node}'] = Diagnostic(0, 'ok', {key: str(value) for key, value in values.items()})
    record.windows = {number: WindowRecord(number, 0, draft_age_ms=age) for number, age in enumerate(ages)}
    return record


def _result(player=None, drafter=None, **more):
    record = _record({'played_events': PACKETS, 'worst_late_ms': 3.0, **(player or {})},
                     {'packets': PACKETS, 'events': 10, 'drafts': 9, **(drafter or {})}, **more)
    return stream._result(0.1, 10.0, record, stream.Watched({'drafter': [1.0, 3.0, 2.0]}), {})


def test_stream_result_of_everything_received_is_no_loss():
    result = _result()
    assert (result['lost_packets'], result['limit'], stream.lost(result)) == (0, None, False)
    assert result['draft_age_ms'] == {'p50': 20.0, 'p95': 83.0, 'p99': 88.6}
    assert result['rss_mb'] == {'drafter': {'median': 2.0, 'max': 3.0}}
    assert 'limit' not in stream.describe(result)


@pytest.mark.parametrize(('player', 'drafter', 'limit'), [
    pytest.param({}, {'packets': PACKETS - 2}, 'packets lost', id='lost_on_the_way'),
    pytest.param({}, {'packets_overflow': 1}, 'packets lost', id='thrown_away_by_the_drafter'),
    pytest.param({}, {'dropped_lost_packets': 1}, 'packets lost', id='gap_in_seq'),
    pytest.param({'played_events': PACKETS - 40}, {'packets': PACKETS - 40}, 'the player cannot', id='not_sent'),
    pytest.param({'worst_late_ms': 1500.0}, {}, 'the player cannot', id='sent_late')])
def test_stream_result_tells_what_the_limit_was(player, drafter, limit):
    result = _result(player, drafter)
    assert stream.lost(result) and limit in result['limit'] and limit in stream.describe(result)


def test_stream_result_without_a_word_from_the_nodes_is_a_loss():
    result = stream._result(0.1, 10.0, Recorder(), stream.Watched(), {})
    assert stream.lost(result) and result['draft_age_ms'] is None


def test_stream_looks_for_the_first_loss_from_the_rate_that_was_held(monkeypatch, capsys):
    tried = []

    def measure(rate, seconds, drafter):
        tried.append((rate, seconds))
        return {**_result(), 'rate_mev_s': rate, 'limit': 'packets lost' if rate > 20 else None}
    monkeypatch.setattr(stream, 'measure', measure)
    assert main(['bench', 'stream', '--rate', '10', '--seconds', '5', '--sweep-seconds', '2', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert tried == [(10.0, 5.0), (15.0, 2.0), (22.5, 2.0)]
    assert (report['first_loss_mev_s'], report['first_loss_at']) == (22.5, 'packets lost')
    assert main(['bench', 'stream', '--rate', '40', '--sweep-seconds', '0']) == 1


@pytest.mark.long
@pytest.mark.graph
def test_stream_from_a_real_player_to_a_real_drafter_loses_nothing(tmp_path):
    from crossspec_ros.world import sample_captions
    from crossspec_ros.train.drafter_stage import new_drafter
    from crossspec_ros.train.recipe import save_drafter
    from crossspec_ros.train.tokenizer_training import train_tokenizer
    save_drafter(new_drafter(train_tokenizer(sample_captions(200, 1), 400), seed=3), tmp_path / 'drafter')
    result = stream.measure(0.5, 5.0, str(tmp_path / 'drafter'))
    assert result['received_packets'] == result['sent_packets'] >= 480
    assert result['events'] == result['sent_events']
    assert result['windows_drafted'] >= 4
