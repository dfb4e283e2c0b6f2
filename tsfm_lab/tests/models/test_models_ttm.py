"""The mixer: one variate at a time, a fixed context, clear errors. Its peer's outputs are in the golden test."""

import pytest
import torch

from tsfm_lab.models.ttm import TinyTimeMixer


def small(**options):
    torch.manual_seed(0)
    sizes = {"context_length": 20, "input_token_len": 4, "output_token_len": 6, "d_model": 16, "decoder_width": 8}
    return TinyTimeMixer(**{**sizes, **options}).eval()


def test_forecasts_the_steps_after_the_context_of_each_variate_by_itself():
    model, x = small(), torch.randn(2, 20, 3)
    y = model(x)
    assert y.shape == (2, 6, 3)
    torch.testing.assert_close(model(x[..., 1:2]), y[..., 1:2])


def test_reads_only_the_newest_context():
    model, x = small(), torch.randn(2, 27, 1)
    assert torch.equal(model(x), model(x[:, -20:]))


def test_a_context_shorter_than_the_models_is_refused():
    with pytest.raises(ValueError, match="time ≥ context_length=20"):
        small()(torch.randn(2, 19, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_length": 22}, "context_length must be a multiple of input_token_len=4, got 22"),
        ({"d_model": 18}, r"multiple of 2\^\(adaptive_levels − 1\) = 4, got 18"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
