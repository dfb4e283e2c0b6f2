"""Each metric equals its definition written as a loop, and GluonTS's where that has it."""

import math

import numpy as np
import pytest

from tsfm_lab import metrics

LEVELS = (0.1, 0.5, 0.9)
S, H, T, SEASON = 5, 7, 40, 4


@pytest.fixture
def case():
    """Five series with missing labels, a label and forecast of 0, a constant past and a past full of gaps."""
    rng = np.random.default_rng(0)
    past, label = 10 * rng.normal(size=(S, T)), 10 * rng.normal(size=(S, H))
    quantiles = np.sort(10 * rng.normal(size=(S, len(LEVELS), H)), axis=1)
    label[0, 2], label[1, :3], label[2, 4] = np.nan, np.inf, 0
    quantiles[2, :, 4] = 0
    past[3] = 5.0
    past[4, ::3] = np.nan
    return past, label, quantiles


def kept(label):
    return [(s, h) for s in range(S) for h in range(H) if math.isfinite(label[s, h])]


def scale_by_loop(past):
    scales = []
    for row in past:
        changes = [abs(row[t] - row[t - SEASON]) for t in range(SEASON, T)]
        changes = [change for change in changes if not math.isnan(change)]
        scales.append(sum(changes) / len(changes))
    return scales


def loss(y, forecast, q):
    return 2 * (q * (y - forecast) if y > forecast else (1 - q) * (forecast - y))


def average(values):
    values = list(values)
    return sum(values) / len(values)


def test_point_metrics_equal_their_loops(case):
    _, y, quantiles = case
    f, at = quantiles[:, 1], kept(y)
    size = sum(abs(y[i]) for i in at)
    assert metrics.mse(y, f) == pytest.approx(average((y[i] - f[i]) ** 2 for i in at))
    assert metrics.mae(y, f) == pytest.approx(average(abs(y[i] - f[i]) for i in at))
    assert metrics.nd(y, f) == pytest.approx(sum(abs(y[i] - f[i]) for i in at) / size)
    root = math.sqrt(average((y[i] - f[i]) ** 2 for i in at))
    assert metrics.nrmse(y, f) == pytest.approx(root / (size / len(at)))
    shares = [2 * abs(y[i] - f[i]) / (abs(y[i]) + abs(f[i])) for i in at if y[i] or f[i]]
    assert len(shares) == len(at) - 1
    assert metrics.smape(y, f) == pytest.approx(average(shares))


def test_seasonal_error_and_mase_leave_out_gaps_and_constant_pasts(case):
    past, y, quantiles = case
    scale, by_loop = metrics.seasonal_error(past, SEASON), scale_by_loop(past)
    np.testing.assert_allclose(scale[:, 0], by_loop)
    f, at = quantiles[:, 1], [i for i in kept(y) if by_loop[i[0]] > 0]
    assert metrics.mase(y, f, scale) == pytest.approx(average(abs(y[i] - f[i]) / by_loop[i[0]] for i in at))


def test_quantile_metrics_equal_their_loops(case):
    past, y, quantiles = case
    scale, by_loop, at = metrics.seasonal_error(past, SEASON), scale_by_loop(past), kept(y)
    scaled = [i for i in at if by_loop[i[0]] > 0]
    size = sum(abs(y[i]) for i in at)
    totals = [sum(loss(y[s, h], quantiles[s, k, h], q) for s, h in at) for k, q in enumerate(LEVELS)]
    assert metrics.weighted_quantile_loss(y, quantiles, LEVELS) == pytest.approx(average(totals) / size)
    means = [
        average(loss(y[s, h], quantiles[s, k, h], q) / by_loop[s] for s, h in scaled) for k, q in enumerate(LEVELS)
    ]
    assert metrics.scaled_quantile_loss(y, quantiles, LEVELS, scale) == pytest.approx(average(means))
    shares = [average(y[s, h] <= quantiles[s, k, h] for s, h in at) for k in range(len(LEVELS))]
    np.testing.assert_allclose(metrics.coverage(y, quantiles, LEVELS), shares)
    lower, upper = quantiles[:, 0], quantiles[:, 2]
    scores = [
        (upper[i] - lower[i] + 10 * max(lower[i] - y[i], 0) + 10 * max(y[i] - upper[i], 0)) / by_loop[i[0]]
        for i in scaled
    ]
    assert metrics.msis(y, lower, upper, scale, alpha=0.2) == pytest.approx(average(scores))


def test_an_axis_gives_one_number_a_series(case):
    past, y, quantiles = case
    scale = metrics.seasonal_error(past, SEASON)
    together = metrics.mase(y, quantiles[:, 1], scale, axis=-1)
    alone = [metrics.mase(y[s], quantiles[s, 1], scale[s]) for s in range(S)]
    np.testing.assert_allclose(together, alone)
    assert np.isnan(together[3])  # the constant past
    together = metrics.weighted_quantile_loss(y, quantiles, LEVELS, axis=-1)
    np.testing.assert_allclose(together, [metrics.weighted_quantile_loss(y[s], quantiles[s], LEVELS) for s in range(S)])


def test_metrics_agree_with_gluonts(case):
    ev = pytest.importorskip("gluonts.ev", reason="compares with GluonTS, which is not installed")
    past, y, quantiles = case
    scale = metrics.seasonal_error(past, SEASON)
    masked = np.ma.masked_invalid(y)
    theirs_scale = np.array([ev.ts_stats.seasonal_error(np.ma.masked_invalid(row), SEASON) for row in past])
    data = {"label": masked, "seasonal_error": theirs_scale, "mean": quantiles[:, 1]}
    data |= {str(q): quantiles[:, k] for k, q in enumerate(LEVELS)}

    def theirs(metric):
        return metric(axis=None).update(data).get()

    median = quantiles[:, 1]
    assert metrics.mse(y, median) == pytest.approx(theirs(ev.metrics.MSE()))
    assert metrics.mae(y, median) == pytest.approx(theirs(ev.metrics.MAE()))
    assert metrics.smape(y, median) == pytest.approx(theirs(ev.metrics.SMAPE()))
    assert metrics.mase(y, median, scale) == pytest.approx(theirs(ev.metrics.MASE()))
    assert metrics.nd(y, median) == pytest.approx(theirs(ev.metrics.ND()))
    assert metrics.nrmse(y, median) == pytest.approx(theirs(ev.metrics.NRMSE()))
    assert metrics.weighted_quantile_loss(y, quantiles, LEVELS) == pytest.approx(
        theirs(ev.metrics.MeanWeightedSumQuantileLoss(LEVELS))
    )
    assert metrics.scaled_quantile_loss(y, quantiles, LEVELS, scale) == pytest.approx(
        theirs(ev.metrics.AverageMeanScaledQuantileLoss(LEVELS))
    )
    data |= {"0.1": quantiles[:, 0], "0.9": quantiles[:, 2]}
    lower, upper = quantiles[:, 0], quantiles[:, 2]
    assert metrics.msis(y, lower, upper, scale, alpha=0.2) == pytest.approx(theirs(ev.metrics.MSIS(0.2)))
    assert metrics.coverage(y, quantiles, LEVELS)[2] == pytest.approx(theirs(ev.metrics.Coverage(0.9)))


def test_nothing_to_score_is_nan_and_labels_of_zero_make_relative_errors_infinite():
    nothing, zeros, ones = np.full((1, H), np.nan), np.zeros((1, H)), np.ones((1, H))
    for metric in (metrics.mse, metrics.mae, metrics.smape, metrics.nd, metrics.nrmse):
        assert np.isnan(metric(nothing, ones))
    assert np.isinf(metrics.nd(zeros, ones))
    assert np.isinf(metrics.nrmse(zeros, ones))
    assert np.isinf(metrics.weighted_quantile_loss(zeros, ones[:, None], (0.5,)))


def test_a_past_no_longer_than_the_season_is_scaled_by_its_steps():
    past = np.array([[1.0, 2.0, 4.0, 8.0]])
    assert metrics.seasonal_error(past, 4) == pytest.approx(7 / 3)
    assert np.isnan(metrics.seasonal_error(past[:, :1], 4)).all()


def test_bad_forecasts_are_refused(case):
    _, y, quantiles = case
    quantiles[4, 1, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        metrics.mae(y, quantiles[:, 1])
    with pytest.raises(ValueError, match="NaN"):
        metrics.weighted_quantile_loss(y, quantiles, LEVELS)
    with pytest.raises(ValueError, match=r"\(5, 3, 7\)"):
        metrics.coverage(y, quantiles[:, :2], LEVELS)
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.coverage(y, quantiles, (0.1, 0.5, 9.0))
