"""Ages and acceptance by window."""
import csv
import math
from pathlib import Path

import pytest

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.pipeline.latency import CSV_COLUMNS, LatencyBook, LatencyCsv, WindowLatency
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict

S = 1_000_000_000


def draft(window: int, revision: int = 0, base: int = 0, text: str = 'a car') -> Draft:
    return Draft(window, window * S, revision, 'key', 'tokens', text, (1, 2), base_length=base, compute_ms=7.0)


def caption(window: int, stage: Stage, tokens: int = 3, passes: int = 2) -> Caption:
    return Caption(window, window * S, stage, 'a car', 5, tuple(range(tokens)), Mode.CROSS_MODAL, True, drafted=9,
                   accepted=2, target_passes=passes, stage_ms={'verify': 3.0})


def book(**changes) -> LatencyBook:
    return LatencyBook(**{'max_draft_age_ms': 50, 'max_caption_age_ms': 200, 'statistics_windows': 100,
                          'close_after_ms': 3000} | changes)


def test_latency_window_with_everything():
    kept = book()
    kept.add_draft(draft(5), -100.0)
    kept.add_draft(draft(5, 1), 20.0)
    # continues a verdict: the verifier's time, not the draft's
    kept.add_draft(draft(5, 2, base=1), 90.0)
    assert kept.add_caption(caption(5, Stage.PARTIAL), 60.0) is None
    row = kept.add_caption(caption(5, Stage.FINAL), 250.0)
    assert (row.first_draft_age_ms, row.draft_age_ms, row.drafts) == (-100.0, 20.0, 3)
    assert (row.first_partial_age_ms, row.caption_age_ms, row.final) == (60.0, 250.0, True)
    assert (row.draft_over_budget, row.caption_over_budget) == (False, True)
    assert kept.counts['caption_over_budget'] == 1
    assert kept.acceptance()['mean_acceptance_length'] == 2.0   # 3 tokens and the end in 2 passes


def test_latency_window_without_a_caption_is_closed_as_draft_only():
    kept = book()
    kept.add_draft(draft(5), 20.0)
    assert kept.close_due(5 * S + 2_999_000_000) == []
    row, = kept.close_due(9 * S)
    assert row.mode == 'draft_only' and math.isnan(row.caption_age_ms) and not row.final
    kept.add_draft(draft(5, 1), 4000.0)                         # late: opens nothing again
    assert kept.close_all() == [] and kept.counts['drafts_overtaken'] == 1


def test_latency_percentiles_forget_old_windows():
    kept = book(statistics_windows=2)
    assert kept.percentiles('caption') == {'p50': None, 'p95': None, 'p99': None}
    for window, age in enumerate([1000.0, 10.0, 20.0]):
        kept.add_caption(caption(window, Stage.FINAL), age)
    assert kept.percentiles('caption')['p50'] == 15.0


def test_latency_reset_begins_anew_and_keeps_counts():
    kept = book()
    kept.add_caption(caption(7, Stage.FINAL), 10.0)
    kept.reset()
    kept.add_caption(caption(7, Stage.FINAL), 10.0)             # the recording plays again
    assert kept.counts['windows'] == 2 and kept.percentiles('caption')['p99'] == 10.0


def test_latency_acceptance_by_source_counts_final_verdicts_only():
    kept = book()
    for final in (False, True):
        kept.add_verdict(Verdict(1, S, (1,), 0, 1, final, {'memory': 4}, {'memory': 8, 'previous': 2}))
    assert kept.acceptance()['num_draft_tokens'] == {'memory': 8, 'previous': 2}
    assert kept.acceptance()['draft_acceptance_rate'] == {'memory': 0.5, 'previous': 0.0}


def test_latency_csv_has_a_row_a_window(tmp_path):
    kept, table = book(), LatencyCsv(tmp_path / 'l.csv')
    kept.add_draft(draft(5, text='a, "b"'), 20.0)
    table.write(kept.close_all()[0])
    table.close()
    with open(tmp_path / 'l.csv', newline='') as file:
        row, = csv.DictReader(file)
    assert tuple(row) == CSV_COLUMNS
    shown = [row[name] for name in ('window_id', 'draft_age_ms', 'caption_age_ms', 'draft_text')]
    assert shown == ['5', '20.000', '', 'a, "b"']


def test_latency_csv_unwritable_is_told(tmp_path):
    with pytest.raises(CrossSpecError, match='csv_path must be writable'):
        LatencyCsv(tmp_path / 'absent' / 'l.csv')


def test_csv_without_room_misses_rows_and_goes_on(tmp_path):
    full = Path('/dev/full')
    if not full.exists():
        pytest.skip('there is no /dev/full here')
    table = LatencyCsv(tmp_path / 'l.csv')
    table.write(WindowLatency(1, 0))
    real = table._file
    with full.open('wb', buffering=0) as table._file, pytest.raises(CrossSpecError, match='make room'):
        table.write(WindowLatency(2, 0))
    table._file = real
    table.write(WindowLatency(3, 0))
    table.close()
    rows = (tmp_path / 'l.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows] == ['window_id', '1', '3']
