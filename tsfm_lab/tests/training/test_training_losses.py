"""The packed loss against one series at a time."""

import pytest
import torch
from torch.distributions import Normal

from tsfm_lab.tests.models.packed_rows import make_packed_batch
from tsfm_lab.training.losses import PackedNLLLoss, weigh_values

BATCH = make_packed_batch()


@pytest.fixture
def law():
    torch.manual_seed(0)
    return Normal(torch.randn_like(BATCH["target"]), 1 + torch.rand_like(BATCH["target"]))


def series():
    """The masks (t) of every series that has a predicted token, with its row."""
    for row in range(len(BATCH["sample_id"])):
        for key in {*zip(BATCH["sample_id"][row].tolist(), BATCH["variate_id"][row].tolist(), strict=True)}:
            member = (BATCH["sample_id"][row] == key[0]) & (BATCH["variate_id"][row] == key[1])
            member &= BATCH["prediction_mask"][row]
            if member.any():
                yield row, member


def test_the_loss_is_the_mean_over_series_of_the_mean_over_their_predicted_observed_values(law):
    nll = -law.log_prob(BATCH["target"])
    means = [nll[row, member][BATCH["observed_mask"][row, member]].mean() for row, member in series()]
    torch.testing.assert_close(PackedNLLLoss()(law, BATCH), torch.stack(means).mean())


def test_sums_and_counts_of_parts_of_a_batch_add_up_to_its_loss(law):
    loss, parts = PackedNLLLoss(), [{name: tensor[i : i + 1] for name, tensor in BATCH.items()} for i in range(2)]
    laws = [Normal(law.loc[i : i + 1], law.scale[i : i + 1]) for i in range(2)]
    total = sum(loss.summed(*pair) for pair in zip(laws, parts, strict=True))
    torch.testing.assert_close(total / sum(map(loss.num_series, parts)), loss(law, BATCH))


def test_weights_of_a_series_sum_to_one_and_others_are_zero():
    weights = weigh_values(BATCH)
    assert (weights[~(BATCH["prediction_mask"][..., None] & BATCH["observed_mask"])] == 0).all()
    for row, member in series():
        torch.testing.assert_close(weights[row, member].sum(), torch.tensor(1.0))


def test_a_series_with_nothing_observed_to_predict_counts_but_adds_nothing(law):
    row, member = next(series())
    observed = BATCH["observed_mask"].clone()
    observed[row, member] = False
    batch, loss = {**BATCH, "observed_mask": observed}, PackedNLLLoss()
    assert loss.num_series(batch) == loss.num_series(BATCH)
    assert loss.summed(law, batch).isfinite()


def test_densities_of_what_is_not_predicted_do_not_matter(law):
    class Impossible:
        def log_prob(self, value):
            outside = ~BATCH["prediction_mask"][..., None].expand_as(value)
            return law.log_prob(value).masked_fill(outside, -torch.inf)

    torch.testing.assert_close(PackedNLLLoss()(Impossible(), BATCH), PackedNLLLoss()(law, BATCH))


def test_without_a_predicted_token_the_loss_is_zero(law):
    nothing = {**BATCH, "prediction_mask": torch.zeros_like(BATCH["prediction_mask"])}
    assert PackedNLLLoss()(law, nothing) == 0
