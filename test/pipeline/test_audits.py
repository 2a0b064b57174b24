"""Windows kept for an audit: bounded on disk, checked oldest first, gone at the end."""
import numpy as np
import pytest

from crossspec_ros.pipeline.audits import Audit
from crossspec_ros.pipeline.open_window import Answered


class Engine:
    """Decodes every window to its own number."""

    def audit(self, frames, prompt, window_id):
        assert [frame.shape for frame in frames] == [(10, 10, 3)] * 2
        return (window_id,)


def answered(window_id: int, token: int | None = None) -> Answered:
    frames = tuple(np.full((10, 10, 3), window_id, np.uint8) for _ in range(2))
    return Answered(window_id, frames, 'What?', (window_id if token is None else token,))


def folder_bytes(audit: Audit) -> int:
    return sum(path.stat().st_size for path in audit._folder.path.iterdir())


@pytest.fixture
def audit(request):
    made = Audit(*getattr(request, 'param', (100, 1 << 20)))
    yield made
    made.close()


def test_audit_checks_the_oldest_first_and_names_what_differs(audit):
    audit.keep(answered(1))
    audit.keep(answered(2, token=7))
    assert audit.check_next(Engine()) is True
    assert audit.statistics() == {'checked': 1, 'mismatched': 0, 'pending': 1, 'dropped': 0, 'mismatches': []}
    assert audit.check_next(Engine()) is False
    assert audit.check_next(Engine()) is None
    assert audit.statistics() == {'checked': 2, 'mismatched': 1, 'pending': 0, 'dropped': 0, 'mismatches': [2]}
    assert folder_bytes(audit) == 0


@pytest.mark.parametrize('audit', [pytest.param((2, 1 << 20), id='windows'), pytest.param((100, 2500), id='bytes')],
                         indirect=True)
def test_audit_full_drops_the_oldest(audit):
    for window_id in range(1, 6):
        audit.keep(answered(window_id))                         # about 1100 bytes each
        assert folder_bytes(audit) <= 2500
    assert audit.statistics()['pending'] == 2 and audit.statistics()['dropped'] == 3
    audit.check_next(Engine())
    audit.keep(answered(6))
    assert [kept.window_id for kept in audit._kept] == [5, 6] and audit.dropped == 3


def test_audit_leaves_nothing_on_disk():
    audit = Audit(10, 1 << 20)
    audit.keep(answered(1))
    folder = audit._folder.path
    audit.close()
    assert not folder.exists() and audit.check_next(Engine()) is None
