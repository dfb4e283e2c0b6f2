"""Growing roll-outs, by recomputation and with a cache."""

import pytest
import torch

from tsfm_lab.decoding.autoregressive import grow, roll_out, slide
from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_base import TimerBase
from tsfm_lab.tests.decoding.tiny_timer import P, make_context, make_target


def small(cls):
    torch.manual_seed(0)
    return cls(input_token_len=P, output_token_len=P, d_model=16, n_heads=2, d_ff=24, e_layers=2).eval()


@pytest.mark.parametrize("model", [make_target(), small(Timer), small(TimerBase)], ids=["xl", "timer", "base"])
def test_a_cached_roll_out_equals_its_recomputation_with_frozen_statistics(model):
    context = make_context()
    # the contract's 2e-6 of the forecast's size, over 6 tokens: float32, sums in another order
    torch.testing.assert_close(
        roll_out(model, context, 6 * P), grow(model, context, 6 * P, frozen=True), rtol=1e-5, atol=1e-5
    )


def test_a_growing_context_is_normalised_anew_at_every_step():
    model, context = make_target(), make_context()
    first = model(context)[:, -P:]
    second = model(torch.cat([context, first], dim=1))[:, -P:]
    assert torch.equal(grow(model, context, 2 * P), torch.cat([first, second], dim=1))


def test_the_three_roll_outs_agree_on_the_first_token_and_then_part():
    model, context = make_target(), make_context()
    forecasts = [decode(model, context, 3 * P) for decode in (slide, grow, roll_out)]
    for other in forecasts[1:]:
        torch.testing.assert_close(other[:, :P], forecasts[0][:, :P], rtol=1e-5, atol=1e-5)  # float32
        assert (other[:, P:] - forecasts[0][:, P:]).abs().max() > 1e-3


def test_a_ragged_context_keeps_its_newest_steps():
    model, context = make_target(), make_context()
    assert torch.equal(roll_out(model, context[:, 3:], P), roll_out(model, context[:, P:], P))


@pytest.mark.parametrize("horizon", [0, P + 1, -P])
@pytest.mark.parametrize("decode", [grow, roll_out])
def test_a_horizon_that_is_no_multiple_of_the_token_is_refused(decode, horizon):
    with pytest.raises(
        ValueError, match=f"horizon must be a positive multiple of the token of {P} steps, got {horizon}"
    ):
        decode(make_target(), make_context(), horizon)


def test_several_variates_are_refused_where_a_cache_would_be_wrong():
    with pytest.raises(ValueError, match=r"one variate a row, got 2.*'b t c -> \(b c\) t 1'"):
        roll_out(make_target(), make_context().expand(-1, -1, 2), P)


def test_tokens_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match=f"output_token_len = input_token_len = {P}, got 8"):
        roll_out(make_target(sigma=None, output_token_len=8), make_context(), 8)
