"""Packed batches for tests of models: samples of several variates and patch sizes, gaps, covariates, padding."""

import numpy as np
import torch

PATCH_SIZES = (8, 16, 32)


def make_packed_batch(rows=2, tokens=96, seed=0, patch_sizes=PATCH_SIZES, variates=3):
    """A batch whose samples have 1 to `variates` variates; a third of those after the first are past covariates.

    A tenth of the values is missing. The last 15–50 % of the tokens of every other variate are to be predicted.
    """
    rng = np.random.default_rng(seed)
    p = max(patch_sizes)
    batch = {
        "target": np.zeros((rows, tokens, p), np.float32),
        "observed_mask": np.zeros((rows, tokens, p), bool),
        **{name: np.zeros((rows, tokens), np.int64) for name in ("sample_id", "time_id", "variate_id", "patch_size")},
        "prediction_mask": np.zeros((rows, tokens), bool),
    }
    for row in range(rows):
        end = 0
        for sample in range(1, tokens):
            count, size = int(rng.integers(1, variates + 1)), int(rng.choice(patch_sizes))
            length = int(rng.integers(4, 12))
            horizon = max(1, int(length * rng.uniform(0.15, 0.5)))
            for k, variate in enumerate(rng.permutation(10)[:count]):
                past_only = k > 0 and rng.random() < 1 / 3
                start, end = end, end + length - (horizon if past_only else 0)
                if end > tokens - 3:  # leave some padding
                    end = tokens
                    break
                _fill(batch, rng, (row, slice(start, end)), size)
                batch["sample_id"][row, start:end] = sample
                batch["variate_id"][row, start:end] = variate
                batch["prediction_mask"][row, end - horizon : end] = not past_only
            if end >= tokens:
                break
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def _fill(batch, rng, place, size):
    """One series with a level, a season and noise, cut into patches."""
    n = (place[1].stop - place[1].start) * size
    season = np.sin(np.arange(n) / rng.uniform(3, 20)) + 0.3 * rng.standard_normal(n)
    observed = rng.random(n) > 0.1
    values = (rng.uniform(-5, 50) + rng.uniform(0.5, 20) * season) * observed
    batch["target"][*place, :size] = values.reshape(-1, size)
    batch["observed_mask"][*place, :size] = observed.reshape(-1, size)
    batch["time_id"][place] = np.arange(n // size)
    batch["patch_size"][place] = size
