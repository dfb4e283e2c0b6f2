"""MoiraiModule against stored results of uni2ts 2.0.0 on the same weights (golden/moirai.npz, by make_golden.py).

The results are float64 ones. In float64 ours must agree to what float32 can store; in float32, as models run, to the
tolerances that float32 allows.
"""

import numpy as np
import pytest
import torch

from tsfm_lab.models.moirai import MoiraiModule, published_mixture
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.tests.models.make_golden import FILE, SIZES, fill_weights, inside_patches, project_gradients, to_double
from tsfm_lab.training.losses import PackedNLLLoss

with np.load(FILE) as arrays:
    GOLDEN = {name: torch.from_numpy(arrays[name]) for name in arrays}
BATCH = {name.removeprefix("batch/"): value for name, value in GOLDEN.items() if name.startswith("batch/")}
INSIDE = inside_patches(BATCH)
REAL = BATCH["sample_id"] > 0
PARAMETERS = ("StudentT.df", "StudentT.loc", "StudentT.scale", "Normal.loc", "LogNormal.loc", "LogNormal.scale")
PARAMETERS += ("NegativeBinomial.total_count", "NegativeBinomial.logits")


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def batch(dtype):
    return to_double(BATCH) if dtype == torch.float64 else BATCH


@pytest.fixture(scope="module")
def model(dtype):
    model = MoiraiModule(published_mixture(), **SIZES).eval()
    fill_weights(model)
    return model.to(dtype)


@pytest.fixture(scope="module")
def law(model, batch):
    return model(**batch)


def assert_close(found, name, dtype, tolerance):
    """Within `tolerance`, relative or absolute, in float32; within the rounding of what is stored in float64."""
    tolerance = tolerance if dtype == torch.float32 else 2e-7
    torch.testing.assert_close(found.double(), GOLDEN[name].double(), rtol=tolerance, atol=tolerance)


def test_the_batch_has_what_the_comparison_is_about():
    assert len(set(BATCH["patch_size"][REAL].tolist())) == 3
    assert (~REAL).any()
    assert BATCH["variate_id"][0, BATCH["sample_id"][0] == 1].unique().numel() > 1
    assert (~BATCH["observed_mask"] & INSIDE).any()


def test_location_and_scale_are_the_peers(law, dtype):
    assert_close(law.loc, "loc", dtype, 1e-7)
    assert_close(law.scale, "scale", dtype, 1e-6)


def test_the_encoder_is_the_peers_to_1e_5(model, batch, dtype):
    fields = ("target", "observed_mask", "sample_id", "variate_id", "prediction_mask", "patch_size")
    x = model._embed(*(batch[name] for name in fields))[-1]
    encoded = model.encoder(x, batch["time_id"], plan_blocks(batch["sample_id"], batch["variate_id"]))
    assert_close(encoded[REAL], "encoded", dtype, 1e-5)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_peers(law, name, dtype):
    component, parameter = name.split(".")
    (found,) = (getattr(c, parameter) for c in law.base.components if type(c).__name__ == component)
    assert_close(found[INSIDE], name, dtype, 1e-5)


def test_log_weights_are_the_peers(law, dtype):
    assert_close(law.base.log_weights.movedim(0, -1)[INSIDE], "log_weights", dtype, 1e-5)


def test_log_densities_are_the_peers(law, batch, dtype):
    assert_close(law.log_prob(batch["target"])[INSIDE], "log_prob", dtype, 1e-3)


def test_means_are_the_peers(law, dtype):
    assert_close(law.mean[INSIDE], "mean", dtype, 1e-5)


@pytest.mark.parametrize("whole", [True, False], ids=["all tokens", "predicted tokens"])
def test_loss_and_gradients_are_the_peers(model, batch, dtype, whole):
    model.zero_grad()
    loss = PackedNLLLoss()(model(**batch) if whole else model.forward_predicted(**batch), batch)
    assert_close(loss, "loss", dtype, 1e-5)
    loss.backward()
    norm = sum(GOLDEN[name][0] ** 2 for name in GOLDEN if name.startswith("grad/")) ** 0.5
    for name, found in project_gradients(model).items():
        expected = GOLDEN[f"grad/{name}"]
        # of the parameter's gradient, or where that cancels (variate bias) of the whole's; .6 % see make_golden.py
        tolerance = 1e-2 * expected[0] + 1e-5 * norm if dtype == torch.float32 else 1e-5 * expected[0] + 1e-9 * norm
        assert ((found - expected).abs() < tolerance).all(), f"{name}: {found.tolist()}, not {expected.tolist()}"
