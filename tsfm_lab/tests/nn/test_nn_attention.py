"""Attention by blocks equals attention with a dense mask, and nothing crosses a sample's border."""

from math import prod

import pytest
import torch
from torch import nn

from tsfm_lab.nn.attention import BinaryAttentionBias, GroupedQueryAttention
from tsfm_lab.nn.attention_blocks import block_length, plan_blocks
from tsfm_lab.nn.rotary import RotaryEmbedding

D, HEADS = 32, 4
ROTARY = RotaryEmbedding(D // HEADS)


def pack(rows):
    """(sample_id, variate_id, time_id) of rows of samples, given as lists of tokens per variate; zeros behind."""
    t = max(sum(sum(sample) for sample in row) for row in rows) + 2
    ids = torch.zeros(3, len(rows), t, dtype=torch.long)
    for b, row in enumerate(rows):
        end = 0
        for s, sample in enumerate(row):
            for variate, tokens in enumerate(sample):
                span = slice(end, end + tokens)
                ids[0, b, span], ids[1, b, span], ids[2, b, span] = s + 1, 3 * variate + 1, torch.arange(tokens)
                end += tokens
    return ids.unbind()


PACKINGS = {
    "univariate": pack([[[5], [9], [3]], [[17]]]),
    "few variates": pack([[[5, 4], [7]], [[3, 3, 2], [6, 6]]]),
    "many variates": pack([[[2] * 20, [4]], [[1] * 70], [[30]]]),
    "long": pack([[[150]], [[70, 71]]]),
}


def make_attention(groups=HEADS, seed=0, bias=True):
    torch.manual_seed(seed)
    return GroupedQueryAttention(D, HEADS, groups, variate_bias=BinaryAttentionBias(HEADS) if bias else None)


def dense_attention(layer, x, sample_id, variate_id, time_id, causal):
    """softmax(q kᵀ/√e + bias, where the mask allows) v with a (b h t t) bias, as the papers write it."""
    q, k, v = layer.project(x, ROTARY(time_id))
    k, v = (z.repeat_interleave(HEADS // layer.num_groups, dim=2) for z in (k, v))
    logits = torch.einsum("bqhe,bkhe->bhqk", q, k) / layer.head_dim**0.5
    same = (variate_id[:, :, None] == variate_id[:, None, :])[:, None]
    other_bias, same_bias = layer.var_attn_bias.emb.weight[:, None, :, None, None]
    logits = logits + torch.where(same, same_bias, other_bias)
    allowed = (sample_id[:, :, None] == sample_id[:, None, :])[:, None]
    if causal:
        allowed = allowed & (time_id[:, None, :] <= time_id[:, :, None])[:, None]
    weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
    return layer.out_proj(torch.einsum("bhqk,bkhe->bqhe", weights, v).flatten(2))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [HEADS, 2])
@pytest.mark.parametrize("name", PACKINGS)
def test_blocks_equal_a_dense_mask_in_outputs_and_gradients(name, groups, causal):
    sample_id, variate_id, time_id = PACKINGS[name]
    layer, real = make_attention(groups), sample_id > 0
    inputs = torch.randn(*sample_id.shape, D)
    blocks = plan_blocks(sample_id, variate_id, time_id if causal else None)
    results = []
    for attend in (
        lambda x: layer(x, ROTARY(time_id), blocks),
        lambda x: dense_attention(layer, x, sample_id, variate_id, time_id, causal),
    ):
        x = inputs.clone().requires_grad_()
        y = attend(x)[real]
        gradients = torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])
        results.append((y, gradients[0][real], *gradients[1:]))
    for fast, dense in zip(*results, strict=True):
        # float32 sums in another order; gradients of weights add up to 150 tokens
        torch.testing.assert_close(fast, dense, rtol=1e-4, atol=2e-5)


def test_coarse_blocks_give_what_fine_ones_give():
    sample_id, variate_id, time_id = PACKINGS["many variates"]
    layer, x = make_attention(), torch.randn(*sample_id.shape, D)
    fine, coarse = (
        layer(x, ROTARY(time_id), plan_blocks(sample_id, variate_id, coarse=coarse)) for coarse in (False, True)
    )
    torch.testing.assert_close(fine, coarse, rtol=0, atol=1e-5)  # the same sums in another order


def test_a_sample_whose_tokens_are_scattered_over_the_row_is_one_block():
    layer, x = make_attention(), torch.randn(1, 12, D)
    sample_id, variate_id, time_id = (ids[:1, :12] for ids in pack([[[4], [6]]]))
    together = layer(x, ROTARY(time_id), plan_blocks(sample_id, variate_id))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = [ids[:, order] for ids in (sample_id, variate_id, time_id)]
    apart = layer(x[:, order], ROTARY(shuffled[2]), plan_blocks(*shuffled[:2]))
    torch.testing.assert_close(apart, together[:, order], rtol=0, atol=1e-5)


def test_no_gradient_crosses_between_samples_and_padding_has_none():
    sample_id, variate_id, time_id = PACKINGS["few variates"]
    layer = make_attention()
    x = torch.randn(*sample_id.shape, D, requires_grad=True)
    y = layer(x, ROTARY(time_id), plan_blocks(sample_id, variate_id))
    (gradient,) = torch.autograd.grad(y[0][sample_id[0] == 1].square().sum(), x)
    reached = gradient.abs().sum(-1) > 0
    assert torch.equal(reached, (sample_id == 1) & torch.tensor([True, False])[:, None])
    assert (y[sample_id == 0] == 0).all()


def test_nan_in_one_sample_stays_there():
    sample_id, variate_id, time_id = PACKINGS["few variates"]
    x = torch.randn(*sample_id.shape, D)
    x[0, 0] = torch.nan
    y = make_attention()(x, ROTARY(time_id), plan_blocks(sample_id, variate_id))
    hit = (sample_id == 1) & torch.tensor([True, False])[:, None]
    assert y[hit].isnan().all()
    assert y[~hit].isfinite().all()


def test_wanted_tokens_are_those_rows_of_the_whole():
    sample_id, variate_id, time_id = PACKINGS["few variates"]
    layer, x, blocks = make_attention(), torch.randn(*sample_id.shape, D), plan_blocks(sample_id, variate_id)
    tokens = torch.tensor([1, 20, 3])
    whole = layer(x, ROTARY(time_id), blocks).flatten(0, 1)[tokens]
    torch.testing.assert_close(layer(x, ROTARY(time_id), blocks, tokens), whole, rtol=0, atol=1e-6)


def test_the_bias_of_a_univariate_batch_has_a_gradient_of_zero_not_none():
    sample_id, variate_id, time_id = PACKINGS["univariate"]
    layer = make_attention()
    layer(torch.randn(*sample_id.shape, D), ROTARY(time_id), plan_blocks(sample_id, variate_id)).sum().backward()
    assert (layer.var_attn_bias.emb.weight.grad == 0).all()


def test_without_a_variate_bias_variates_are_not_told_apart():
    sample_id, variate_id, time_id = PACKINGS["few variates"]
    layer, x = make_attention(bias=False), torch.randn(*sample_id.shape, D)
    outputs = [
        layer(x, ROTARY(time_id), plan_blocks(sample_id, ids)) for ids in (variate_id, torch.ones_like(variate_id))
    ]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)


def test_attention_weights_are_dropped_in_training_only():
    sample_id, variate_id, time_id = PACKINGS["long"]
    torch.manual_seed(0)
    layer = GroupedQueryAttention(D, HEADS, dropout_p=0.5)
    x, blocks = torch.randn(*sample_id.shape, D), plan_blocks(sample_id, variate_id)
    trained, again = (layer.train()(x, ROTARY(time_id), blocks) for _ in range(2))
    assert not torch.equal(trained, again)
    evaluated, same = (layer.eval()(x, ROTARY(time_id), blocks) for _ in range(2))
    assert torch.equal(evaluated, same)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("name", PACKINGS)
def test_every_token_has_one_slot_and_every_slot_its_token(name, coarse):
    sample_id, variate_id, _ = PACKINGS[name]
    blocks = plan_blocks(sample_id, variate_id, coarse=coarse)
    real = (sample_id > 0).flatten().nonzero().squeeze(1)
    assert torch.equal(blocks.gather[blocks.inverse[real]], real)
    filled = torch.ones_like(blocks.gather, dtype=torch.bool)
    filled[blocks.empty] = False
    assert torch.equal(blocks.gather[filled].sort().values, real)
    assert torch.equal(blocks.padding, (sample_id == 0).flatten().nonzero().squeeze(1))
    assert sum(prod(bucket.shape) for bucket in blocks.buckets) == len(blocks.gather)


def test_univariate_causal_blocks_need_no_mask_tensor():
    sample_id, variate_id, time_id = PACKINGS["univariate"]
    buckets = plan_blocks(sample_id, variate_id, time_id).buckets
    assert all(bucket.causal and bucket.mask is None for bucket in buckets)


def test_block_lengths_are_multiples_of_eight_and_hold_the_sample():
    lengths = torch.arange(1, 600).numpy()
    for coarse in (False, True):
        sizes = block_length(lengths, coarse)
        assert (sizes >= lengths).all()
        assert (sizes % 8 == 0).all()
    assert (block_length(lengths)[31:] < 1.5 * lengths[31:]).all()


def test_a_plan_moves_with_all_its_tensors():
    sample_id, variate_id, time_id = PACKINGS["many variates"]
    moved = plan_blocks(sample_id, variate_id, time_id).to("meta")
    tensors = [moved.gather, moved.empty, moved.inverse, moved.padding]
    tensors += [x for b in moved.buckets for x in (b.mask, b.codes, b.same) if x is not None]
    assert all(tensor.is_meta for tensor in tensors)


def test_a_batch_of_padding_alone_gives_zeros():
    ids = torch.zeros(2, 5, dtype=torch.long)
    assert (make_attention()(torch.randn(2, 5, D), ROTARY(ids), plan_blocks(ids, ids)) == 0).all()


def test_bad_sizes_and_plans_are_refused():
    ids = torch.ones(2, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r"d_model must be a multiple of num_heads=3, got 32"):
        GroupedQueryAttention(32, 3)
    with pytest.raises(ValueError, match=r"num_heads must be a multiple of num_groups=3, got 4"):
        GroupedQueryAttention(32, 4, 3)
    with pytest.raises(ValueError, match=r"variate_id must be \(b t\) = \(2, 5\), got shape \(2, 4\)"):
        plan_blocks(ids, ids[:, :4])
    with pytest.raises(ValueError, match=r"planned for a batch of \(2, 5\), got q of \(1, 5\)"):
        make_attention()(torch.randn(1, 5, D), ROTARY(ids[:1]), plan_blocks(ids, ids))


def test_any_norm_can_take_the_place_of_the_default():
    layer = GroupedQueryAttention(D, HEADS, norm=nn.LayerNorm)
    assert isinstance(layer.q_norm, nn.LayerNorm)
    assert layer.q_norm.normalized_shape == (D // HEADS,)
