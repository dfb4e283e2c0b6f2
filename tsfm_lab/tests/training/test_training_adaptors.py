"""What a mode of fine-tuning leaves trainable, and low-rank adaptors: from nothing to merged weights."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from tsfm_lab.models import MODELS, LinearForecaster, STUForecaster, Timer, TimerBase, TimerXL, TimerXLDraft
from tsfm_lab.models.feature_draft import FeatureDraft
from tsfm_lab.models.ttm import TinyTimeMixer
from tsfm_lab.nn.moe import LinearRouter
from tsfm_lab.tests.training.tiny_run import stream
from tsfm_lab.training.adaptors import MODES, LowRank, count_trained, head_of, merge, prepare, weight_matrices
from tsfm_lab.training.presets.pretrain_stu import FAMILY, PRETRAIN_STU
from tsfm_lab.training.specs import make_pretraining

TOKENS = {"input_token_len": 4, "output_token_len": 4}
SIZES = {**TOKENS, "d_model": 16, "n_heads": 2, "d_ff": 16, "e_layers": 1}


def make(name):
    """A tiny model of any kind, in evaluation mode."""
    torch.manual_seed(0)
    if name in FAMILY:
        return make_pretraining(name, PRETRAIN_STU["smoke"], seed=0).module.eval()
    makers = {
        "timer_xl": lambda: TimerXL(**SIZES),
        "timer_xl_draft": lambda: TimerXLDraft(**{**SIZES, "d_model": 64}, draft_stochastic=True),
        "timer": lambda: Timer(**SIZES),
        "timer_base": lambda: TimerBase(**SIZES),
        "ttm": lambda: TinyTimeMixer(8, **TOKENS, d_model=16, e_layers=1, adaptive_levels=1, decoder_width=8),
        "feature_draft": lambda: FeatureDraft.of(TimerXL(**SIZES), hidden=8),
        "linear": lambda: LinearForecaster(2, **TOKENS),
        "stu": lambda: STUForecaster(**TOKENS, d_model=16, d_ff=16, num_eigh=8),
    }
    return makers[name]().eval()


KINDS = (*FAMILY, "timer_xl", "timer_xl_draft", "timer", "timer_base", "ttm", "feature_draft", "linear", "stu")


def test_every_model_of_the_workbook_is_tried_here():
    assert {make(kind).model_type for kind in KINDS} == set(MODELS)


def output(module):
    """A number for a batch, with gradients."""
    torch.manual_seed(1)
    if hasattr(module, "forward_predicted"):
        batch = stream().batch(0)
        sizes = module.patch_sizes
        batch["patch_size"] = torch.where(batch["sample_id"] > 0, min(sizes), 0)
        pad = max(sizes) - batch["target"].shape[-1]
        for name in ("target", "observed_mask"):
            batch[name] = nn.functional.pad(batch[name], (0, pad))
        predicted = module.forward_predicted(**batch)
        if hasattr(predicted, "quantiles"):
            return predicted.quantiles.square().mean()
        values = predicted.log_prob(batch["target"])
        return values[batch["prediction_mask"]].clamp(-50, 50).mean()
    return module(torch.randn(2, 12, 1)).square().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_adaptors_change_nothing_at_first_and_merged_weights_forecast_as_adapted_ones(kind):
    base = make(kind)
    adapted = prepare(deepcopy(base), "low_rank", rank=2)
    assert torch.allclose(output(base), output(adapted), rtol=1e-5)
    for part in adapted.modules():
        if isinstance(part, LowRank):
            nn.init.normal_(part.B, std=0.1)
    with torch.no_grad():
        changed = output(adapted)
        assert not torch.allclose(output(base), changed, rtol=1e-3)
        assert torch.allclose(output(merge(adapted)), changed, rtol=1e-4)  # sums in another order
    assert set(adapted.state_dict()) == set(base.state_dict())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_what_a_mode_trains_and_nothing_else(kind, mode):
    module = prepare(make(kind), mode, rank=2)
    output(module).backward()
    touched = {id(p) for p in module.parameters() if p.grad is not None}
    if mode == "full":
        expected = {id(p) for p in module.parameters()}
    elif mode == "head":
        expected = {id(p) for head in head_of(module) for p in head.parameters()}
    else:
        expected = {id(p) for part in module.modules() if isinstance(part, LowRank) for p in part.parameters()}
    assert touched
    assert touched <= expected
    trained = {id(p) for p in module.parameters() if p.requires_grad}
    assert trained == expected


def test_the_adapted_weight_is_the_frozen_one_plus_alpha_over_r_times_b_a():
    layer = nn.Linear(5, 3)
    module = nn.Sequential(layer)
    frozen = layer.weight.detach().clone()
    prepare(module, "low_rank", rank=2, alpha=6.0)
    part = layer.parametrizations.weight[0]
    nn.init.normal_(part.B)
    assert (part.A.shape, part.B.shape) == ((2, 5), (3, 2))
    assert torch.allclose(layer.weight, frozen + 3.0 * part.B @ part.A)
    assert torch.linalg.matrix_rank(layer.weight - frozen) == 2


def test_each_patch_size_has_a_low_rank_change_of_its_own():
    module = prepare(make("moirai"), "low_rank", rank=2)
    weight = module.in_proj.parametrizations.weight
    nn.init.normal_(weight[0].B)
    change = module.in_proj.weight - weight.original
    assert [int(torch.linalg.matrix_rank(matrix)) for matrix in change] == [2] * len(module.patch_sizes)


def test_a_rank_above_the_matrix_s_is_the_matrix_s():
    part = LowRank(torch.zeros(3, 5), rank=9, alpha=3.0)
    assert part.A.shape == (3, 5)
    assert part.scale == 1.0


def test_routers_stay_as_they_were():
    module = make("moe")
    gates = [part.gate for part in module.modules() if isinstance(part, LinearRouter)]
    adapted = [layer for layer, _ in weight_matrices(module)]
    assert gates
    assert not any(gate is layer for gate in gates for layer in adapted)


def test_an_stu_is_adapted_where_it_mixes_channels():
    names = [name for _, name in weight_matrices(make("hybrid"))]
    assert "M_inputs" in names


def test_low_rank_trains_fewer_numbers_than_full():
    counts = [count_trained(prepare(make("moirai"), mode, rank=2)) for mode in ("full", "low_rank")]
    assert counts[1] < counts[0] / 10


@pytest.mark.parametrize(("mode", "rank", "message"), [("heads", 8, "mode must be one of"), ("low_rank", 0, "rank")])
def test_an_unknown_mode_and_a_rank_below_1_are_refused(mode, rank, message):
    with pytest.raises(ValueError, match=message):
        prepare(make("linear"), mode, rank=rank)


def test_a_model_without_a_head_is_refused_by_mode_head():
    with pytest.raises(ValueError, match="Sequential has none of the heads"):
        prepare(nn.Sequential(nn.Linear(2, 2)), "head")
