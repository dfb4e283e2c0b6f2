"""Histories of several series as one block of steps, ready to be cut into tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.series import Series


@dataclass(frozen=True)
class Windows:
    """The last steps of b items, each ending at its last observation, short ones padded on the left.

    Attributes
    ----------
    target: (b c t) float32; NaN is a missing value.
    is_pad: (b t) bool, True before an item's first step.
    feat_dynamic_real: (b k t+h) float32, known h steps beyond the target; None without such covariates.
    past_feat_dynamic_real: (b p t) float32; None without such covariates.
    season: (b) steps of the season that each item's frequency has, 1 for none; None where it is not known.
    """

    target: np.ndarray
    is_pad: np.ndarray
    feat_dynamic_real: np.ndarray | None = None
    past_feat_dynamic_real: np.ndarray | None = None
    season: np.ndarray | None = None

    @property
    def length(self) -> int:
        """t, steps."""
        return self.target.shape[2]

    def slice(self, begin: int, end: int, horizon: int = 0) -> "Windows":
        """Steps begin … end, and `horizon` further ones of the known covariates."""
        known, past = self.feat_dynamic_real, self.past_feat_dynamic_real
        return Windows(
            self.target[..., begin:end],
            self.is_pad[..., begin:end],
            None if known is None else known[..., begin : end + horizon],
            None if past is None else past[..., begin:end],
            self.season,
        )

    def select(self, items: np.ndarray) -> "Windows":
        """Some of the items: indices or a mask over b."""
        known, past = self.feat_dynamic_real, self.past_feat_dynamic_real
        return Windows(
            self.target[items],
            self.is_pad[items],
            None if known is None else known[items],
            None if past is None else past[items],
            None if self.season is None else self.season[items],
        )


def cut_windows(series: Sequence[Series], length: int, horizon: int, known: int = 0, past: int = 0) -> Windows:
    """The last `length` steps of each series, with `horizon` future steps of its known covariates.

    known, past: covariates k and p that the forecaster was built for; a series may have more, not fewer.
    Raises ValueError naming the item: a covariate is missing or ends before the horizon, the numbers of variates
    differ, or a value is infinite.
    """
    b, c = len(series), series[0].num_variates
    windows = Windows(
        np.full((b, c, length), np.nan, dtype=np.float32),
        np.ones((b, length), dtype=bool),
        np.full((b, known, length + horizon), np.nan, dtype=np.float32) if known else None,
        np.full((b, past, length), np.nan, dtype=np.float32) if past else None,
        np.array([item.season_length for item in series]),
    )
    for i, item in enumerate(series):
        _require_fields(item, c, known, past, horizon)
        take = min(length, item.length)
        windows.target[i, :, length - take :] = item.target[:, item.length - take :]
        windows.is_pad[i, length - take :] = False
        if known:
            covariates = item.feat_dynamic_real[:known, item.length - take : item.length + horizon]
            windows.feat_dynamic_real[i, :, length - take :] = covariates
        if past:
            windows.past_feat_dynamic_real[i, :, length - take :] = item.past_feat_dynamic_real[:past, -take:]
    return windows


def _require_fields(item: Series, num_variates: int, known: int, past: int, horizon: int) -> None:
    name = f"series {item.item_id!r}"
    if item.num_variates != num_variates:
        raise ValueError(f"{name} has {item.num_variates} variates, the others have {num_variates}")
    if np.isinf(item.target).any():
        raise ValueError(f"{name} has infinite values; replace them by NaN, which counts as missing")
    for field, values, count in (
        ("feat_dynamic_real", item.feat_dynamic_real, known),
        ("past_feat_dynamic_real", item.past_feat_dynamic_real, past),
    ):
        if count and (values is None or len(values) < count):
            raise ValueError(f"{name} must have {count} {field}, got {0 if values is None else len(values)}")
    if known and item.feat_dynamic_real.shape[1] < item.length + horizon:
        raise ValueError(
            f"{name}: feat_dynamic_real must reach {horizon} steps beyond the target, "
            f"got {item.feat_dynamic_real.shape[1] - item.length}"
        )
