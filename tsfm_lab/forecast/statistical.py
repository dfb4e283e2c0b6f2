"""ETS, Theta and ARIMA: one small model a series, fitted by statsmodels."""

import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tsfm_lab.forecast.imputation import observed_part
from tsfm_lab.forecast.naive import ClassicalForecaster, SeasonalNaive

logger = logging.getLogger(__name__)


class Unfitted(Exception):
    """A history that a model cannot be fitted to, with the reason."""


class LocalForecaster(ClassicalForecaster):
    """Base of the models that are fitted to each history by itself; missing values are interpolated.

    A history that cannot be fitted is forecast by seasonal naive: `replaced` counts them by reason, and the first of
    each reason is logged as a warning.
    """

    min_length = 3  # steps of history that a fit needs

    def law(self, history: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """See `ClassicalForecaster.law`."""
        mean, stdev = SeasonalNaive().law(history, horizon, season)
        for i in np.ndindex(history.shape[:2]):
            try:
                mean[i], stdev[i] = self._fit(observed_part(history[i]), horizon, season)
            except Unfitted as reason:
                self._report(str(reason))
        return mean, stdev

    def _fit(self, y: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        if len(y) < self.min_length:
            raise Unfitted(f"a history shorter than {self.min_length} steps")
        if np.ptp(y) == 0:
            raise Unfitted("a constant history")
        shift, scale = y.mean(), y.std()  # the optimisers' tolerances are absolute
        season = season if season > 1 and len(y) >= 2 * season + 1 else 1
        with _quiet():
            try:
                mean, stdev = self.fit((y - shift) / scale, horizon, season)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                raise Unfitted(f"{type(error).__name__} in the fit") from error
        if not (np.isfinite(mean).all() and np.isfinite(stdev).all()):
            raise Unfitted("a fit that is not finite")
        return shift + scale * mean, scale * stdev

    @abstractmethod
    def fit(self, y: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the steps after a complete, standardised history: (t) -> (h) each.

        season: steps, 1 for none; the history has more than two.
        """

    def _report(self, reason: str) -> None:
        if not self.replaced[reason]:
            logger.warning("%s: seasonal naive stands in for %s", type(self).__name__, reason)
        self.replaced[reason] += 1


class ETS(LocalForecaster):
    """Exponential smoothing with additive errors, Hyndman & Athanasopoulos 2021, ch. 8: the best AICc of four.

    Without or with a damped trend; where the history has more than two seasons, without or with an additive season.
    """

    min_length = 10

    def fit(self, y: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """See `LocalForecaster.fit`; the standard deviation is the model's exact one."""
        import pandas as pd
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel

        options = [
            {"trend": trend, "damped_trend": trend is not None, "seasonal": seasonal, "seasonal_periods": season}
            for trend in (None, "add")
            for seasonal in (None, "add")[: 1 + (season > 1)]
        ]
        models = [ETSModel(pd.Series(y), initialization_method="heuristic", **option) for option in options]
        best = min((model.fit(disp=False) for model in models), key=lambda fitted: fitted.aicc)
        law = best.get_prediction(len(y), len(y) + horizon - 1, method="exact")
        return np.asarray(law.predicted_mean), np.sqrt(np.asarray(law.forecast_variance))


class Theta(LocalForecaster):
    """The Theta method, θ = 2, on the series less its season; Assimakopoulos & Nikolopoulos 2000.

    The season is taken out additively where a test finds one, and the law is that of an IMA(1, 1).
    """

    min_length = 5

    def fit(self, y: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """See `LocalForecaster.fit`."""
        from statsmodels.tsa.forecasting.theta import ThetaModel

        fitted = ThetaModel(y, period=season, deseasonalize=season > 1, method="additive").fit()
        one_sigma = 0.3173105  # the probability outside ±σ
        limits = np.asarray(fitted.prediction_intervals(horizon, alpha=one_sigma))
        return np.asarray(fitted.forecast(horizon)), (limits[:, 1] - limits[:, 0]) / 2


class ARIMA(LocalForecaster):
    """ARIMA of the history less its season: the best AICc of a few small orders, one difference.

    The season is that of STL (Cleveland et al. 1990), its last cycle repeated; it adds nothing to the spread.
    """

    min_length = 10
    orders = ((0, 1, 0), (0, 1, 1), (1, 1, 1), (2, 1, 1))

    def fit(self, y: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, np.ndarray]:
        """See `LocalForecaster.fit`."""
        from statsmodels.tsa.arima.model import ARIMA as ArimaModel
        from statsmodels.tsa.seasonal import STL

        repeated = np.zeros(horizon)
        if season > 1:
            seasonal = np.asarray(STL(y, period=season).fit().seasonal)
            repeated = seasonal[-season:][np.arange(horizon) % season]
            y = y - seasonal
        models = [ArimaModel(y, order=order) for order in self.orders]
        fitted = [model.fit(method_kwargs={"maxiter": 50}) for model in models]
        law = min(fitted, key=lambda result: result.aicc).get_forecast(horizon)
        return repeated + law.predicted_mean, law.se_mean


@contextmanager
def _quiet() -> Iterator[None]:
    """Without statsmodels' warnings of fits that did not converge: the forecast is scored all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
