"""Writes golden/moirai2.npz: what uni2ts 2.0.0 computes for a small MOIRAI-2, on a packed batch and decoding.

Run where uni2ts is installed:  python -m tsfm_lab.tests.models.make_moirai2_golden
Weights are a formula of their names, inputs are seeded. The packed batch is computed in float64; the peer's decoding
only runs in float32.
"""

from pathlib import Path

import numpy as np
import torch

from tsfm_lab.forecast.imputation import impute_causal_mean
from tsfm_lab.forecast.windows import Windows
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


def golden_windows():
    """A long history, one with a gap, one of 37 steps."""
    rng = np.random.default_rng(5)
    target = np.sin(np.arange(CONTEXT) / 5) + 0.3 * rng.normal(size=(3, CONTEXT)) + np.array([[0.0], [50.0], [-3.0]])
    target[1, 40:60], target[2, :-37] = np.nan, np.nan
    is_pad = np.zeros((3, CONTEXT), dtype=bool)
    is_pad[2, :-37] = True
    return Windows(target[:, None].astype(np.float32), is_pad)


def peer_inputs(windows):
    """The arguments of the peer's forward: time before variates, missing values of one variate imputed, else 0."""
    target = windows.target.copy()
    if target.shape[1] == 1:
        for history, is_pad in zip(target[:, 0], windows.is_pad, strict=True):
            history[~is_pad] = impute_causal_mean(history[~is_pad])
    inputs = {"past_is_pad": torch.from_numpy(windows.is_pad)}
    inputs["past_target"] = torch.from_numpy(target).nan_to_num(0.0).transpose(1, 2)
    inputs["past_observed_target"] = ~torch.from_numpy(windows.target).isnan().transpose(1, 2)
    for name, mask in (
        ("feat_dynamic_real", "observed_feat_dynamic_real"),
        ("past_feat_dynamic_real", "past_observed_feat_dynamic_real"),
    ):
        if getattr(windows, name) is not None:
            values = torch.from_numpy(getattr(windows, name)).transpose(1, 2)
            inputs |= {name: values.nan_to_num(0.0), mask: ~values.isnan()}
    return inputs


def compute_golden():
    from uni2ts.model.moirai2 import Moirai2Forecast, Moirai2Module

    batch = golden_batch()
    inputs = {name: value for name, value in to_double(batch).items() if name != "patch_size"}
    model = Moirai2Module(**SIZES).eval()
    fill_weights(model)
    forecaster = Moirai2Forecast(HORIZON, 1, 0, 0, CONTEXT, module=model)
    with torch.no_grad():
        decoded = forecaster(**peer_inputs(golden_windows()))
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
