"""The presets of notebook 06: what is decoded, what is swept, what is refused."""

from dataclasses import replace

import pytest

from tsfm_lab.decoding.speculation import Speculation
from tsfm_lab.training.presets import PRESETS

SMOKE = PRESETS["06_speculative_decoding"]["smoke"]


@pytest.mark.parametrize("scale", ["smoke", "lab", "full"])
def test_a_target_learns_on_the_context_and_the_horizon_less_a_token(scale):
    config = PRESETS["06_speculative_decoding"][scale]
    assert config.horizon == config.test_pred_len[0]
    assert config.seq_len == config.norm_prefix_len + config.horizon - config.output_token_len


def test_the_published_sizes_are_those_of_the_source():
    config = PRESETS["06_speculative_decoding"]["full"]
    assert (config.d_model, config.n_heads, config.d_ff, config.e_layers) == (1024, 8, 2048, 8)
    assert (config.norm_prefix_len, config.input_token_len, config.data) == (1536, 96, "ETTh1")


def test_every_cell_of_the_sweep_is_a_setting_and_none_comes_twice():
    cells = SMOKE.cells()
    names = ("mode", "k", "sigma", "bias", "tolerance")
    for cell in cells:
        Speculation(**{name: cell[name] for name in names if cell[name] is not None})
    assert len({str(cell) for cell in cells}) == len(cells)
    assert {tuple(cell) for cell in cells} == {("draft", "batch", "k", "sigma", "bias", "tolerance", "mode")}
    assert {cell["mode"] for cell in cells} == {"exact", "tolerance", "sweep", "stride"}
    assert len(cells) == 2 * (2 + 2 * 2 + 1 + 2 * 1 * 2)  # two drafts: exact, tolerance, sweep, stride


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"norm_prefix_len": None, "draft_windows": 0},
            "norm_prefix_len is the context, in steps from 1 to below seq_len=195, got None",
        ),
        ({"norm_prefix_len": 195}, "got 195"),
        ({"norm_prefix_len": 100}, "a context of whole tokens, got input_token_len=13"),
        ({"output_token_len": 26}, "tokens of one length"),
        ({"test_pred_len": (52,)}, "test_pred_len must be \\(104,\\)"),
        ({"multivariate": True, "draft_windows": 0}, "one variate a row"),
        ({"sigma": "learned", "refine_epochs": 0}, "sigma must be 'calibrated' or 'correlated', got 'learned'"),
        ({"sweep_draft": ("ttm",)}, "sweep_draft must be among spec_drafts"),
    ],
)
def test_configurations_that_cannot_be_decoded_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(SMOKE, **options)
