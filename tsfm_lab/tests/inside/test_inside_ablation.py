"""A layer without its update passes on what it got; afterwards the model is what it was."""

import pytest
import torch

from tsfm_lab.inside import ablate_layers, layer_representations, packed_loss, untrained_twin, without_update
from tsfm_lab.tests.inside.tiny_models import KINDS, make_batch, make_model


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_without_both_updates_is_the_identity(name):
    module = make_model(name)
    batch = make_batch(module)
    whole = layer_representations(module, batch)
    for layer in range(2):
        with without_update(module, layer):
            x = layer_representations(module, batch)
        assert torch.equal(x[layer + 1], x[layer])
    for before, after in zip(whole, layer_representations(module, batch), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("name", ["moirai", "hybrid"])
def test_without_its_mixing_a_layer_is_its_feed_forward_and_the_reverse(name):
    module = make_model(name)
    batch, layer = make_batch(module), module.encoder.layers[0]
    with without_update(module, 0, ("mix",)):
        x, y, _ = layer_representations(module, batch)
    torch.testing.assert_close(y, x + layer.ffn(layer.norm2(x)))
    with without_update(module, 0, ("feed",)):
        x, z, _ = layer_representations(module, batch)
    assert not torch.equal(z, x)
    assert not torch.equal(z, y)


def test_representations_are_what_the_layers_pass_on():
    module = make_model("moirai2_hybrid")
    batch, passed = make_batch(module), []
    for layer in module.encoder.layers:
        layer.register_forward_hook(lambda _, inputs, output: passed.append((inputs[0], output)))
    first, *others = layer_representations(module, batch)
    assert torch.equal(first, passed[0][0])
    assert all(torch.equal(x, output) for x, (_, output) in zip(others, passed, strict=True))


def test_the_table_has_the_whole_model_first_and_each_part_of_each_layer():
    module = make_model("hybrid")
    batch = make_batch(module)
    rows = ablate_layers(module, lambda m: {"norm": float(layer_representations(m, batch)[-1].norm())})
    assert [(row["layer"], row["kind"], row["without"]) for row in rows[:4]] == [
        (None, "", ""),
        (0, "STU", "mix"),
        (0, "STU", "feed"),
        (0, "STU", "mix+feed"),
    ]
    assert len(rows) == 1 + 2 * 3
    assert rows[0]["norm"] == float(layer_representations(module, batch)[-1].norm())
    assert all(row["norm"] != rows[0]["norm"] for row in rows[1:])


@pytest.mark.parametrize(("layer", "parts"), [(2, ("mix",)), (-1, ("mix",)), (0, ("norm",)), (0, ())])
def test_a_layer_or_part_that_is_not_there_is_refused(layer, parts):
    with pytest.raises(ValueError, match="must be"), without_update(make_model("moirai"), layer, parts):
        pass


@pytest.mark.parametrize("name", KINDS)
def test_an_untrained_twin_has_the_same_configuration_and_other_weights(name):
    module = make_model(name)
    twin, again = untrained_twin(module, seed=3), untrained_twin(module, seed=3)
    assert type(twin) is type(module)
    assert twin.config == module.config
    for parameter, other, repeated in zip(module.parameters(), twin.parameters(), again.parameters(), strict=True):
        assert parameter.shape == other.shape
        assert torch.equal(other, repeated)
    assert not torch.equal(
        twin.encoder.layers[1].self_attn.q_proj.weight, module.encoder.layers[1].self_attn.q_proj.weight
    )


def test_making_a_twin_leaves_the_random_state_alone():
    module = make_model("moirai")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    untrained_twin(module, seed=7)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ["moirai", "hybrid"])
def test_the_loss_is_the_mean_over_series_of_their_mean_negative_log_likelihood(name):
    module = make_model(name)
    batch = make_batch(module)
    with torch.no_grad():
        nll = -module(**batch).log_prob(batch["target"])
    series, losses = batch["sample_id"] * 100 + batch["variate_id"], []
    for b in range(len(series)):
        for one in series[b].unique():
            counted = ((series[b] == one) & batch["prediction_mask"][b])[:, None] & batch["observed_mask"][b]
            if counted.any():
                losses.append(nll[b][counted].mean())
    assert packed_loss(module, batch) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


def test_the_loss_of_quantiles_is_in_scales_so_that_units_do_not_count():
    module = make_model("moirai2")
    batch = make_batch(module)
    in_other_units = {**batch, "target": 1000 * batch["target"]}
    assert packed_loss(module, in_other_units) == pytest.approx(packed_loss(module, batch), rel=1e-3)
    with without_update(module, 0):
        assert packed_loss(module, batch) != packed_loss(make_model("moirai2"), batch)
