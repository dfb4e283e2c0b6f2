"""Models that serve as drafts: early exit, feature head, linear and spectral forecasters."""

import pytest
import torch

from tsfm_lab.models import FeatureDraft, LinearForecaster, STUForecaster, TimerXL, early_exit, load_model

P = 4
TOKENS = {"input_token_len": P, "output_token_len": P}


def make_target():
    torch.manual_seed(0)
    return TimerXL(**TOKENS, d_model=16, n_heads=2, d_ff=24, e_layers=3, sigma="calibrated").eval()


def series(batch=2, tokens=5, variates=2):
    return 3 + 2 * torch.randn(batch, tokens * P, variates, generator=torch.Generator().manual_seed(1))


def test_an_early_exit_is_the_targets_first_layers_with_a_norm_and_head_of_its_own():
    target = make_target()
    draft = early_exit(target, 2).eval()
    tokens = torch.randn(2, 5, P)
    x = target.embedding(tokens)
    rotation = target.blocks.rotary(torch.arange(5)[None])
    for layer in target.blocks.attn_layers[:2]:
        x = layer(x, None, rotation)
    torch.testing.assert_close(draft.encode_tokens(tokens), draft.blocks.norm(x))
    assert draft.blocks.attn_layers[1] is target.blocks.attn_layers[1]
    assert {name for name, parameter in draft.named_parameters() if parameter.requires_grad} == {
        "blocks.norm.weight",
        "blocks.norm.bias",
        "head.weight",
        "head.bias",
    }
    assert draft.token_law(x).logvar is None


@pytest.mark.parametrize("layers", [0, 3, 4])
def test_an_early_exit_must_leave_layers_out(layers):
    with pytest.raises(ValueError, match=f"from 1 to 2, below the target's 3, got {layers}"):
        early_exit(make_target(), layers)


def test_a_linear_forecaster_is_one_matrix_on_the_last_tokens():
    torch.manual_seed(0)
    model, x = LinearForecaster(3, **TOKENS), series()
    statistics = model.statistics(x)
    z = model.normalise(x, statistics)
    for place in range(3):  # after the third, fourth and fifth token
        expected = z[:, place * P : (place + 3) * P, 1] @ model.head.weight.T + model.head.bias
        found = model.normalise(model(x), statistics)[:, place * P : (place + 1) * P, 1]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # float32
    with pytest.raises(ValueError, match="at least 12 steps, got 8"):
        model(x[:, :8])


def test_a_spectral_forecaster_sees_no_later_token_and_no_other_variate():
    torch.manual_seed(0)
    model = STUForecaster(**TOKENS, d_model=8, d_ff=8, num_eigh=4, use_norm=False).eval()
    x = series().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[0, P : 2 * P, 0].sum(), x)
    assert gradient[0, : 2 * P, 0].abs().min() > 0
    assert gradient[0, 2 * P :].abs().max() == 0
    assert gradient[..., 1].abs().max() == 0


@torch.no_grad()
def test_steps_of_a_spectral_forecaster_equal_its_pass_over_all_tokens():
    torch.manual_seed(0)
    model = STUForecaster(**TOKENS, d_model=8, d_ff=8, num_eigh=4, use_norm=False).eval()
    tokens = torch.randn(2, 6, P)
    states = model.prefill(tokens[:, :3])
    for place in range(3, 6):
        law, states = model.step(tokens[:, place], states)
        expected = model(tokens[:, : place + 1].flatten(1)[..., None])[:, -P:, 0]
        torch.testing.assert_close(law.mean, expected, rtol=1e-4, atol=1e-5)  # float32 beside a state in float64


def test_a_feature_draft_forecasts_from_the_targets_features_of_the_token_before():
    target = make_target()
    draft, x = FeatureDraft.of(target, hidden=8), series(variates=1)
    statistics = draft.statistics(x)
    tokens = draft.normalise(x, statistics)[..., 0].unflatten(1, (-1, P))
    features = target.encode_tokens(tokens)
    expected = draft.head(draft.step(features[:, 2], tokens[:, 3]))
    found = draft.normalise(draft(x), statistics)[:, 2 * P : 3 * P, 0]  # after the fourth token: the first has none
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # float32
    assert torch.equal(draft.head.weight, target.head.weight)
    assert not any(name.startswith("_target") for name in draft.state_dict())


@pytest.mark.parametrize(
    "model",
    [LinearForecaster(2, **TOKENS), STUForecaster(**TOKENS, d_model=8, d_ff=8), FeatureDraft(**TOKENS, d_model=16)],
    ids=lambda model: type(model).__name__,
)
def test_a_saved_draft_opens_as_what_it_was(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
