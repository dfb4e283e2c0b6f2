"""Packed batches of a given number of segments, on which models and layers are timed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PATCH_SIZES = (8, 16, 32, 64, 128)


def make_packed_batch(
    num_segments: int, variates: tuple[int, ...] = (1,), rows: int = 8, tokens: int = 512, seed: int = 0
) -> dict[str, Tensor]:
    """Full rows cut at random into `num_segments` series, the last 15–50 % of each hidden, as in pretraining.

    Parameters
    ----------
    num_segments: series, i.e. runs of one (sample, variate), in all rows together.
    variates: numbers of variates of a sample, drawn with equal chance; (1,) makes every series its own sample.
    rows, tokens: the batch's shape (b t).

    Returns
    -------
    The fields of a packed batch; values |N(0, 1)|, so that they lie in the support of every component.
    """
    rng = np.random.default_rng(seed)
    names = ("sample_id", "time_id", "variate_id", "patch_size")
    ids = {name: np.zeros((rows, tokens), dtype=np.int64) for name in names}
    prediction_mask = np.zeros((rows, tokens), dtype=bool)
    for row in range(rows):
        in_row = num_segments // rows + (row < num_segments % rows)
        cuts = np.sort(rng.choice(np.arange(1, tokens), in_row - 1, replace=False))
        sample = variate = left = 0
        for start, end in zip([0, *cuts], [*cuts, tokens], strict=True):
            if left == 0:
                sample, variate, left, patch_size = sample + 1, 0, rng.choice(variates), rng.choice(PATCH_SIZES)
            values = {"sample_id": sample, "variate_id": variate, "patch_size": patch_size}
            for name, value in (values | {"time_id": np.arange(end - start)}).items():
                ids[name][row, start:end] = value
            hidden = max(1, int((end - start) * rng.uniform(0.15, 0.5)))
            prediction_mask[row, end - hidden : end] = True
            variate, left = variate + 1, left - 1
    batch = {name: torch.from_numpy(value) for name, value in (ids | {"prediction_mask": prediction_mask}).items()}
    observed_mask = torch.arange(max(PATCH_SIZES)) < batch["patch_size"][..., None]
    values = torch.from_numpy(rng.standard_normal(observed_mask.shape, dtype=np.float32)).abs()
    return {"target": values * observed_mask, "observed_mask": observed_mask, **batch}
