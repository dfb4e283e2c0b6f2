"""Attention weights that are read off are those of the layer: they give its output, and a dense softmax gives them."""

import pytest
import torch
from einops import einsum

from tsfm_lab.inside import attention_energy, attention_maps, uniform_attention, weight_by_distance
from tsfm_lab.inside.attention import read_weights
from tsfm_lab.nn.attention import BinaryAttentionBias, GroupedQueryAttention
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.rotary import RotaryEmbedding
from tsfm_lab.tests.inside.tiny_models import KINDS, make_batch, make_model


@pytest.mark.parametrize("name", KINDS)
def test_the_weights_times_the_values_are_the_output_of_every_attention_layer(name):
    module = make_model(name)
    batch, calls = make_batch(module), {}
    attending = {i: x.self_attn for i, x in enumerate(module.encoder.layers) if hasattr(x, "self_attn")}
    for number, attention in attending.items():
        attention.register_forward_hook(lambda _, inputs, output, n=number: calls.update({n: (inputs, output)}))
    maps = attention_maps(module, batch)
    assert maps.keys() == attending.keys()
    for number, attention in attending.items():
        (x, rotation, *_), output = calls[number]
        v = attention.project(x, rotation)[2]
        mixed = einsum(maps[number], v, "b h q k, b k h e -> b q h e").flatten(2)
        real = batch["sample_id"] > 0
        torch.testing.assert_close(attention.out_proj(mixed)[real], output[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_the_weights_are_those_of_a_dense_softmax_with_shared_keys_too(groups, causal):
    torch.manual_seed(0)
    layer = GroupedQueryAttention(32, 4, groups, variate_bias=BinaryAttentionBias(4))
    batch = make_batch(make_model("moirai"))
    sample, variate, time = (batch[name] for name in ("sample_id", "variate_id", "time_id"))
    x, rotation = torch.randn(*sample.shape, 32), RotaryEmbedding(8)(time)
    with torch.no_grad():
        weights = read_weights(layer, x, rotation, plan_blocks(sample, variate, time if causal else None))
        q, k, _ = layer.project(x, rotation)
        logits = einsum(q, k.repeat_interleave(4 // groups, dim=2), "b q h e, b k h e -> b h q k") / 8**0.5
        same = (variate[:, :, None] == variate[:, None])[:, None]
        other_bias, same_bias = layer.var_attn_bias.emb.weight[:, None, :, None, None]
        logits = logits + torch.where(same, same_bias, other_bias)
        allowed = (sample[:, :, None] == sample[:, None])[:, None]
        allowed = allowed & (time[:, None] <= time[:, :, None])[:, None] if causal else allowed
        dense = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
    real = (sample > 0)[:, None, :, None]
    torch.testing.assert_close(weights * real, dense * real)
    assert not (weights * ~real).any()  # padding attends to nothing


def test_layers_without_attention_are_left_out():
    module = make_model("hybrid")
    assert attention_maps(module, make_batch(module)).keys() == {1}


def test_looking_leaves_no_hook_behind():
    module = make_model("moirai")
    attention_maps(module, make_batch(module))
    assert not any(layer.self_attn._forward_pre_hooks for layer in module.encoder.layers)


def test_weight_by_distance_is_the_sum_over_pairs_token_by_token():
    module = make_model("moe")
    batch = make_batch(module)
    weights = attention_maps(module, batch)[1]
    profile, real = weight_by_distance(weights, batch), batch["sample_id"] > 0
    slow = torch.zeros_like(profile)
    for b, q in real.nonzero().tolist():
        for k in range(real.shape[1]):
            distance = abs(int(batch["time_id"][b, q]) - int(batch["time_id"][b, k]))
            slow[:, distance] += weights[b, :, q, k] / real.sum()
    torch.testing.assert_close(profile, slow)
    torch.testing.assert_close(profile.sum(1), torch.ones(2))


def test_uniform_attention_spreads_over_what_the_mask_allows():
    module = make_model("moirai")
    batch = make_batch(module)
    even = uniform_attention(attention_maps(module, batch)[0])
    sample = batch["sample_id"]
    count = (sample[:, :, None] == sample[:, None]).sum(-1)
    expected = torch.where(sample > 0, 1 / count, 0.0)
    torch.testing.assert_close(even.amax(-1), expected[:, None].expand(-1, 2, -1))


def test_the_energy_is_the_share_of_the_outputs_variance_and_that_of_even_weights_are_the_weights():
    module = make_model("moe")
    batch = make_batch(module)
    weights, real = attention_maps(module, batch)[1], batch["sample_id"] > 0
    energy = attention_energy(weights)
    values = torch.randn(4000, weights.shape[-1], generator=torch.Generator().manual_seed(0))
    row, token = (int(i) for i in real.nonzero()[7])
    parts = (weights[row, 0, token] * values).var(dim=0)
    torch.testing.assert_close(energy[row, 0, token], parts / parts.sum(), rtol=0.2, atol=0.005)  # of 4000 draws
    torch.testing.assert_close(energy.sum(-1), real[:, None].float().expand(-1, 2, -1))
    even = uniform_attention(weights)
    torch.testing.assert_close(attention_energy(even), even)
