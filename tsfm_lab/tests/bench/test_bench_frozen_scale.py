"""What the comparison of exact and frozen scales reports."""

import numpy as np
import pytest
import torch

from tsfm_lab.bench.frozen_scale import compare_scales
from tsfm_lab.evaluation import HeldOutSet
from tsfm_lab.models import Moirai2Module


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Moirai2Module.from_preset("small", d_model=64, num_layers=1).eval()


def held_out(horizon):
    walks = np.random.default_rng(0).normal(size=(3, 100 + horizon)).cumsum(1).astype(np.float32)
    return HeldOutSet("walks", list(walks[:, :100]), walks[:, 100:], season=1, mase_season=1)


def test_within_one_pass_both_forecasts_are_one(module):
    row = compare_scales(module, held_out(64))
    assert (row["set"], row["horizon"], row["windows"]) == ("walks", 64, 3)
    assert row["distance/interval"] == pytest.approx(0, abs=1e-3)
    assert row["wql frozen/exact"] == row["mase frozen/exact"] == pytest.approx(1, abs=1e-3)


def test_beyond_it_their_scores_and_their_distance_are_given(module):
    row = compare_scales(module, held_out(150))
    assert row["distance/interval"] > 1e-3
    assert row["wql frozen/exact"] == pytest.approx(row["wql frozen"] / row["wql exact"], abs=1e-3)
