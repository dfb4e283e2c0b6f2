"""Writes golden/moirai2.npz: what uni2ts 2.0.0 computes for a small MOIRAI-2, on a packed batch and decoding.

Run where uni2ts is installed:  python -m tsfm_lab.tests.models.make_moirai2_golden
Weights are a formula of their names, inputs are seeded. The packed batch is computed in float64; the peer's decoding
only runs in float32.
"""

from pathlib import Path

import numpy as np
import torch

from tsfm_lab.tests.models.make_golden import fill_weights, to_double
from tsfm_lab.tests.models.packed_rows import make_packed_batch

FILE = Path(__file__).parent / "golden" / "moirai2.npz"
SIZES = {
    "d_model": 64,
    "d_ff": 96,
    "num_layers": 2,
    "patch_size": 16,
    "max_seq_len": 64,
    "attn_dropout_p": 0.0,
    "dropout_p": 0.0,
    "num_predict_token": 4,
}
SOME = (..., slice(None, None, 4), slice(None, None, 5))  # of (q p): three quantiles, four places of a patch
CONTEXT, HORIZON = 100, 200


def golden_batch():
    return make_packed_batch(tokens=40, seed=3, patch_sizes=(16,))


def golden_histories():
    """(b t c) and which steps are padding: a long history, one with a gap at 0, one of 37 steps."""
    rng = np.random.default_rng(5)
    values = np.sin(np.arange(CONTEXT) / 5) + 0.3 * rng.normal(size=(3, CONTEXT)) + np.array([[0.0], [50.0], [-3.0]])
    observed, is_pad = np.ones((3, CONTEXT), bool), np.zeros((3, CONTEXT), bool)
    observed[1, 40:60] = False
    is_pad[2, :-37], observed[2, :-37] = True, False
    values = torch.from_numpy((values * observed).astype(np.float32))[..., None]
    return values, torch.from_numpy(observed)[..., None], torch.from_numpy(is_pad)


def compute_golden():
    from uni2ts.model.moirai2 import Moirai2Forecast, Moirai2Module

    batch = golden_batch()
    inputs = {name: value for name, value in to_double(batch).items() if name != "patch_size"}
    model = Moirai2Module(**SIZES).eval()
    fill_weights(model)
    forecaster = Moirai2Forecast(HORIZON, 1, 0, 0, CONTEXT, module=model)
    with torch.no_grad():
        decoded = forecaster(*golden_histories())
        model.double()
        for module in model.modules():
            if hasattr(module, "_init_freq"):  # the tables of rotary angles were made in float32
                module.cos = None
                module._init_freq(SIZES["max_seq_len"])
        output = model(**inputs, training_mode=False)
    quantiles = output.unflatten(-1, (SIZES["num_predict_token"], 9, SIZES["patch_size"]))
    return {"quantiles": quantiles[batch["sample_id"] > 0][SOME].float(), "decoded": decoded}


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **{name: value.numpy() for name, value in compute_golden().items()})
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")
