"""Windows become packed rows: variate by variate, padding at the end, time counted from the first observation."""

import numpy as np
import pytest
import torch

from tsfm_lab.data import Series
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import cut_windows


def series(values, item="a", **fields):
    return Series(item, np.datetime64("2020-01-01"), "D", np.asarray(values, dtype=np.float32), **fields)


def test_a_row_is_each_variate_with_its_horizon_then_the_covariates():
    item = series(
        np.arange(12).reshape(2, 6),
        feat_dynamic_real=np.arange(100, 109)[None],
        past_feat_dynamic_real=np.arange(200, 206)[None],
    )
    batch = pack_windows(cut_windows([item], 6, 3, known=1, past=1), horizon=3, patch_size=2, max_patch_size=4)
    assert batch["variate_id"][0].tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 3
    assert batch["time_id"][0].tolist() == [0, 1, 2, 3, 4] * 3 + [0, 1, 2]
    assert batch["prediction_mask"][0].tolist() == [False, False, False, True, True] * 2 + [False] * 8
    assert batch["target"][0, :3, :2].flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert batch["target"][0, 10:15, :2].flatten().tolist() == [100, 101, 102, 103, 104, 105, 106, 107, 108, 0]
    assert batch["observed_mask"][0, 14].tolist() == [True, False, False, False]
    assert not batch["observed_mask"][..., 2:].any()


def test_a_short_series_is_padded_on_the_left_and_its_empty_tokens_stand_at_the_end():
    windows = cut_windows([series(np.ones(8)), series(np.ones(3), "b")], 8, 2)
    batch = pack_windows(windows, horizon=2, patch_size=2, max_patch_size=2)
    assert batch["sample_id"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["observed_mask"][1, 0].tolist() == [False, True]
    assert batch["time_id"][1].tolist() == [0, 1, 2, 0, 0]
    assert batch["prediction_mask"][1].tolist() == [False, False, True, False, False]


def test_time_counts_from_the_first_observed_token():
    windows = cut_windows([series([np.nan, np.nan, np.nan, 1, np.nan, np.nan])], 6, 2)
    batch = pack_windows(windows, horizon=2, patch_size=2, max_patch_size=2)
    assert batch["time_id"][0].tolist() == [0, 0, 1, 2]


def test_the_last_steps_of_a_long_series_are_taken():
    windows = cut_windows([series(np.arange(10))], 4, 1)
    assert windows.target[0, 0].tolist() == [6, 7, 8, 9]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (series([1, np.inf], "x"), "series 'x' has infinite values"),
        (series([[1, 2], [3, 4]], "x"), "series 'x' has 2 variates, the others have 1"),
        (series([1, 2], "x", feat_dynamic_real=np.ones((1, 3))), "series 'x': feat_dynamic_real must reach 2 steps"),
        (series([1, 2], "x"), "series 'x' must have 1 feat_dynamic_real, got 0"),
    ],
)
def test_an_item_that_does_not_fit_is_named(item, message):
    known = 1 if "feat_dynamic" in message else 0
    first = series([1, 2], feat_dynamic_real=np.ones((1, 4)) if known else None)
    with pytest.raises(ValueError, match=message):
        cut_windows([first, item], 4, 2, known=known)


def test_the_batch_is_one_that_the_models_accept():
    windows = cut_windows([series(np.arange(9.0)), series(np.arange(4.0), "b")], 9, 4)
    batch = pack_windows(windows, horizon=4, patch_size=4, max_patch_size=8)
    assert {name: value.dtype for name, value in batch.items()} == {
        "target": torch.float32,
        "observed_mask": torch.bool,
        "sample_id": torch.int64,
        "time_id": torch.int64,
        "variate_id": torch.int64,
        "prediction_mask": torch.bool,
        "patch_size": torch.int64,
    }
