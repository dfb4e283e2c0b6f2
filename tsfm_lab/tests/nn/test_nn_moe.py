"""Routers and experts: against the slow obvious way, and the losses and figures at their known values."""

import copy

import pytest
import torch

from tsfm_lab.nn.ffn import GatedLinearUnit
from tsfm_lab.nn.moe import (
    CentroidRouter,
    LinearRouter,
    MoEFeedForward,
    Routing,
    expert_load,
    load_balancing_loss,
    load_entropy,
    record_routing,
    router_z_loss,
)

E, D = 8, 12


def make_layer(router=LinearRouter, k=2, seed=0, **options):
    torch.manual_seed(seed)
    return MoEFeedForward(E, router(D, E, k, **options), lambda: GatedLinearUnit(D, 10))


def dense_sum(layer, x):
    """Every expert on every token, those not chosen with weight 0."""
    routing = layer.router(x)
    weight = torch.zeros(len(x), E).scatter(1, routing.experts, routing.weights)
    return sum(weight[:, e, None] * expert(x) for e, expert in enumerate(layer.experts))


def evenly_routed(n, scores=None):
    experts = torch.arange(2 * n).view(n, 2) % E
    return Routing(experts, torch.full((n, 2), 0.5), torch.zeros(n, E) if scores is None else scores)


@pytest.mark.parametrize("router", [CentroidRouter, LinearRouter])
@pytest.mark.parametrize("k", [1, 2, E])
@pytest.mark.parametrize("n", [1, 3, 50])
def test_the_experts_outputs_are_the_dense_sum(router, k, n):
    layer, x = make_layer(router, k), torch.randn(n, D)
    torch.testing.assert_close(layer(x), dense_sum(layer, x), rtol=1e-5, atol=1e-6)  # sums in another order


def test_gradients_of_tokens_router_and_experts_are_the_dense_sums():
    layer, x = make_layer(), torch.randn(50, D, requires_grad=True)
    parameters = [x, *layer.parameters()]
    direction = torch.randn(50, D)
    expected = torch.autograd.grad((dense_sum(layer, x) * direction).sum(), parameters)
    for found, value in zip(torch.autograd.grad((layer(x) * direction).sum(), parameters), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-6)


def test_leading_axes_are_kept():
    layer, x = make_layer(), torch.randn(3, 5, D)
    torch.testing.assert_close(layer(x), layer(x.flatten(0, 1)).view(3, 5, D), rtol=0, atol=0)


def test_no_token_at_all_is_no_error():
    assert make_layer()(torch.randn(0, D)).shape == (0, D)


def test_an_expert_without_tokens_has_a_gradient_of_zeros():
    layer = make_layer(k=1)
    layer(torch.randn(1, D)).sum().backward()
    gradients = [expert.fc1.weight.grad for expert in layer.experts]
    assert all(gradient is not None for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) == 1


def test_a_centroid_router_chooses_the_farthest_centroids():
    router, x = CentroidRouter(D, E, 2), torch.randn(20, D)
    routing = router(x)
    distance = (x[:, None].double() - router.centroid).norm(dim=-1)
    assert torch.equal(routing.experts, distance.topk(2, largest=True).indices)
    expected = distance.topk(2).values.softmax(-1).float()
    torch.testing.assert_close(routing.weights, expected, rtol=1e-5, atol=1e-6)  # distances in float32


def test_centroids_are_float64_and_not_trained():
    router = CentroidRouter(D, E, 2)
    assert router.centroid.dtype == torch.float64
    assert not list(router.parameters())


def test_noise_changes_the_choice_in_training_alone():
    router, x = LinearRouter(D, E, 2, noise=10.0), torch.randn(200, D)
    noisy = router(x)
    plain = router.eval()(x)
    assert not torch.equal(noisy.experts, plain.experts)
    torch.testing.assert_close(noisy.scores, plain.scores, rtol=0, atol=0)
    assert torch.equal(plain.experts, plain.scores.topk(2).indices)


def test_the_routers_logits_stay_float32_under_autocast():
    router = LinearRouter(D, E, 2)
    x = torch.randn(4, D)
    with torch.autocast("cpu", torch.bfloat16):
        found = router(x)
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores, router(x).scores, rtol=0, atol=0)


def test_routing_is_recorded_in_the_order_of_calls_and_only_within_the_block():
    layers = torch.nn.Sequential(make_layer(), make_layer(CentroidRouter))
    x = torch.randn(4, D)
    with record_routing(layers) as record:
        layers(x)
    layers(x)
    assert len(record) == 2
    assert torch.equal(record[0].experts, layers[0].router(x).experts)


def test_loads_are_shares_of_the_choices():
    routing = Routing(torch.tensor([[0, 1], [0, 2]]), torch.full((2, 2), 0.5), torch.zeros(2, E))
    assert expert_load(routing).tolist() == [0.5, 0.25, 0.25, 0, 0, 0, 0, 0]


def test_the_balance_loss_is_one_when_even_and_the_number_of_experts_at_the_worst():
    assert load_balancing_loss(evenly_routed(40)).item() == pytest.approx(1)
    scores = torch.zeros(40, E)
    scores[:, 3] = 100
    one = Routing(torch.full((40, 1), 3), torch.ones(40, 1), scores)
    assert load_balancing_loss(one).item() == pytest.approx(E)


def test_the_balance_loss_pulls_logits_of_loaded_experts_down():
    scores = torch.zeros(10, E, requires_grad=True)
    loaded = Routing(torch.zeros(10, 1, dtype=torch.long), torch.ones(10, 1), scores)
    (gradient,) = torch.autograd.grad(load_balancing_loss(loaded), scores)
    assert (gradient[:, 0] > 0).all()
    assert (gradient[:, 1:] < 0).all()


def test_the_z_loss_is_the_squared_log_partition():
    assert router_z_loss(evenly_routed(5)).item() == pytest.approx(torch.tensor(float(E)).log().item() ** 2)


def test_the_entropy_is_one_when_even_and_zero_when_one_expert_has_all():
    loads = torch.stack([torch.full((E,), 1 / E), torch.eye(E)[2]])
    assert load_entropy(loads).tolist() == pytest.approx([1, 0])


def test_a_copy_routes_by_its_own_centroids():
    layer = make_layer(CentroidRouter)
    twin = copy.deepcopy(layer)
    twin.router.centroid.neg_()
    x = torch.randn(50, D)
    assert not torch.equal(twin.router(x).experts, layer.router(x).experts)
