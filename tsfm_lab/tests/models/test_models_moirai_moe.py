"""MoiraiMoEModule and its hybrid: published sizes and names, causality, laws of predicted values, what they refuse."""

import copy
import json

import pytest
import torch

from tsfm_lab.models import MoiraiMoEHybridModule, MoiraiMoEModule, load_model, published_mixture
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.moe import record_routing
from tsfm_lab.tests.models.packed_rows import PATCH_SIZES, make_packed_batch

SMALL = {
    "distr_output": published_mixture(),
    "d_model": 64,
    "d_ff": 24,
    "num_layers": 2,
    "patch_sizes": PATCH_SIZES,
    "max_seq_len": 96,
    "attn_dropout_p": 0.0,
    "dropout_p": 0.0,
    "num_experts": 6,
}
BATCH = make_packed_batch()
INSIDE = (torch.arange(32) < BATCH["patch_size"][..., None]) & (BATCH["sample_id"] > 0)[..., None]
PREDICTED = BATCH["prediction_mask"][..., None] & INSIDE
MODELS = {
    "centroid": (MoiraiMoEModule, {}),
    "linear": (MoiraiMoEModule, {"router": "linear", "router_noise": 0.1}),
    "hybrid": (MoiraiMoEHybridModule, {}),
    "linear hybrid": (MoiraiMoEHybridModule, {"router": "linear", "branches": "separate", "layer_pattern": "stu"}),
}


def make_model(name="centroid", **options):
    torch.manual_seed(0)
    model, given = MODELS[name]
    return model(**{**SMALL, **given, **options}).eval()


@pytest.fixture(params=MODELS)
def model(request):
    return make_model(request.param)


@pytest.mark.parametrize(("size", "parameters", "keys"), [("small", 117_025_800, 656), ("base", 935_066_592, 1286)])
def test_the_presets_have_the_parameters_and_keys_of_the_published_checkpoints(size, parameters, keys):
    with torch.device("meta"):
        model = MoiraiMoEModule.from_preset(size)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == keys


def test_keys_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        state = MoiraiMoEModule.from_preset("small").state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes["encoder.centroid"] == (6, 32, 384)
    assert state["encoder.centroid"].dtype == torch.float64
    assert shapes["encoder.layers.5.ffn.experts.31.fc_gate.weight"] == (512, 384)
    assert shapes["res_proj.weight"] == (1, 384, 16)
    assert shapes["feat_proj.weight"] == (1, 384, 384)
    assert not any("mask_encoding" in key for key in shapes)


def test_the_law_of_the_next_token_depends_on_no_later_time(model):
    """Values from time 4 on are changed: the laws that tokens before it give stay as they are, bit for bit."""
    late = BATCH["time_id"] >= 4
    changed = {**BATCH, "target": torch.where(late[..., None], BATCH["target"] + 3, BATCH["target"])}
    fixed = {"prediction_mask": late & (BATCH["sample_id"] > 0)}  # so that the scale stays, too
    before, after = (model(**{**batch, **fixed}).mean for batch in (BATCH, changed))
    early = INSIDE & ~late[..., None]
    # a changed value reaches the transform of a convolution, whose rounding then differs by 1e-7 of the largest
    torch.testing.assert_close(after[early], before[early], rtol=1e-4, atol=1e-3)
    assert not torch.allclose(after[INSIDE & late[..., None]], before[INSIDE & late[..., None]], rtol=1e-2)


def test_a_token_sees_the_other_variates_up_to_its_time():
    model = make_model()
    sample = (BATCH["sample_id"][0] == 1).nonzero().squeeze(1)
    mine, others = (sample[BATCH["variate_id"][0, sample] == v] for v in BATCH["variate_id"][0, sample].unique()[:2])
    target = BATCH["target"].clone().requires_grad_()
    law = model(**{**BATCH, "target": target})
    (gradient,) = torch.autograd.grad(law.mean[0, mine[1]].sum() / 1e3, target)
    times = BATCH["time_id"][0]
    assert gradient[0, others[times[others] <= 1]].abs().sum() > 0


def test_other_samples_do_not_reach_a_samples_law(model):
    mine = BATCH["sample_id"] == 1
    changed = {**BATCH, "target": torch.where(mine[..., None], BATCH["target"], BATCH["target"] + 7)}
    expected, found = (model(**batch).mean[mine[..., None] & INSIDE] for batch in (BATCH, changed))
    # experts' products have other sizes then
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_predicted_values_have_the_law_that_the_token_before_them_gives(model):
    law, predicted = model(**BATCH), model.forward_predicted(**BATCH)
    ahead = BATCH["target"].roll(-1, dims=1)  # each token's next one, within a series
    expected = law.log_prob(ahead).roll(1, dims=1)
    found = predicted.log_prob(BATCH["target"])
    # float32 densities of values that lie up to 50 scales of a component away
    torch.testing.assert_close(found[PREDICTED], expected[PREDICTED], rtol=1e-3, atol=1e-3)
    assert (found[~PREDICTED] == 0).all()


def test_plans_made_beforehand_change_nothing():
    model, ids = make_model(), (BATCH["sample_id"], BATCH["variate_id"], BATCH["time_id"])
    made_inside, given = (model(**BATCH, blocks=plan).log_prob(BATCH["target"]) for plan in (None, plan_blocks(*ids)))
    assert torch.equal(made_inside, given)


def test_every_layer_routes_every_token_to_its_experts(model):
    with record_routing(model) as record:
        model(**BATCH)
    assert [tuple(routing.experts.shape) for routing in record] == [(BATCH["sample_id"].numel(), 2)] * 2


def test_a_saved_model_comes_back_whatever_its_router(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert {**again.config, "patch_sizes": PATCH_SIZES} == model.config  # a list in JSON
    assert torch.equal(again(**BATCH).mean, model(**BATCH).mean)


def test_a_published_config_is_known_by_its_fields(tmp_path):
    make_model(num_experts=32).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    published = ("distr_output", "d_model", "d_ff", "num_layers", "patch_sizes", "max_seq_len", "attn_dropout_p")
    published += ("dropout_p", "scaling")
    file.write_text(json.dumps({name: config[name] for name in published}))
    assert type(load_model(tmp_path)) is MoiraiMoEModule


def test_a_copy_has_centroids_of_its_own_and_loads_them():
    model = make_model()
    twin = copy.deepcopy(model)
    state = {**twin.state_dict(), "encoder.centroid": torch.zeros(2, 6, 64, dtype=torch.float64)}
    twin.load_state_dict(state)
    assert not twin.encoder.layers[1].ffn.router.centroid.any()
    assert model.state_dict()["encoder.centroid"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_experts_per_token": 7}, "num_experts_per_token must be between 1 and num_experts=6, got 7"),
        ({"num_experts_per_token": 0}, "between 1 and num_experts=6, got 0"),
        ({"router": "nearest"}, "router must be one of centroid, linear, got 'nearest'"),
        ({"router_noise": 0.1}, "router_noise must not be negative, and 0 unless router='linear'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    for model in (MoiraiMoEModule, MoiraiMoEHybridModule):
        with pytest.raises(ValueError, match=message):
            model(**{**SMALL, **options})


def test_a_patch_size_that_the_checkpoint_lacks_is_refused():
    model = make_model(patch_sizes=(16, 32))
    with pytest.raises(ValueError, match=r"patch_size must be one of \[16, 32\] for every token, got \[8\]"):
        model(**BATCH)


def test_time_that_runs_backwards_is_refused():
    backwards = {**BATCH, "time_id": BATCH["time_id"].max() - BATCH["time_id"]}
    with pytest.raises(ValueError, match="time_id must not decrease along a series of a causal model"):
        make_model()(**backwards)


def test_a_token_without_an_earlier_one_cannot_be_predicted():
    first = (BATCH["time_id"] == 0) & (BATCH["sample_id"] > 0)
    with pytest.raises(ValueError, match="must follow an earlier one of its series"):
        make_model().forward_predicted(**{**BATCH, "prediction_mask": first})


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="size must be one of small, base, large, got 'tiny'"):
        MoiraiMoEModule.from_preset("tiny")
