"""Forecast batches: windows of several series as the packed batch that the models read."""

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, repeat

from tsfm_lab.data.packing import PackedBatch
from tsfm_lab.forecast.imputation import impute_windows
from tsfm_lab.forecast.windows import Windows


class _Piece(NamedTuple):
    """Tokens of v variates over the same n places of a row."""

    values: np.ndarray  # (b v n p), NaN where missing or padding
    time: np.ndarray  # (b n)
    filled: np.ndarray  # (b n), False where a token is padding alone
    predicted: np.ndarray  # (n)


def pack_windows(
    windows: Windows, horizon: int, patch_size: int, max_patch_size: int, future: Windows | None = None
) -> PackedBatch:
    """One row an item: each variate's context, then its horizon, which the prediction mask covers.

    Then come the known covariates (context and horizon, all visible) and the past ones (context alone). The context is
    padded on the left to whole patches, the horizon on the right; tokens of padding alone stand at the end of the row.
    time_id counts from the first token with an observed target.
    differs from uni2ts: there all contexts precede all horizons. Attention does not care; a convolution needs each
    variate in one piece. And there a covariate's first token, where it is padding alone, counts as observed zeros.

    Parameters
    ----------
    windows: b items of c variates; known covariates reach `horizon` steps further. horizon: h, steps.
    patch_size, max_patch_size: steps; the patch axis of the batch has the latter.
    future: the h steps after `windows` where they are known, for scoring; None: zeros that count as observed.

    Returns
    -------
    The batch, on the CPU. Without `future` the predicted tokens of a row stand in the order (variate, time).
    """
    b, c, past = windows.target.shape
    observed = _cut(~np.isnan(windows.target), patch_size, left=True, pad=False).any(axis=(1, 3))  # (b n)
    time = np.maximum(np.cumsum(np.maximum.accumulate(observed, axis=1), axis=1) - 1, 0)
    filled = _cut(~windows.is_pad[:, None], patch_size, left=True, pad=False)[:, 0].any(axis=2)
    ahead = np.zeros((b, c, horizon), dtype=np.float32) if future is None else future.target
    ahead_is_pad = np.zeros((b, horizon), dtype=bool) if future is None else future.is_pad
    ahead_filled = _cut(~ahead_is_pad[:, None], patch_size, left=False, pad=False)[:, 0].any(axis=2)
    steps_ahead = np.arange(ahead_filled.shape[1])
    all_time = np.concatenate([time, time[:, -1:] + 1 + steps_ahead], axis=1)
    predicted = np.arange(all_time.shape[1]) >= time.shape[1]

    def context_and_horizon(context: np.ndarray, horizon: np.ndarray) -> np.ndarray:
        return np.concatenate([_cut(context, patch_size, left=True), _cut(horizon, patch_size, left=False)], axis=2)

    all_filled = np.concatenate([filled, ahead_filled], axis=1)
    pieces = [_Piece(context_and_horizon(windows.target, ahead), all_time, all_filled, predicted)]
    if windows.feat_dynamic_real is not None:
        known = windows.feat_dynamic_real
        all_known = np.concatenate([filled, np.ones_like(ahead_filled)], axis=1)
        values = context_and_horizon(known[..., :past], known[..., past:])
        pieces.append(_Piece(values, all_time, all_known, np.zeros_like(predicted)))
    if windows.past_feat_dynamic_real is not None:
        values = _cut(windows.past_feat_dynamic_real, patch_size, left=True)
        pieces.append(_Piece(values, time, filled, np.zeros(time.shape[1], dtype=bool)))
    return _as_batch(pieces, patch_size, max_patch_size)


def _cut(values: np.ndarray, patch_size: int, *, left: bool, pad: float | bool = np.nan) -> np.ndarray:
    """(b v t) -> (b v n p), padded to whole patches at the left or right end."""
    missing = -values.shape[2] % patch_size
    widths = [(0, 0), (0, 0), (missing, 0) if left else (0, missing)]
    return rearrange(np.pad(values, widths, constant_values=pad), "b v (n p) -> b v n p", p=patch_size)


def _as_batch(pieces: list[_Piece], patch_size: int, max_patch_size: int) -> PackedBatch:
    counts = [piece.values.shape[1] for piece in pieces]
    first = np.cumsum([0, *counts])
    values = np.concatenate([rearrange(piece.values, "b v n p -> b (v n) p") for piece in pieces], axis=1)
    time, filled = (
        np.concatenate([repeat(field(p), "b n -> b (v n)", v=v) for p, v in zip(pieces, counts, strict=True)], axis=1)
        for field in (lambda piece: piece.time, lambda piece: piece.filled)
    )
    predicted = np.concatenate([np.tile(p.predicted, v) for p, v in zip(pieces, counts, strict=True)])
    variate = np.concatenate(
        [np.repeat(np.arange(v) + k, len(p.predicted)) for p, v, k in zip(pieces, counts, first, strict=False)]
    )
    order = np.argsort(~filled, axis=1, kind="stable")  # padding to the end, so that no variate is torn

    def arrange(field: np.ndarray, fill: bool = True) -> torch.Tensor:
        field = np.broadcast_to(field, filled.shape) if field.ndim == 1 else field
        field = np.where(filled, field, 0).astype(field.dtype) if fill else field
        return torch.from_numpy(np.take_along_axis(field, order, axis=1))

    values = np.take_along_axis(values, order[..., None], axis=1)
    values = np.pad(values, [(0, 0), (0, 0), (0, max_patch_size - patch_size)], constant_values=np.nan)
    return PackedBatch(
        target=torch.from_numpy(np.nan_to_num(values, nan=0.0)),
        observed_mask=torch.from_numpy(~np.isnan(values)),
        sample_id=arrange(filled.astype(np.int64)),
        time_id=arrange(time.astype(np.int64)),
        variate_id=arrange(variate.astype(np.int64)),
        prediction_mask=arrange(predicted),
        patch_size=torch.full(filled.shape, patch_size, dtype=torch.int64),
    )


def pack_imputed(
    windows: Windows, horizon: int, patch_size: int, max_patch_size: int, future: Windows | None = None
) -> PackedBatch:
    """`pack_windows` with the values of `impute_windows`; masks and ids stay those of what was observed."""
    batch, imputed = pack_windows(windows, horizon, patch_size, max_patch_size, future), impute_windows(windows)
    if imputed is not windows:
        batch["target"] = pack_windows(imputed, horizon, patch_size, max_patch_size, future)["target"]
    return batch
