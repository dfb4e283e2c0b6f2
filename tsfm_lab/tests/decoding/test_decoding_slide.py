"""The sliding roll-out: OpenLTM's, step by step."""

import pytest
import torch

from tsfm_lab.decoding.autoregressive import slide
from tsfm_lab.models.timer_xl import TimerXL


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TimerXL(4, 4, 16, 2, 16, 1).eval()


def test_each_token_is_forecast_from_the_newest_steps_and_the_forecasts_before_it(model):
    context = torch.randn(2, 12, 3)
    first = model(context)[:, -4:]
    second = model(torch.cat([context[:, 4:], first], dim=1))[:, -4:]
    third = model(torch.cat([context[:, 8:], first, second], dim=1))[:, -4:]
    assert torch.equal(slide(model, context, 12), torch.cat([first, second, third], dim=1))


def test_a_horizon_within_a_token_is_cut(model):
    context = torch.randn(2, 12, 1)
    assert torch.equal(slide(model, context, 6), slide(model, context, 8)[:, :6])


def test_a_horizon_of_no_steps_is_refused(model):
    with pytest.raises(ValueError, match="horizon must be at least 1 step, got 0"):
        slide(model, torch.randn(1, 12, 1), 0)
