"""The fine-tuning task: a window of a series as a forecast reads it, with its horizon masked."""

import numpy as np
import pytest
import torch

from tsfm_lab.data import Series
from tsfm_lab.data.transforms import ForecastWindow, UnusableSeries, apply_chain, as_sample, finetuning_chain
from tsfm_lab.forecast.tokens import pack_windows
from tsfm_lab.forecast.windows import cut_windows

H, C, SIZES = 6, 20, (4, 8)


def series(length, variates=1, **more):
    """Values that say where they stand: step t of variate v is t + 1000 v."""
    values = np.arange(length, dtype=float) + 1000 * np.arange(variates)[:, None]
    return Series("a", "2020-01-01", "D", values, **more)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("length", "variates"), [(60, 1), (60, 2), (17, 1)])
def test_a_window_has_the_tokens_that_a_forecast_reads(size, length, variates):
    item = series(length, variates)
    item.target[:, 3::7] = np.nan
    chain = finetuning_chain((size,), C, H, at_end=True, max_patch_size=max(SIZES))
    ours = apply_chain(chain, as_sample(item), np.random.default_rng(0))
    past, label = item.window(0, length - H), item.window(length - H, length)
    batch = pack_windows(cut_windows([past], C, 0), H, size, max(SIZES), cut_windows([label], H, 0))
    real = batch["sample_id"][0] > 0
    for name in ("target", "observed_mask", "time_id", "prediction_mask", "patch_size"):
        assert torch.equal(torch.as_tensor(np.asarray(ours[name])), batch[name][0][real]), name
    order = {v: i for i, v in enumerate(dict.fromkeys(ours["variate_id"].tolist()))}  # random numbers in training
    assert [order[v] for v in ours["variate_id"].tolist()] == batch["variate_id"][0][real].tolist()


def test_past_covariates_end_where_the_horizon_begins():
    item = series(60, past_feat_dynamic_real=7.0 + np.arange(60)[None])
    sample = apply_chain(finetuning_chain((4,), C, H, at_end=True), as_sample(item), np.random.default_rng(0))
    target, past = sample["target"][:7], sample["target"][7:]
    assert len(past) == 5
    assert past.max() == 7.0 + 60 - H - 1
    assert target[-1].tolist() == [58, 59, 0, 0]


def test_horizons_begin_anywhere_behind_half_of_what_there_is_or_a_context():
    for length, first in ((200, C), (26, 10)):
        window = ForecastWindow((4,), C, H)
        rng = np.random.default_rng(0)
        cuts = [window({"target": [np.arange(float(length))]}, rng)["target"][0] for _ in range(400)]
        begins = {int(np.nanmax(row)) - H + 1 for row in cuts}
        assert min(begins) == first
        assert max(begins) == length - H


def test_patch_sizes_are_those_with_a_patch_of_context():
    rng, item = np.random.default_rng(0), {"target": [np.arange(11.0)]}
    assert {ForecastWindow((4, 8), C, H)(item, rng)["patch_size"] for _ in range(30)} == {4}
    with pytest.raises(UnusableSeries, match="too short: 9 steps, a patch and the horizon need 10"):
        ForecastWindow((4, 8), C, H)({"target": [np.arange(9.0)]}, rng)


@pytest.mark.parametrize("missing", [slice(0, 14), slice(14, 20)])
def test_a_window_without_a_context_or_a_horizon_is_not_used(missing):
    row = np.arange(20.0)
    row[missing] = np.nan
    with pytest.raises(UnusableSeries, match="nothing observed"):
        ForecastWindow((4,), C, H, at_end=True)({"target": [row]}, np.random.default_rng(0))
