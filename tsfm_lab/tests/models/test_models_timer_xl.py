"""Timer-XL and its draft: sizes, masks, normalisation, laws, caches, bad input."""

import copy
from math import log

import pytest
import torch

from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_base import TimerBase
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft, scale_width

P = 4
SIZES = {"input_token_len": P, "output_token_len": P, "d_model": 16, "n_heads": 2, "d_ff": 24, "e_layers": 2}


def small(cls=TimerXL, **options):
    torch.manual_seed(0)
    model = cls(**{**SIZES, **options}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def series(batch=3, tokens=5, variates=1):
    return 3 + 2 * torch.randn(batch, tokens * P, variates, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("layers", "parameters"), [(8, 67_398_880), (1, 8_599_664)])
def test_published_sizes_have_the_published_numbers_of_parameters(layers, parameters):
    with torch.device("meta"):
        model = TimerXL(e_layers=layers)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_timer_base_has_the_84_million_parameters_of_its_name():
    with torch.device("meta"):
        model = TimerBase()
    assert sum(parameter.numel() for parameter in model.parameters()) == 84_142_080


def test_state_dict_has_openltm_names():
    shapes = {key: tuple(value.shape) for key, value in TimerXL(**SIZES).state_dict().items()}
    layer = "blocks.attn_layers.1."
    assert shapes["embedding.weight"] == (16, P)
    assert shapes[layer + "attention.inner_attention.attn_bias.emb.weight"] == (2, 2)
    assert shapes[layer + "conv1.weight"] == (24, 16, 1)
    assert shapes[layer + "conv2.weight"] == (16, 24, 1)
    assert {"blocks.norm.weight", "head.bias", layer + "attention.out_projection.bias", layer + "norm2.bias"} <= set(
        shapes
    )
    assert len(shapes) == 2 + 2 * (1 + 8 + 4 + 4) + 2 + 2


def test_a_token_does_not_see_later_ones_of_any_variate():
    model, x = small(use_norm=False), series(1, 5, 3).requires_grad_()
    model(x)[0, P : 2 * P].sum().backward()  # what follows the second token
    assert x.grad[0, : 2 * P].abs().min() > 0
    assert x.grad[0, 2 * P :].abs().max() == 0


def test_with_covariates_the_last_variate_sees_all_of_the_others_and_they_see_only_themselves():
    model = small(covariate=True, use_norm=False)
    x = series(1, 5, 3).requires_grad_()
    (grad,) = torch.autograd.grad(model(x)[0, P : 2 * P, -1].sum(), x)
    assert grad[0, :, :2].abs().min() > 0
    assert grad[0, 2 * P :, 2].abs().max() == 0
    (grad,) = torch.autograd.grad(model(x)[0, :, 0].sum(), x)
    assert grad[0, :, 1:].abs().max() == 0


def test_forecast_moves_with_the_level_and_scale_of_the_window():
    model, x = small(), series()
    # float32 with ε 1e-5 in a variance of 4
    torch.testing.assert_close(model(5 * x + 7), 5 * model(x) + 7, rtol=1e-4, atol=1e-3)


def test_ragged_context_keeps_its_newest_points():
    model, x = small(), series()
    assert torch.equal(model(x[:, 3:]), model(x[:, P:]))


def test_attention_equals_a_loop_over_queries():
    model, x = small(e_layers=1, use_norm=False), series(1, 3, 2)
    layer = model.blocks.attn_layers[0]
    tokens = torch.cat([x[0, :, 0].view(3, P), x[0, :, 1].view(3, P)])
    h = model.embedding(tokens)
    attention, heads, e = layer.attention, 2, 8
    u = attention.inner_attention.attn_bias.emb.weight
    q, k, v = (
        projection(h).view(6, heads, e)
        for projection in (attention.query_projection, attention.key_projection, attention.value_projection)
    )

    def rotate(z, position):  # pairs (0, 1) and (2, 3) of 8 channels, at frequencies 1 and 1/100
        z = z.clone()
        for pair, frequency in ((0, 1.0), (2, 0.01)):
            angle = torch.tensor(position * frequency)
            a, b = z[:, pair].clone(), z[:, pair + 1].clone()
            z[:, pair], z[:, pair + 1] = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
        return z

    y = torch.zeros(6, heads, e)
    for i in range(6):
        seen = [j for j in range(6) if j % 3 <= i % 3]
        for head in range(heads):
            bias = torch.stack([u[int(i // 3 == j // 3), head] for j in seen])
            keys = torch.stack([rotate(k[j], j)[head] for j in seen])
            weight = ((keys @ rotate(q[i], i)[head] + bias) / e**0.5).softmax(0)
            y[i, head] = weight @ torch.stack([v[j, head] for j in seen])
    h = layer.norm1(h + attention.out_projection(y.flatten(1)))
    h = layer.norm2(h + layer.conv2(layer.conv1(h.T[None]).relu())[0].T)
    expected = model.head(model.blocks.norm(h)).view(2, 3 * P).T[None]
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)  # float32, sums in another order


@pytest.mark.parametrize("cls", [TimerXL, Timer, TimerBase])
@pytest.mark.parametrize("chunks", [(7,), (5, 1, 1), (1,) * 7, (2, 3, 2)])
def test_cached_forward_equals_uncached_with_frozen_statistics(cls, chunks):
    model, x = small(cls), series(3, 7)
    statistics = model.statistics(x[:, : 5 * P])
    tokens = model.normalise(x, statistics)[..., 0].unflatten(1, (-1, P))
    with torch.no_grad():
        cache = model.new_cache(3, 7)
        laws = [model.forward_cached(part, cache).mean for part in tokens.split(list(chunks), dim=1)]
        cached = torch.cat(laws, dim=1).flatten(1)[..., None] * statistics.stdev + statistics.mean
        # the contract's 2e-6 of the forecast's size: float32, sums in another order
        torch.testing.assert_close(cached, model(x, statistics), rtol=2e-6, atol=2e-6 * model(x).abs().max())


def test_rows_of_different_lengths_go_on_as_if_alone():
    model = small()
    tokens = torch.randn(3, 8, P)
    lengths = torch.tensor([2, 5, 4])
    with torch.no_grad():
        cache = model.new_cache(3, 8)
        model.forward_cached(tokens[:, :5], cache)
        cache.rollback(lengths)
        new = torch.randn(3, 2, P)
        together = model.forward_cached(new, cache).mean
        for row, length in enumerate(lengths):
            alone = torch.cat([tokens[row : row + 1, :length], new[row : row + 1]], dim=1)
            expected = model.token_law(model.encode_tokens(alone)).mean[:, -2:]
            torch.testing.assert_close(together[row : row + 1], expected, rtol=1e-5, atol=1e-5)  # float32


def test_calibrated_sigma_is_the_laws_standard_deviation_in_the_datas_units():
    model, x = small(), series()
    assert model.law(x).logvar is None
    sigma = torch.tensor([0.1, 0.2, 0.3, 0.4])
    model.set_sigma(sigma)
    stdev = model.law(x).logvar[:, -P:].div(2).exp()
    torch.testing.assert_close(stdev, sigma[None, :, None] * model.statistics(x).stdev)
    assert model.config["sigma"] == "calibrated"


def test_a_covariance_has_the_marginal_sigma_and_its_factor_is_saved():
    model, x = small(), series()
    sigma, correlation = torch.tensor([0.1, 0.2, 0.3, 0.4]), 0.5 * torch.ones(P, P) + 0.5 * torch.eye(P)
    model.set_sigma(sigma, correlation)
    factor = model.noise_scale.factor
    torch.testing.assert_close(factor @ factor.T, sigma[:, None] * correlation * sigma)
    torch.testing.assert_close(model.law(x).logvar[:, -P:].div(2).exp(), sigma[:, None] * model.statistics(x).stdev)
    assert model.config["sigma"] == "correlated"
    model.set_sigma(sigma)
    assert model.config["sigma"] == "calibrated"
    assert "correlation_factor" not in model.state_dict()


@pytest.mark.parametrize(
    ("correlation", "message"),
    [
        (torch.eye(P + 1), r"correlation must be \(4 4\) with ones on its diagonal, got \(5, 5\)"),
        (2 * torch.eye(P), "ones on its diagonal"),
        (torch.ones(P, P), "must be positive definite: shrink it towards the diagonal"),
    ],
)
def test_a_correlation_that_is_none_is_refused(correlation, message):
    model = small()
    model.set_sigma(torch.ones(P), torch.eye(P))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        model.set_sigma(torch.full((P,), 2.0), correlation)
    assert model.config["sigma"] == "correlated"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # nothing is half set


def test_learned_variance_starts_small_and_is_clamped():
    model = TimerXL(**SIZES, sigma="learned", use_norm=False).eval()
    assert (model.head_logvar.bias == -2).all()
    torch.nn.init.constant_(model.head_logvar.bias, 50.0)
    assert model.law(series()).logvar.max() == 10


def test_draft_scale_rule_gives_the_published_sizes():
    assert TimerXLDraft(**{**SIZES, "d_model": 1024, "n_heads": 8, "d_ff": 2048, "e_layers": 8}).hyperparameters == {
        "d_model": 256,
        "n_heads": 2,
        "d_ff": 512,
        "e_layers": 2,
    }


def test_draft_scale_rule_equals_a_search_by_hand():
    assert scale_width(2000, 10, 0.5, 0.5) == (1000, 5)  # 5 heads of 200: cost 0
    assert scale_width(512, 8, 0.1, None) == (32, 8)  # 51 wide: 8 heads of 4 cost 19, 10 of 4 cost 11 + 40, 6 of 8 43
    assert scale_width(100, 3, 1.0, 1.0) == (96, 3)  # 3 heads of 32 cost 4, 4 of 24 cost 4 + 20, 5 of 20 cost 40
    assert scale_width(512, 8, None, None) == (512, 8)
    assert scale_width(64, 8, 0.01, 0.01) == (16, 1)  # never narrower than 16


def test_each_scale_of_a_draft_acts_alone():
    scales = {"draft_scale_d_model": None, "draft_scale_n_heads": None, "draft_scale_d_ff": None}
    draft = TimerXLDraft(**{**SIZES, "e_layers": 4, "d_ff": 200}, **scales, draft_scale_e_layers=0.5)
    assert draft.hyperparameters == {"d_model": 16, "n_heads": 2, "d_ff": 200, "e_layers": 2}


def test_stochastic_draft_adds_the_log_variance_of_the_window():
    model = small(TimerXLDraft, draft_stochastic=True, d_model=64)
    x = series()
    difference = model.law(10 * x).logvar - model.law(x).logvar
    # up to ε in the variance of x
    torch.testing.assert_close(difference, torch.full_like(difference, 2 * log(10)), atol=1e-4, rtol=0)
    assert {"head_mean.weight", "head_logvar.bias"} <= model.state_dict().keys()
    assert "head.weight" not in model.state_dict()


def test_dropout_acts_in_training_only():
    model, x = small(dropout=0.5), series()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_a_copy_of_a_model_keeps_its_configuration():
    model = small()
    assert copy.deepcopy(model).config == model.config == {**model.config, **SIZES}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 18}, "d_model must be n_heads=2 times a multiple of 4, got 18"),
        ({"d_model": 20}, "d_model must be n_heads=2 times a multiple of 4, got 20"),
        ({"activation": "tanh"}, "activation must be one of .*gelu.*relu.*, got 'tanh'"),
        ({"sigma": "fixed"}, "sigma must be one of"),
    ],
)
def test_sizes_and_names_that_do_not_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TimerXL(**{**SIZES, **options})


def test_a_window_shorter_than_a_token_is_refused():
    with pytest.raises(ValueError, match="at least one token of 4 steps, got 3"):
        small()(series()[:, :3])


def test_a_window_without_a_variate_axis_is_refused():
    with pytest.raises(ValueError, match=r"\(batch time variate\)"):
        small()(series()[..., 0])


@pytest.mark.parametrize("sigma", [torch.zeros(P), -torch.ones(P), torch.ones(P + 1)])
def test_a_sigma_that_is_not_positive_or_of_another_length_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be 4 positive values"):
        small().set_sigma(sigma)


def test_a_draft_takes_no_sigma_and_a_learned_one_is_not_overwritten():
    with pytest.raises(ValueError, match="share the target's"):
        small(TimerXLDraft, d_model=64).set_sigma(torch.ones(P))
    with pytest.raises(ValueError, match="learned variance"):
        small(sigma="learned").set_sigma(torch.ones(P))


def test_a_scale_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="scales must be positive"):
        TimerXLDraft(**SIZES, draft_scale_d_ff=0.0)
