"""The transformer encoder, its norm and feed-forward: formulas, options, published names."""

import pytest
import torch
from torch import nn

from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.encoder import PackedContext, TransformerEncoder
from tsfm_lab.nn.ffn import GatedLinearUnit, glu_width
from tsfm_lab.nn.norm import RMSNorm

IDS = torch.tensor([[1, 1, 1, 2, 2, 0]])
TIME = torch.tensor([[0, 1, 2, 0, 1, 0]])
BLOCKS = plan_blocks(IDS, IDS)


def make_encoder(**options):
    torch.manual_seed(0)
    return TransformerEncoder(32, 3, num_heads=4, **options)


def test_rms_norm_divides_by_the_root_of_the_mean_square():
    norm, x = RMSNorm(6), torch.randn(3, 6)
    norm.weight.data.uniform_()
    expected = norm.weight * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected)


def test_glu_gates_with_silu():
    ffn, x = GatedLinearUnit(6, 10), torch.randn(3, 6)
    gate, value = x @ ffn.fc_gate.weight.T, x @ ffn.fc1.weight.T
    torch.testing.assert_close(ffn(x), (gate * gate.sigmoid() * value) @ ffn.fc2.weight.T)


@pytest.mark.parametrize(("d_model", "d_ff"), [(384, 1024), (768, 2048), (1024, 2736)])
def test_glu_width_is_that_of_the_published_checkpoints(d_model, d_ff):
    assert glu_width(d_model) == d_ff


def test_an_encoder_layer_has_the_published_names():
    keys = {f"self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "out_proj", "q_norm", "k_norm")}
    keys |= {"self_attn.var_attn_bias.emb.weight", "norm1.weight", "norm2.weight"}
    keys |= {f"ffn.{name}.weight" for name in ("fc1", "fc2", "fc_gate")}
    encoder = make_encoder()
    assert encoder.layers[0].state_dict().keys() == keys
    assert encoder.state_dict().keys() == {f"layers.{i}.{key}" for i in range(3) for key in keys} | {"norm.weight"}


@pytest.mark.parametrize("pre_norm", [True, False])
def test_norms_stand_before_the_sublayers_or_behind_the_sums(pre_norm):
    encoder, x = make_encoder(pre_norm=pre_norm), torch.randn(1, 6, 32)
    context = PackedContext(encoder.rotary(TIME), BLOCKS)
    expected = x
    for layer in encoder.layers:

        def attend(z, layer=layer):
            return layer.self_attn(z, context.rotation, BLOCKS)

        if pre_norm:
            expected = expected + attend(layer.norm1(expected))
            expected = expected + layer.ffn(layer.norm2(expected))
        else:
            expected = layer.norm1(expected + attend(expected))
            expected = layer.norm2(expected + layer.ffn(expected))
    torch.testing.assert_close(encoder(x, TIME, BLOCKS), encoder.norm(expected))


@pytest.mark.parametrize("pre_norm", [True, False])
def test_wanted_tokens_have_the_values_and_gradients_of_the_whole(pre_norm):
    encoder, tokens = make_encoder(pre_norm=pre_norm), torch.tensor([1, 4])
    results = []
    for pick in (
        lambda x: encoder(x, TIME, BLOCKS).flatten(0, 1)[tokens],
        lambda x: encoder(x, TIME, BLOCKS, tokens=tokens),
    ):
        x = torch.linspace(-1, 1, 6 * 32).view(1, 6, 32).requires_grad_()
        y = pick(x)
        results.append((y, *torch.autograd.grad(y.sin().sum(), [x, *encoder.parameters()])))
    for whole, part in zip(*results, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-6)


def test_key_and_value_heads_can_be_fewer():
    encoder = make_encoder(num_groups=2)
    assert encoder.layers[0].self_attn.k_proj.weight.shape == (16, 32)
    assert encoder(torch.randn(1, 6, 32), TIME, BLOCKS).shape == (1, 6, 32)


def test_feed_forwards_can_be_of_another_kind():
    encoder = make_encoder(make_ffn=lambda d: nn.Linear(d, d))
    assert all(isinstance(layer.ffn, nn.Linear) for layer in encoder.layers)


def test_dropout_acts_in_training_only():
    encoder, x = make_encoder(dropout_p=0.5), torch.randn(1, 6, 32)
    assert not torch.equal(encoder(x, TIME, BLOCKS), encoder(x, TIME, BLOCKS))
    encoder.eval()
    assert torch.equal(encoder(x, TIME, BLOCKS), encoder(x, TIME, BLOCKS))


def test_heads_have_64_channels_by_default():
    assert TransformerEncoder(128, 1).layers[0].self_attn.head_dim == 64
