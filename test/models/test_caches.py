"""Keys and values grow, are cut back, and keep only the accepted rows."""
from __future__ import annotations

import pytest
import torch

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.caches import SequenceCache


def rows(*values: float) -> torch.Tensor:
    """States (1, 2 heads, T, 3) whose rows carry the given values."""
    return torch.tensor(values)[None, None, :, None].expand(1, 2, len(values), 3).contiguous()


def append(cache: SequenceCache, *values: float) -> list[torch.Tensor]:
    new = rows(*values)
    seen = [cache.inner.update(new + layer, -new - layer, layer) for layer in range(len(cache.layers))]
    cache.grew(len(values))
    return [keys[0, 0, :cache.length, 0].tolist() for keys, _ in seen]


@pytest.fixture(params=['dynamic', 'static'])
def cache(request):
    return SequenceCache(2, 12, request.param)


def test_keep_moves_the_accepted_rows_of_every_layer(cache):
    with torch.inference_mode():
        append(cache, 1, 2, 3)
        append(cache, 10, 11, 12, 13, 14)
        cache.keep(3, (0, 2, 4))
        assert cache.length == 6
        assert append(cache, 20) == [[1, 2, 3, 10, 12, 14, 20], [2, 3, 4, 11, 13, 15, 21]]


@pytest.mark.parametrize('kept', [(), (0,), (0, 1, 2)], ids=['none', 'first', 'all'])
def test_keep_of_a_leading_run_only_cuts(cache, kept):
    with torch.inference_mode():
        append(cache, 1, 2)
        append(cache, 10, 11, 12)
        cache.keep(2, kept)
        assert append(cache, 20)[0] == [1, 2, *(10 + row for row in kept), 20]


def test_truncate_then_grow_overwrites(cache):
    with torch.inference_mode():
        append(cache, 1, 2, 3, 4)
        cache.truncate(1)
        assert append(cache, 9)[0] == [1, 9]


def test_room_for_more_than_fits_is_refused(cache):
    with torch.inference_mode():
        append(cache, *range(10))
        cache.room_for(2)
        with pytest.raises(CrossSpecError, match='12 tokens'):
            cache.room_for(3)


@pytest.mark.parametrize('kind', ['dynamic', 'static'])
def test_bytes_a_token_are_those_of_all_layers(kind):
    cache = SequenceCache(3, 16, kind)
    assert cache.bytes_a_token == 0
    for layer in range(3):
        cache.inner.update(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8), layer)
    assert cache.bytes_a_token == 3 * 2 * (2 * 8) * 4
