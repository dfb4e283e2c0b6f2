"""Every metric of a table from sums over the horizon: sums add up, so windows can be scored batch by batch.

MSE and NRMSE are of the mean, MAE, MASE, sMAPE and ND of the median, all others of the quantiles. What is left out of
which sum is what `metrics.aggregate` leaves out, and it is counted.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tsfm_lab.metrics.aggregate import ratio
from tsfm_lab.metrics.probabilistic import quantile_loss

NAMES = ("mse", "mae", "smape", "mase", "nd", "nrmse", "wql", "msis_80", "coverage_80")
Sums = dict[str, np.ndarray]


def error_sums(
    label: np.ndarray, mean: np.ndarray, quantiles: np.ndarray, levels: Sequence[float], scale: np.ndarray
) -> Sums:
    """Sums over the horizon of n windows, each (n); of the quantile losses (n q).

    label, mean: (n h), a NaN label is missing; quantiles: (n q h) at `levels`, which have .1, .5 and .9; scale: (n 1)
    of MASE, NaN where unknown.
    Raises ValueError where a forecast is NaN though the label is known.
    """
    known = np.isfinite(label)
    if (np.isnan(mean) & known).any() or (np.isnan(quantiles).any(axis=1) & known).any():
        raise ValueError("the forecast has NaN where the label is known; score complete forecasts only")
    label = np.where(known, label, 0.0)
    low, median, high = (quantiles[:, levels.index(level)] for level in (0.1, 0.5, 0.9))
    scaled = known & (scale != 0) & ~np.isnan(scale)
    scale = np.where((scale == 0) | np.isnan(scale), 1.0, scale)
    size = np.abs(label) + np.abs(median)
    shared = known & (size != 0)
    error = np.abs(label - median)
    outside = np.maximum(low - label, 0) + np.maximum(label - high, 0)

    def add(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.where(where, values, 0.0).sum(axis=-1)

    return {
        "values": known.sum(axis=-1),
        "missing": (~known).sum(axis=-1),
        "scaled_values": scaled.sum(axis=-1),
        "shared_values": shared.sum(axis=-1),
        "label": add(np.abs(label), known),
        "squared": add(np.square(label - mean), known),
        "absolute": add(error, known),
        "scaled": add(error / scale, scaled),
        "shares": add(2 * error / np.where(size == 0, 1.0, size), shared),
        "interval": add((high - low + 2 / 0.2 * outside) / scale, scaled),
        "inside": add((label > low) & (label <= high), known),
        "quantile": np.stack(
            [add(quantile_loss(label, quantiles[:, q], level), known) for q, level in enumerate(levels)], axis=-1
        ),
    }


def join_sums(parts: Sequence[Sums]) -> Sums:
    """The sums of several batches one behind the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def metrics_of(sums: Mapping[str, np.ndarray], *, by_window: bool = False) -> dict[str, np.ndarray]:
    """The metrics of `NAMES` from sums: each a number over all values, or (n) by window.

    msis_80 and coverage_80 are of the central 80 % interval.
    """
    added = sums if by_window else {name: values.sum(axis=0) for name, values in sums.items()}
    values, label = added["values"], added["label"]
    mse = ratio(added["squared"], values)
    metrics = {
        "mse": mse,
        "mae": ratio(added["absolute"], values),
        "smape": ratio(added["shares"], added["shared_values"]),
        "mase": ratio(added["scaled"], added["scaled_values"]),
        "nd": ratio(added["absolute"], label),
        "nrmse": ratio(np.sqrt(mse), ratio(label, values)),
        "wql": ratio(added["quantile"].mean(axis=-1), label),
        "msis_80": ratio(added["interval"], added["scaled_values"]),
        "coverage_80": ratio(added["inside"], values),
    }
    return {name: metrics[name] for name in NAMES}


def counts_of(sums: Mapping[str, np.ndarray]) -> dict[str, int]:
    """What was scored and what was left out: windows, values, missing labels, values without a scale or a size."""
    values = int(sums["values"].sum())
    return {
        "windows": len(sums["values"]),
        "values": values,
        "missing": int(sums["missing"].sum()),
        "without_scale": values - int(sums["scaled_values"].sum()),
        "zero_size": values - int(sums["shared_values"].sum()),
    }
