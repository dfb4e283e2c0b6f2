"""Projections with a weight per patch size against one token at a time."""

import pytest
import torch

from tsfm_lab.nn.embed import MultiInSizeLinear, MultiOutSizeLinear, group_by_patch_size

SIZES = (2, 3, 4)
PATCH = torch.tensor([3, 4, 0, 2, 3, 2])  # one token without a patch


def fill(layer):
    torch.manual_seed(0)
    for parameter in layer.parameters():
        parameter.data.normal_()  # past the live rows too, as they must not matter
    return layer


def test_tokens_are_grouped_by_patch_size_in_order():
    assert [group.tolist() for group in group_by_patch_size(PATCH, SIZES)] == [[3, 5], [0, 4], [1]]


def test_a_patch_is_embedded_by_the_weight_of_its_size():
    layer, x = fill(MultiInSizeLinear(SIZES, 5)), torch.randn(2, 3, 4)
    y = layer(x, PATCH.view(2, 3))
    for n, p in enumerate(PATCH.tolist()):
        expected = torch.zeros(5)
        if p:
            i = SIZES.index(p)
            expected = layer.weight[i, :, :p] @ x.flatten(0, 1)[n, :p] + layer.bias[i]
        torch.testing.assert_close(y.flatten(0, 1)[n], expected)


@pytest.mark.parametrize("dim", [1, 3])
def test_outputs_come_from_the_live_rows_and_a_bias_that_is_never_masked(dim):
    layer, x = fill(MultiOutSizeLinear(5, SIZES, dim)), torch.randn(6, 5)
    y = layer(x, PATCH)
    for n, p in enumerate(PATCH.tolist()):
        expected = torch.zeros(dim * 4)
        if p:
            i = SIZES.index(p)
            live = torch.arange(dim * 4) < dim * p
            expected = (layer.weight[i] @ x[n]) * live + layer.bias[i]
        torch.testing.assert_close(y[n], expected)


def test_rows_for_some_positions_are_those_of_all():
    layer = fill(MultiOutSizeLinear(5, SIZES, 3))
    for n, (weight, bias), (whole_weight, whole_bias) in zip(
        SIZES, layer.rows(SIZES), layer.rows([4, 4, 4]), strict=True
    ):
        assert torch.equal(weight, whole_weight.view(3, 4, 5)[:, :n].flatten(0, 1))
        assert torch.equal(bias, whole_bias.view(3, 4)[:, :n].flatten())


def test_a_size_that_no_token_has_gets_a_gradient_of_zero():
    layer = fill(MultiInSizeLinear(SIZES, 5))
    layer(torch.randn(1, 2, 4), torch.tensor([[3, 3]])).sum().backward()
    assert (layer.weight.grad[[0, 2]] == 0).all()
    assert (layer.bias.grad[1] == 2).all()


@pytest.mark.parametrize("make", [lambda: MultiInSizeLinear(SIZES, 50), lambda: MultiOutSizeLinear(50, SIZES, 2)])
def test_fresh_weights_past_the_live_part_are_zero_and_the_rest_is_not(make):
    layer = make()
    if isinstance(layer, MultiInSizeLinear):
        dead, live = layer.weight[0, :, 2:], layer.weight[0, :, :2]
    else:
        dead, live = layer.weight[0, 4:], layer.weight[0, :4]
    assert (dead == 0).all()
    assert (live != 0).all()
