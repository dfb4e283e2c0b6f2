"""First-fit-decreasing packing, and rows of tokens."""

import numpy as np
import pytest
import torch

from tsfm_lab.data.packing import first_fit_decreasing, pack_rows, packing_waste


def slow_first_fit_decreasing(lengths, capacity):
    bins = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for b in bins:
            if sum(lengths[j] for j in b) + lengths[i] <= capacity:
                b.append(i)
                break
        else:
            bins.append([i])
    return bins


@pytest.mark.parametrize("seed", range(5))
def test_packing_equals_the_obvious_loop(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 65, size=rng.integers(1, 80)).tolist()
    assert first_fit_decreasing(lengths, 64) == slow_first_fit_decreasing(lengths, 64)


def test_nothing_packs_into_no_bins():
    assert first_fit_decreasing([], 8) == []


@pytest.mark.parametrize("lengths", [[3, 9], [3, 0]])
def test_an_item_that_no_bin_holds_is_an_error(lengths):
    with pytest.raises(ValueError, match=f"between 1 and capacity=8 tokens, got {lengths[1]} at 1"):
        first_fit_decreasing(lengths, 8)


def tokens(n, value, patch=4):
    return {
        "target": np.full((n, patch), value, dtype=np.float32),
        "observed_mask": np.ones((n, patch), dtype=bool),
        "time_id": np.arange(n),
        "variate_id": np.full(n, 7),
        "prediction_mask": np.arange(n) == n - 1,
        "patch_size": np.full(n, patch),
    }


def test_samples_follow_each_other_in_a_row_with_zeros_behind():
    batch = pack_rows(iter([[tokens(2, 1.0), tokens(3, 2.0)], [tokens(4, 3.0)]]), 2, max_seq_len=6, max_patch_size=4)
    assert batch["sample_id"].tolist() == [[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0]]
    assert batch["target"][:, :, 0].tolist() == [[1, 1, 2, 2, 2, 0], [3, 3, 3, 3, 0, 0]]
    assert batch["time_id"].tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 0, 0]]
    assert batch["prediction_mask"].int().tolist() == [[0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0]]
    assert not batch["observed_mask"][0, 5].any()
    assert packing_waste(batch) == pytest.approx(3 / 12)


def test_a_packed_batch_has_the_types_that_the_models_expect():
    batch = pack_rows([[tokens(2, 1.0)]], 1, max_seq_len=3, max_patch_size=4)
    types = {name: field.dtype for name, field in batch.items()}
    ids = dict.fromkeys(("sample_id", "time_id", "variate_id", "patch_size"), torch.int64)
    assert types == {"target": torch.float32, "observed_mask": torch.bool, "prediction_mask": torch.bool} | ids


def test_a_row_that_is_too_long_is_an_error():
    with pytest.raises(ValueError, match="at most max_seq_len=4 tokens, row 0 has 5"):
        pack_rows([[tokens(2, 1.0), tokens(3, 2.0)]], 1, max_seq_len=4, max_patch_size=4)


def test_no_samples_are_an_error():
    with pytest.raises(ValueError, match="at least one sample, got none"):
        pack_rows([[]], 1, max_seq_len=4, max_patch_size=4)
