"""MoiraiMoEModule against stored results of uni2ts 2.0.0 (golden/moirai_moe.npz, by make_moirai_moe_golden.py)."""

import numpy as np
import pytest
import torch

from tsfm_lab.models import MoiraiMoEModule, published_mixture
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.moe import record_routing
from tsfm_lab.tests.models.make_golden import inside_patches, project_gradients, to_double
from tsfm_lab.tests.models.make_moirai_moe_golden import FILE, SIZES, fill
from tsfm_lab.training.losses import PackedNLLLoss

with np.load(FILE) as arrays:
    GOLDEN = {name: torch.from_numpy(arrays[name]) for name in arrays}
BATCH = {name.removeprefix("batch/"): value for name, value in GOLDEN.items() if name.startswith("batch/")}
REAL = BATCH["sample_id"] > 0
INSIDE = inside_patches(BATCH) & REAL[..., None]
STORED = 2e-6  # the peer's weights of experts are float32 even in float64


@pytest.fixture(scope="module")
def model():
    model = MoiraiMoEModule(published_mixture(), **SIZES).eval()
    fill(model)
    return model.double()


@pytest.fixture(scope="module")
def batch():
    return to_double(BATCH)


def test_routers_choose_the_peers_experts_by_the_peers_distances(model, batch):
    with record_routing(model) as record:
        model(**batch)
    experts = torch.stack([routing.experts[REAL.flatten()] for routing in record])
    assert torch.equal(experts, GOLDEN["experts"].long())
    assert len(experts.unique()) > 30  # hardly an expert is left out of the comparison
    distances = torch.stack([routing.scores.gather(-1, routing.experts)[REAL.flatten()] for routing in record])
    torch.testing.assert_close(distances.float(), GOLDEN["distances"], rtol=STORED, atol=STORED)


def test_in_float32_at_most_one_choice_in_a_thousand_differs(batch):
    model = MoiraiMoEModule(published_mixture(), **SIZES).eval()
    fill(model)
    with record_routing(model) as record:
        model(**BATCH)
    experts = torch.stack([routing.experts[REAL.flatten()] for routing in record])
    assert (experts != GOLDEN["experts"]).float().mean() <= 1e-3  # near ties


def test_the_encoder_is_the_peers(model, batch):
    fields = ("target", "observed_mask", "sample_id", "variate_id", "prediction_mask", "patch_size")
    x = model._embed(*(batch[name] for name in fields))[-1]
    blocks = plan_blocks(batch["sample_id"], batch["variate_id"], batch["time_id"])
    encoded = model.encoder(x, batch["time_id"], blocks)[REAL]
    torch.testing.assert_close(encoded.float(), GOLDEN["encoded"], rtol=STORED, atol=STORED)


def test_log_densities_loss_and_gradients_are_the_peers(model, batch):
    model.zero_grad()
    law = model(**batch)
    log_prob = law.log_prob(batch["target"])[INSIDE]
    torch.testing.assert_close(log_prob.float(), GOLDEN["log_prob"], rtol=1e-5, atol=1e-5)
    loss = PackedNLLLoss()(law, batch)
    torch.testing.assert_close(loss.float(), GOLDEN["loss"], rtol=STORED, atol=0)
    loss.backward()
    found = {name: value.float() for name, value in project_gradients(model).items() if "experts" not in name}
    for name, value in found.items():
        expected = GOLDEN[f"grad/{name}"]
        assert ((value - expected).abs() < 1e-5 * expected[0] + 1e-7).all(), name
    experts = [p.grad.norm() for name, p in model.named_parameters() if "experts" in name]
    torch.testing.assert_close(torch.stack(experts).float(), GOLDEN["expert_gradient_norms"], rtol=1e-5, atol=1e-7)
