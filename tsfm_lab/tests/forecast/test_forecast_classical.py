"""Classical forecasts: their equations by loops, statsmodels' own figures, and what happens to bad histories."""

import logging
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from tsfm_lab.data import Series
from tsfm_lab.forecast import ARIMA, ETS, LEVELS, Drift, Naive, QuantileLinear, SeasonalNaive, Theta
from tsfm_lab.forecast.naive import seasonal_naive
from tsfm_lab.forecast.quantile_linear import fit_quantiles

ALL = [Naive, SeasonalNaive, Drift, ETS, Theta, ARIMA, QuantileLinear]


@pytest.fixture
def monthly():
    """Six years of a trend and a season with noise."""
    t, rng = np.arange(72), np.random.default_rng(0)
    return (20 + 0.1 * t + 3 * np.sin(2 * np.pi * t / 12) + 0.3 * rng.normal(size=72)).astype(np.float32)


def as_table(values, freq="ME"):
    return pd.DataFrame({"date": pd.date_range("2020-01-31", periods=len(values), freq=freq), "x": values})


def pinball(errors, level):
    return np.mean(errors * (level - (errors < 0)))


def law_by_loop(forecaster, y, horizon, season):
    """Mean and standard deviation, one step at a time."""
    t = len(y)
    step = {Naive: 1, Drift: 1, SeasonalNaive: season}[forecaster]
    slope = (y[-1] - y[0]) / (t - 1) if forecaster is Drift else 0.0
    errors = [y[i] - y[i - step] - slope for i in range(step, t)]
    sigma = math.sqrt(sum(e * e for e in errors) / len(errors))
    for k in range(1, horizon + 1):
        if forecaster is Naive:
            yield y[-1], sigma * math.sqrt(k)
        elif forecaster is Drift:
            yield y[-1] + k * slope, sigma * math.sqrt(k * (1 + k / (t - 1)))
        else:
            whole = (k - 1) // season + 1
            yield y[t - 1 + k - season * whole], sigma * math.sqrt(whole)


@pytest.mark.parametrize("forecaster", [Naive, SeasonalNaive, Drift])
def test_naive_laws_equal_their_equations(forecaster, monthly):
    forecast = forecaster(season=12).forecast(monthly, 30, (0.1, 0.5, 0.9))
    for k, (mean, stdev) in enumerate(law_by_loop(forecaster, monthly.astype(float), 30, 12)):
        expected = norm(mean, stdev).ppf([0.1, 0.5, 0.9])
        np.testing.assert_allclose(forecast.quantiles[0, :, k], expected, rtol=1e-5)  # float32
        assert forecast.mean[0, k] == pytest.approx(mean, rel=1e-6)


def test_seasonal_naive_of_many_histories_equals_each_by_itself():
    rng = np.random.default_rng(1)
    many = np.where(rng.random((4, 3, 50)) < 0.4, np.nan, rng.normal(size=(4, 3, 50)))
    many[0, 0, :45] = np.nan  # shorter than a season
    together = seasonal_naive(many, 20, 7)
    for i in np.ndindex(4, 3):
        np.testing.assert_array_equal(together[i], seasonal_naive(many[i], 20, 7))


def test_the_season_is_that_of_the_frequency_unless_given(monthly):
    table = SeasonalNaive().forecast(as_table(monthly), 3)
    np.testing.assert_array_equal(table["mean"], monthly[-12:-9])
    given = SeasonalNaive(season=4).forecast(as_table(monthly), 3)
    np.testing.assert_array_equal(given["mean"], monthly[-4:-1])
    arrays = SeasonalNaive().forecast(monthly, 2)  # without a frequency: no season
    np.testing.assert_array_equal(arrays.mean[0], monthly[[-1, -1]])


def test_a_history_that_repeats_itself_exactly_leaves_nothing_uncertain():
    forecast = SeasonalNaive().forecast(as_table(np.tile([1.0, 5, 2, 9, 4, 4, 0, 3, 8, 8, 1, 7], 4)), 12)
    assert (forecast["0.1"] == forecast["mean"]).all()
    assert (forecast["0.9"] == forecast["mean"]).all()


@pytest.mark.parametrize("forecaster", [ETS, Theta, ARIMA, QuantileLinear])
def test_a_model_foresees_trend_and_season_better_than_seasonal_naive(forecaster, monthly):
    t = np.arange(72, 84)
    truth = 20 + 0.1 * t + 3 * np.sin(2 * np.pi * t / 12)
    error = np.abs(forecaster().forecast(as_table(monthly), 12)["mean"] - truth).mean()
    assert error < np.abs(SeasonalNaive().forecast(as_table(monthly), 12)["mean"] - truth).mean()


def test_ets_takes_the_model_with_the_best_aicc(monthly):
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    y = monthly.astype(float)
    shifted = pd.Series((y - y.mean()) / y.std())
    fits = [
        ETSModel(shifted, trend=a, damped_trend=a is not None, seasonal=s, seasonal_periods=12, initialization_method=i)
        for a in (None, "add")
        for s in (None, "add")
        for i in ("heuristic",)
    ]
    best = min((model.fit(disp=False) for model in fits), key=lambda fit: fit.aicc)
    expected = y.mean() + y.std() * best.forecast(6).to_numpy()
    np.testing.assert_allclose(ETS().forecast(as_table(monthly), 6)["mean"], expected, rtol=1e-5)


def test_quantile_regression_equals_statsmodels():
    from statsmodels.regression.quantile_regression import QuantReg

    rng = np.random.default_rng(2)
    x = np.stack([np.ones((2, 300)), rng.normal(size=(2, 300))], axis=-1)
    y = 1 + 2 * x[..., 1] + (1 + 0.5 * np.abs(x[..., 1])) * rng.normal(size=(2, 300))
    beta = fit_quantiles(x, y, np.array([0.1, 0.5, 0.9]))
    for m in range(2):
        for q, level in enumerate((0.1, 0.5, 0.9)):
            reference = QuantReg(y[m], x[m]).fit(level).params
            ours, theirs = (pinball(y[m] - x[m] @ b, level) for b in (beta[m, q], reference))
            assert ours <= 1.01 * theirs  # both iterate towards the least loss, ours with its corner rounded


def test_quantiles_of_the_linear_model_are_calibrated_in_the_past_it_was_fitted_to():
    y = np.random.default_rng(3).normal(size=600)
    quantiles = QuantileLinear().forecast(y, 4).quantiles[0]
    np.testing.assert_allclose(quantiles.mean(axis=1), norm.ppf(LEVELS), atol=0.35)  # 600 values, one origin
    assert (np.diff(quantiles, axis=0) >= 0).all()


@pytest.mark.parametrize("forecaster", ALL)
def test_gaps_short_and_constant_histories_give_finite_forecasts(forecaster, monthly):
    holed = monthly.copy()
    holed[10:20] = holed[-2:] = np.nan
    histories = [holed, monthly[:1], monthly[:2], np.full(40, 7.0), np.concatenate([np.full(30, np.nan), monthly])]
    forecast = forecaster(season=12).forecast(histories, 15)
    assert np.isfinite(forecast.quantiles).all()
    np.testing.assert_allclose(forecast.quantiles[3], 7.0, rtol=1e-6)


def test_histories_that_cannot_be_fitted_are_counted_and_reported_once(monthly, caplog):
    forecaster = ETS()
    with caplog.at_level(logging.WARNING):
        forecast = forecaster.forecast([monthly[:4], monthly[:5], np.full(20, 1.0), monthly], 3)
    assert forecaster.replaced == {"a history shorter than 10 steps": 2, "a constant history": 1}
    assert len(caplog.records) == 2
    np.testing.assert_array_equal(forecast.mean[0], SeasonalNaive().forecast(monthly[:4], 3).mean[0])


@pytest.mark.parametrize("forecaster", ALL)
def test_a_series_without_an_observed_value_is_refused_by_name(forecaster):
    with pytest.raises(ValueError, match="series '1' has no observed value in its last 8 steps"):
        forecaster(context_length=8).forecast([np.ones(9), np.r_[1.0, np.full(8, np.nan)]], 2)


def test_variates_are_forecast_one_by_one(monthly):
    pair = np.stack([monthly, -monthly])
    together = Theta(target_dim=2, season=12).forecast([pair], 5)
    alone = [Theta(season=12).forecast(row, 5).quantiles[0] for row in pair]
    np.testing.assert_allclose(together.quantiles[0], alone, rtol=1e-6)


def test_gluonts_gets_quantiles_of_a_normal_law(monthly):
    entry = {"target": monthly, "start": pd.Period("2020-01", freq="M")}
    (forecast,) = SeasonalNaive(4).create_predictor().predict([entry])
    expected = SeasonalNaive(4).predict_series([Series("a", "2020-01-31", "M", monthly)], 4, None).summarise((0.9,))
    np.testing.assert_array_equal(forecast.quantile(0.9), expected[1][0, 0, 0])


def test_a_season_below_one_step_is_refused():
    with pytest.raises(ValueError, match="season must be at least 1 step, got 0"):
        Naive(season=0)


def test_batches_are_smaller_where_forecasts_are_longer_and_do_not_change_the_forecast(monthly):
    forecaster = Naive()
    assert forecaster.batch_size(10) > forecaster.batch_size(1_000_000) == 3
    many = [monthly + i for i in range(5)]
    np.testing.assert_array_equal(forecaster.forecast(many, 3).mean, forecaster.forecast(many, 3, batch_size=2).mean)
