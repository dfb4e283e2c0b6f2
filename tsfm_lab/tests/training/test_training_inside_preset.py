"""The presets of notebook 09 refuse what could not be looked at, before any model is opened."""

from dataclasses import replace

import pytest

from tsfm_lab.training.presets import PRESETS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_tokens": 8}, "context_tokens must be at least 16"),
        ({"horizon_tokens": 0}, "horizon_tokens must be at least 1"),
        ({"season_steps": 32}, "season_steps must be above two patches"),
        ({"season_steps": 128}, "below a quarter of the context, got 128"),
        ({"season_twins": 0}, "season_twins must be at least 1"),
        ({"probe_series": 30}, "probe_series must be at least 60"),
        ({"ablation_series": 1000}, "ablation_series must be 1 … probe_series"),
        ({"held_out": ()}, "held_out must name at least one set"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["09_inside_the_models"]["smoke"], **change)
