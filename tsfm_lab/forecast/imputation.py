"""Missing values of a history, filled in from what was observed."""

from dataclasses import replace

import numpy as np

from tsfm_lab.forecast.windows import Windows


def impute_causal_mean(values: np.ndarray) -> np.ndarray:
    """Put the mean of the steps before it in place of each missing one: `(t) -> (t)`, a history of one variate.

    As GluonTS's CausalMeanValueImputation, with which the published MOIRAI-MoE and MOIRAI-2 forecast: with v the
    history whose gaps repeat the last value, and whose start the first one, step t gets Σ_{i<t} v_i / t and step 0 gets
    v_0. Without any value, zeros.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    if missing.all():
        return np.zeros_like(values)
    steps = np.arange(len(values))
    last = np.maximum.accumulate(np.where(missing, -1, steps))
    repeated = values[np.where(last < 0, np.argmin(missing), last)]
    means = repeated.copy()
    means[1:] = repeated[:-1].cumsum(dtype=np.float64) / steps[1:]
    return np.where(missing, means, values)


def interpolate(values: np.ndarray) -> np.ndarray:
    """Put the line between its neighbours, at the ends the nearest one, in place of missing values: `(t) -> (t)`.

    Without any value, zeros.
    """
    observed = np.flatnonzero(~np.isnan(values))
    if not len(observed):
        return np.zeros_like(values)
    return np.interp(np.arange(len(values)), observed, values[observed]).astype(values.dtype)


def observed_part(values: np.ndarray) -> np.ndarray:
    """The history from its first observed value on, gaps interpolated: `(t) -> (t')`."""
    return interpolate(values[int(np.argmax(~np.isnan(values))) :])


def impute_windows(windows: Windows) -> Windows:
    """Windows of one variate with the causal mean in place of what is missing; with several they stay as they are.

    differs from uni2ts: the mean is of the window's steps, where GluonTS also counts those before it.
    """
    missing = np.isnan(windows.target) & ~windows.is_pad[:, None]
    if windows.target.shape[1] > 1 or not missing.any():
        return windows
    target = windows.target.copy()
    for history, is_pad in zip(target[:, 0], windows.is_pad, strict=True):
        history[~is_pad] = impute_causal_mean(history[~is_pad])
    return replace(windows, target=target)
