"""Which parameters decay, and how the learning rate goes."""

import math

import pytest
import torch

from tsfm_lab.models.moirai import MoiraiModule
from tsfm_lab.models.moirai_hybrid import MoiraiHybridModule
from tsfm_lab.training.optimizer import lr_factor, make_optimizer, make_schedule, split_decayed

SMALL = {"d_model": 64, "num_layers": 2, "patch_sizes": (8, 16), "max_seq_len": 32}


def test_norms_embeddings_biases_and_the_variate_bias_do_not_decay():
    model = MoiraiModule.from_preset("small", **SMALL)
    decayed, undecayed = split_decayed(model)
    assert sorted(decayed + undecayed) == sorted(name for name, _ in model.named_parameters())
    assert {name for name in undecayed if name.startswith("encoder.layers.0")} == {
        "encoder.layers.0.norm1.weight",
        "encoder.layers.0.norm2.weight",
        "encoder.layers.0.self_attn.q_norm.weight",
        "encoder.layers.0.self_attn.k_norm.weight",
        "encoder.layers.0.self_attn.var_attn_bias.emb.weight",
    }
    assert {"mask_encoding.weight", "in_proj.bias", "encoder.norm.weight"} <= set(undecayed)
    assert all(name.endswith("bias") or "norm" in name or "emb" in name or "encoding" in name for name in undecayed)


def test_the_spectral_weights_decay():
    decayed, _ = split_decayed(MoiraiHybridModule.from_preset("small", **SMALL))
    assert {"encoder.layers.0.stu.M_inputs", "encoder.layers.0.stu.M_filters"} <= set(decayed)


def test_adamw_has_the_published_constants():
    optimizer = make_optimizer(torch.nn.Linear(2, 2), lr=1e-3, weight_decay=0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(group["betas"] == (0.9, 0.98) and group["eps"] == 1e-6 for group in optimizer.param_groups)


def test_a_frozen_parameter_is_in_no_group():
    layer = torch.nn.Linear(2, 2)
    layer.weight.requires_grad = False
    assert [group["weight_decay"] for group in make_optimizer(layer, 1e-3, 0.1).param_groups] == [0.0]


def test_learning_rate_warms_up_then_follows_cosines_that_restart():
    optimizer = make_optimizer(torch.nn.Linear(2, 2), lr=2.0, weight_decay=0.1)
    schedule = make_schedule(optimizer, warmup_steps=4, max_steps=12, cycles=2)
    rates = []
    for _ in range(14):
        rates.append(schedule.get_last_lr()[0] / 2)
        optimizer.step()
        schedule.step()
    cosine = [0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, *cosine, *cosine, 0, 0])


def test_ten_thousand_published_steps_are_all_warm_up():
    assert lr_factor(9_999, warmup_steps=10_000, max_steps=10_000) == pytest.approx(0.9999)


def test_a_warm_up_longer_than_the_run_is_refused():
    optimizer = make_optimizer(torch.nn.Linear(2, 2), 1e-3, 0.1)
    with pytest.raises(ValueError, match="max_steps=10"):
        make_schedule(optimizer, warmup_steps=11, max_steps=10)
