"""MoiraiHybridModule: counts, options from config.json, isolation of series, wanted tokens, and what it refuses."""

import json

import pytest
import torch

from tsfm_lab.distributions import MixtureOutput, NormalOutput, StudentTOutput
from tsfm_lab.models.moirai import MoiraiModule
from tsfm_lab.models.moirai_hybrid import MoiraiHybridModule, count_parameters, matched_stu_d_ff
from tsfm_lab.nn.attention_blocks import plan_blocks
from tsfm_lab.nn.packing import plan_segments
from tsfm_lab.nn.stu_encoder import HybridTransformerSTUEncoder

BASELINE, HYBRID = 13_827_528, 12_527_652  # small; contracts/stu.md
PATCH_SIZES = (8, 16)
SMALL = {
    "distr_output": MixtureOutput((StudentTOutput(), NormalOutput())),
    "d_model": 64,
    "num_layers": 2,
    "patch_sizes": PATCH_SIZES,
    "max_seq_len": 48,
    "attn_dropout_p": 0.0,
    "dropout_p": 0.0,
    "num_eigh": 8,
}
OPTIONS = [
    {},
    {"branches": "separate"},
    {"use_approx": False},
    {"causal": False, "segment_by": "sample"},
    {"layer_pattern": "stu"},
    {"layer_pattern": ["attention", "stu"], "stu_d_ff": 24},
]


def make_model(seed: int = 0, **options) -> MoiraiHybridModule:
    torch.manual_seed(seed)
    return MoiraiHybridModule(**{**SMALL, **options}).eval()


def make_batch(lengths: list[list[list[int]]], patch_size: int = 8) -> dict[str, torch.Tensor]:
    """A packed batch: per row, samples; per sample, the tokens of each variate, the last third of them hidden."""
    t = max(sum(map(sum, row)) for row in lengths) + 2
    ids = {name: torch.zeros(len(lengths), t, dtype=torch.long) for name in ("sample_id", "time_id", "variate_id")}
    prediction_mask = torch.zeros(len(lengths), t, dtype=torch.bool)
    for row, samples in enumerate(lengths):
        end = 0
        for sample, variates in enumerate(samples):
            for variate, length in enumerate(variates):
                start, end = end, end + length
                ids["sample_id"][row, start:end] = sample + 1
                ids["variate_id"][row, start:end] = variate
                ids["time_id"][row, start:end] = torch.arange(length)
                prediction_mask[row, end - max(1, length // 3) : end] = True
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(len(lengths), t, max(PATCH_SIZES), generator=generator)
    observed_mask = (torch.arange(max(PATCH_SIZES)) < patch_size) & (ids["sample_id"] > 0)[..., None]
    sizes = torch.full((len(lengths), t), patch_size).where(ids["sample_id"] > 0, 0)
    return {
        "target": target,
        "observed_mask": observed_mask,
        **ids,
        "prediction_mask": prediction_mask,
        "patch_size": sizes,
    }


BATCH = make_batch([[[20, 12], [5]], [[33], [3, 4, 1]]])


def log_prob(model: MoiraiHybridModule, batch: dict[str, torch.Tensor], **plans) -> torch.Tensor:
    values = model(**batch, **plans).log_prob(batch["target"])
    return values.where(batch["observed_mask"], 0.0)


def test_small_has_the_published_hybrids_parameter_count_and_all_attention_the_baselines():
    assert count_parameters(MoiraiModule.from_preset("small")) == BASELINE
    assert count_parameters(MoiraiHybridModule.from_preset("small")) == HYBRID
    assert count_parameters(MoiraiHybridModule.from_preset("small", layer_pattern="attention")) == BASELINE


@pytest.mark.parametrize("options", [{}, {"branches": "separate"}, {"causal": False}, {"layer_pattern": "stu"}])
def test_the_matched_preset_has_the_baselines_parameters_to_one_in_ten_thousand(options):
    matched = MoiraiHybridModule.from_preset("small", match_parameters=True, **options)
    assert abs(count_parameters(matched) - BASELINE) < 1e-4 * BASELINE
    assert matched.config["stu_d_ff"] == matched_stu_d_ff(
        384, **{k: v for k, v in options.items() if k != "layer_pattern"}
    )


def test_a_hybrid_of_attention_layers_alone_is_the_baseline():
    torch.manual_seed(0)
    arguments = {name: value for name, value in SMALL.items() if name != "num_eigh"}
    baseline = MoiraiModule(**arguments).eval()
    hybrid = make_model(layer_pattern="attention")
    hybrid.load_state_dict(baseline.state_dict())
    torch.testing.assert_close(log_prob(hybrid, BATCH), log_prob(baseline, BATCH), rtol=0, atol=0)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_checkpoint_opens_with_its_pattern_and_options(options, tmp_path):
    model = make_model(**options)
    model.save_pretrained(tmp_path)
    opened = MoiraiHybridModule.from_pretrained(tmp_path)
    assert opened.encoder.layer_pattern == model.encoder.layer_pattern
    for name, value in options.items():
        assert opened.config[name] == value
    torch.testing.assert_close(log_prob(opened, BATCH), log_prob(model, BATCH), rtol=0, atol=0)


def test_config_json_holds_every_option_and_the_published_heads_target(tmp_path):
    make_model(branches="separate").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "moirai_hybrid"
    assert config["branches"] == "separate"
    assert config["distr_output"]["_target_"] == "uni2ts.distribution.mixture.MixtureOutput"
    assert {"layer_pattern", "num_eigh", "use_approx", "segment_by", "causal", "stu_d_ff"} <= config.keys()


def test_a_baselines_config_is_refused(tmp_path):
    torch.manual_seed(0)
    MoiraiModule(**{name: value for name, value in SMALL.items() if name != "num_eigh"}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="loads model_type 'moirai_hybrid', got 'moirai'"):
        MoiraiHybridModule.from_pretrained(tmp_path)


def test_a_checkpoint_of_another_pattern_is_refused_and_its_keys_are_named(tmp_path):
    make_model(layer_pattern="stu").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"encoder\.layers\.1\.self_attn\.q_proj\.weight"):
        MoiraiHybridModule.from_pretrained(tmp_path, layer_pattern="alternating")


@pytest.mark.parametrize("options", OPTIONS)
def test_no_gradient_crosses_from_one_sample_to_another(options):
    model = make_model(**options)
    batch = {**BATCH, "target": BATCH["target"].clone().requires_grad_()}
    first = (BATCH["sample_id"] == 1) & (torch.arange(2) == 0)[:, None]
    law = model(**batch)
    (grad,) = torch.autograd.grad(
        law.log_prob(BATCH["target"])[first & BATCH["prediction_mask"]].sum(), batch["target"]
    )
    assert grad[first].abs().max() > 0
    assert (grad[~first] == 0).all()


@pytest.mark.parametrize("options", OPTIONS)
def test_a_sample_has_the_same_law_alone_and_packed(options):
    model = make_model(**options)
    alone = make_batch([[[20, 12]]])
    where = (BATCH["sample_id"] == 1) & (torch.arange(2) == 0)[:, None]
    alone["target"][0, :32] = BATCH["target"][where]
    # float32 rounding through two layers and a log-probability
    torch.testing.assert_close(log_prob(model, alone)[0, :32], log_prob(model, BATCH)[where], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
def test_predicted_tokens_alone_have_the_law_of_the_whole_forward_pass(options):
    model = make_model(**options)
    predicted = model.forward_predicted(**BATCH)
    inside = (BATCH["prediction_mask"][..., None] & BATCH["observed_mask"]).flatten()
    expected = model(**BATCH).log_prob(BATCH["target"]).flatten()
    got = predicted.law.log_prob(BATCH["target"].flatten()[predicted.index])
    keep = inside[predicted.index]
    assert keep.sum() == inside.sum()
    torch.testing.assert_close(got[keep], expected[predicted.index][keep], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("segment_by", ["variate", "sample"])
def test_a_plan_from_the_collate_function_gives_what_the_model_plans_itself(segment_by):
    model = make_model(segment_by=segment_by)
    plan = plan_segments(BATCH["sample_id"], BATCH["variate_id"], segment_by, coarse=True)
    torch.testing.assert_close(log_prob(model, BATCH, segments=plan), log_prob(model, BATCH), rtol=1e-4, atol=1e-4)


def test_a_plan_of_the_other_segmentation_raises():
    plan = plan_segments(BATCH["sample_id"], segment_by="sample")
    with pytest.raises(ValueError, match="convolves by variate, got a plan of segment_by='sample'"):
        make_model()(**BATCH, segments=plan)


def test_a_segment_longer_than_the_filters_raises_with_the_smallest_admissible_patch_size():
    with pytest.raises(
        ValueError, match=r"60 patches of 8 steps .* use a patch size of at least 16, or shorten the context to 384"
    ):
        make_model()(**make_batch([[[60]]]))


def test_a_segment_longer_than_every_patch_size_admits_says_so():
    with pytest.raises(ValueError, match="no patch size is large enough: shorten the context to 768 steps"):
        make_model()(**make_batch([[[60]]], patch_size=16))


def test_forecast_order_with_all_futures_last_raises_for_segments_by_variate():
    batch = make_batch([[[6, 6]]])
    order = torch.tensor([0, 1, 2, 3, 6, 7, 8, 9, 4, 5, 10, 11, 12, 13])
    shuffled = {name: value[:, order] for name, value in batch.items()}
    with pytest.raises(ValueError, match="variate by variate, context before horizon"):
        make_model()(**shuffled)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_pattern": "sandwich"}, "layer_pattern must be one of alternating, attention, stu or a list"),
        ({"layer_pattern": ["stu", "moe"]}, "layer_pattern must be one of"),
        ({"layer_pattern": ["stu"]}, "layer_pattern must name num_layers=2 layers, got 1"),
        ({"segment_by": "row"}, "segment_by must be one of variate, sample, got 'row'"),
        ({"branches": "both"}, "branches must be one of shared, separate, got 'both'"),
        ({"num_eigh": 49}, "at most seq_len=48, got 49"),
    ],
)
def test_unknown_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options)


def test_post_norm_dropout_and_grouped_queries_are_encoder_options():
    encoder = HybridTransformerSTUEncoder(
        64, 2, max_seq_len=48, num_eigh=8, num_heads=4, num_groups=2, pre_norm=False, dropout_p=0.5
    )
    ids = BATCH["sample_id"], BATCH["variate_id"]
    x = torch.randn(*ids[0].shape, 64)
    plans = plan_blocks(*ids), plan_segments(*ids)
    y = encoder(x, BATCH["time_id"], *plans)
    assert not torch.equal(y, encoder(x, BATCH["time_id"], *plans))
    encoder.eval()
    assert torch.equal(encoder(x, BATCH["time_id"], *plans), encoder(x, BATCH["time_id"], *plans))


def test_an_stu_layer_without_segments_raises_with_the_remedy():
    encoder = HybridTransformerSTUEncoder(64, 1, max_seq_len=48, num_eigh=8)
    ids = BATCH["sample_id"], BATCH["variate_id"]
    with pytest.raises(ValueError, match="needs the batch's segments: pass plan_segments"):
        encoder(torch.randn(*ids[0].shape, 64), BATCH["time_id"], plan_blocks(*ids))


def test_training_reduces_the_loss_and_reaches_every_parameter():
    model = make_model(branches="separate", causal=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        predicted = model.forward_predicted(**BATCH)
        loss = -predicted.law.log_prob(BATCH["target"].flatten()[predicted.index]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in model.encoder.parameters())
