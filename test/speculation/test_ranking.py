"""The highest logits of each row, against torch's own."""
from __future__ import annotations

import pytest
import torch

from crossspec_ros.speculation.ranking import likeliest, ranked


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (45, 3072)], ids=str)
def test_ranking_is_that_of_torch(shape, dtype):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    before = logits.clone()
    count = min(4, shape[1])
    values, ids = ranked(logits, 4)
    best, numbers = likeliest(logits)
    assert numbers and values.shape == ids.shape == (shape[0], count)
    assert torch.equal(torch.from_numpy(values), logits.topk(count).values.float())
    assert torch.equal(logits.gather(1, torch.from_numpy(ids)).float(), torch.from_numpy(values))
    assert torch.equal(logits.gather(1, torch.tensor(best)[:, None])[:, 0], logits.max(dim=-1).values)
    assert torch.equal(logits, before), 'the logits were changed'


def test_likeliest_takes_the_lowest_id_of_equals():
    assert likeliest(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])) == ([1, 0], True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_likeliest_tells_of_what_is_no_number(dtype):
    logits = torch.tensor([[1.0, 3.0, 2.0], [float('inf'), float('nan'), 1.0]], dtype=dtype)
    assert not likeliest(logits)[1] and likeliest(logits[:1])[1]
