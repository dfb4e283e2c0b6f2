"""Metrics from sums over windows equal those of the whole arrays, in one batch or several."""

import numpy as np
import pytest

from tsfm_lab import metrics
from tsfm_lab.forecast import LEVELS

N, H = 6, 8


@pytest.fixture
def case():
    """Six windows with missing labels, zeros on both sides, a zero and an unknown scale."""
    rng = np.random.default_rng(0)
    label = 10 * rng.normal(size=(N, H))
    quantiles = np.sort(10 * rng.normal(size=(N, len(LEVELS), H)), axis=1)
    label[0, 2], label[1], label[2, 4] = np.nan, np.inf, 0
    quantiles[2, :, 4] = 0
    scale = np.array([[1.0], [2.0], [0.5], [0.0], [np.nan], [3.0]])
    return label, quantiles.mean(axis=1), quantiles, LEVELS, scale


def by_definition(label, mean, quantiles, levels, scale, axis=None):
    median, low, high = (quantiles[:, levels.index(q)] for q in (0.5, 0.1, 0.9))
    covered = metrics.coverage(label, quantiles, levels, axis)
    return {
        "mse": metrics.mse(label, mean, axis),
        "mae": metrics.mae(label, median, axis),
        "smape": metrics.smape(label, median, axis),
        "mase": metrics.mase(label, median, scale, axis),
        "nd": metrics.nd(label, median, axis),
        "nrmse": metrics.nrmse(label, mean, axis),
        "wql": metrics.weighted_quantile_loss(label, quantiles, levels, axis),
        "msis_80": metrics.msis(label, low, high, scale, 0.2, axis),
        "coverage_80": covered[-1] - covered[0],
    }


def test_sums_of_batches_give_the_metrics_of_all_values(case):
    label, mean, quantiles, levels, scale = case
    parts = [
        metrics.error_sums(label[i], mean[i], quantiles[i], levels, scale[i])
        for i in (slice(0, 2), slice(2, 5), slice(5, 6))
    ]
    found = metrics.metrics_of(metrics.join_sums(parts))
    assert tuple(found) == metrics.NAMES
    for name, expected in by_definition(*case).items():
        assert found[name] == pytest.approx(expected), name


def test_metrics_by_window_are_those_of_each_window(case):
    found = metrics.metrics_of(metrics.error_sums(*case), by_window=True)
    for name, expected in by_definition(*case, axis=-1).items():
        np.testing.assert_allclose(found[name], expected, err_msg=name)


def test_what_is_left_out_is_counted(case):
    assert metrics.counts_of(metrics.error_sums(*case)) == {
        "windows": N,
        "values": N * H - H - 1,
        "missing": H + 1,
        "without_scale": 2 * H,
        "zero_size": 1,
    }


def test_an_incomplete_forecast_is_refused(case):
    label, mean, quantiles, levels, scale = case
    quantiles[5, 3, 0] = np.nan
    with pytest.raises(ValueError, match="NaN where the label is known"):
        metrics.error_sums(label, mean, quantiles, levels, scale)
