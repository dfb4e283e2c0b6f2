"""The cache of keys and values: rows of any length, rolled back, selected, never past their capacity."""

import pytest
import torch

from tsfm_lab.nn.kv_cache import KVCache


def fill(cache, count, start=0.0):
    """Append `count` tokens whose keys are start, start + 1, … in every row and whose values are ten times that."""
    k = (start + torch.arange(count, dtype=torch.float)).view(1, 1, count, 1).expand(cache.batch_size, 2, count, 3)
    for layer in range(2):
        keys, values = cache.append(layer, k, 10 * k)
    cache.advance(count)
    return keys, values


@pytest.fixture
def cache():
    return KVCache(num_layers=2, batch_size=3, num_heads=2, capacity=8, head_dim=3)


def visible(cache, keys, count):
    """For each row, the keys that each of the `count` last tokens may attend to (asked before `advance`)."""
    mask = cache.mask(count)
    mask = mask.expand(3, *mask.shape[1:])
    return [[keys[row, 0, mask[row, 0, q], 0].tolist() for q in range(count)] for row in range(3)]


def test_tokens_are_kept_in_order(cache):
    fill(cache, 3)
    keys, values = fill(cache, 2, start=3)
    assert keys[1, 1, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(values, 10 * keys)
    assert cache.lengths.tolist() == [5, 5, 5]


def test_positions_follow_what_is_present(cache):
    fill(cache, 3)
    assert cache.positions(2).tolist() == [[3, 4]]
    cache.rollback(torch.tensor([1, 3, 2]))
    assert cache.positions(2).tolist() == [[1, 2], [3, 4], [2, 3]]


def test_after_a_rollback_each_row_writes_behind_its_own_end(cache):
    fill(cache, 4)
    cache.rollback(torch.tensor([1, 4, 2]))
    k = torch.tensor([7.0, 8.0]).view(1, 1, 2, 1).expand(3, 2, 2, 3)
    keys, _ = cache.append(0, k, k)
    assert visible(cache, keys, 2) == [
        [[0, 7], [0, 7, 8]],
        [[0, 1, 2, 3, 7], [0, 1, 2, 3, 7, 8]],
        [[0, 1, 7], [0, 1, 7, 8]],
    ]


def test_one_new_token_on_even_rows_needs_no_mask(cache):
    fill(cache, 4)
    assert cache.mask(1) is None
    cache.rollback(2)
    assert cache.mask(1) is None
    cache.rollback(torch.tensor([1, 2, 2]))
    assert cache.mask(1).shape == (3, 1, 1, 3)


def test_selected_rows_keep_their_tokens(cache):
    fill(cache, 4)
    cache.rollback(torch.tensor([1, 4, 2]))
    cache.select(torch.tensor([2, 0]))
    assert cache.lengths.tolist() == [2, 1]
    keys, _ = fill(cache, 1, start=9)
    assert keys[0, 0, :3, 0].tolist() == [0, 1, 9]
    assert keys[1, 0, :2, 0].tolist() == [0, 9]


def test_an_emptied_cache_can_be_asked_its_lengths(cache):
    fill(cache, 4)
    cache.select(torch.zeros(3, dtype=torch.bool))
    assert cache.lengths.tolist() == []


def test_a_context_longer_than_the_cache_is_refused(cache):
    fill(cache, 6)
    with pytest.raises(ValueError, match=r"holds 8 tokens a row, got 6 \+ 3"):
        fill(cache, 3)


@pytest.mark.parametrize("lengths", [5, -1, torch.tensor([4, 5, 4])])
def test_a_rollback_that_would_lengthen_a_row_is_refused(cache, lengths):
    fill(cache, 4)
    with pytest.raises(ValueError, match="from 0 to the present one"):
        cache.rollback(lengths)
