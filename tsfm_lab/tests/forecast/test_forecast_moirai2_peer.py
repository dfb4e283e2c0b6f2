"""Moirai2Forecast against uni2ts 2.0.0 itself from the same histories, where that package is installed."""

import numpy as np
import pandas as pd
import pytest
import torch

from tsfm_lab.data import Series
from tsfm_lab.forecast import Moirai2Forecast
from tsfm_lab.forecast.windows import cut_windows
from tsfm_lab.models import Moirai2Module
from tsfm_lab.tests.models.make_moirai2_golden import SIZES, peer_inputs

peer_moirai2 = pytest.importorskip("uni2ts.model.moirai2", reason="the peer uni2ts is not installed")

CONTEXT = 96


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Our module and the peer's with the same weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    ours = Moirai2Module(**SIZES).eval()
    ours.save_pretrained(folder)
    return ours, peer_moirai2.Moirai2Module.from_pretrained(folder).eval()


def make_windows(horizon, num_variates=1, known=0, past=0):
    rng = np.random.default_rng(num_variates)
    series = []
    for name, t in (("long", 200), ("ragged", 71), ("short", 33)):
        target = rng.normal(size=(num_variates, t)).cumsum(1).astype(np.float32)
        target[0, 20:25] = np.nan
        past_values = rng.normal(size=(past, t)).astype(np.float32) if past else None
        known_values = rng.normal(size=(known, t + horizon)).astype(np.float32) if known else None
        series.append(Series(name, np.datetime64("2020-01-01"), "D", target, past_values, known_values))
    return cut_windows(series, CONTEXT, horizon, known, past)


@pytest.mark.parametrize(
    ("horizon", "num_variates", "known", "past"),
    [(40, 1, 0, 0), (192, 1, 0, 0), (200, 1, 0, 0), (40, 2, 0, 0), (64, 2, 1, 2), (150, 1, 1, 2)],
)
def test_quantiles_are_the_peers(modules, horizon, num_variates, known, past):
    ours, theirs = modules
    windows = make_windows(horizon, num_variates, known, past)
    peer = peer_moirai2.Moirai2Forecast(horizon, num_variates, known, past, CONTEXT, module=theirs)
    with torch.no_grad():
        expected = peer(**peer_inputs(windows))
    expected = expected[:, None] if num_variates == 1 else expected.movedim(-1, 1)
    found = Moirai2Forecast(ours, horizon, CONTEXT, "exact", num_variates, known, past).decode(windows, horizon)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_peer_does_not_go_beyond_one_pass_with_several_variates(modules):
    """What ours is tested for in test_forecast_moirai2.py."""
    peer = peer_moirai2.Moirai2Forecast(100, 2, 0, 0, CONTEXT, module=modules[1])
    with pytest.raises(Exception), torch.no_grad():  # noqa: B017, PT011 - whatever it is that fails there
        peer(**peer_inputs(make_windows(100, 2)))


def test_the_predictor_gives_what_the_peer_gives_for_arrays(modules):
    """The peer's own predictor does not run on GluonTS 0.17; it leaves crossed quantiles, ours are sorted."""
    ours, theirs = modules
    rng = np.random.default_rng(0)
    targets = [rng.normal(size=t).cumsum().astype(np.float32) for t in (CONTEXT, 130, 300)]
    entries = [{"target": target, "start": pd.Period("2020-01-01", freq="D")} for target in targets]
    expected = peer_moirai2.Moirai2Forecast(100, 1, 0, 0, CONTEXT, module=theirs).predict(targets)
    found = Moirai2Forecast(ours, 100, CONTEXT).create_predictor().predict(entries)
    for own, peers in zip(found, np.sort(expected, axis=1), strict=True):
        quantiles = np.stack([own.quantile(level / 10) for level in range(1, 10)])
        np.testing.assert_allclose(quantiles, peers, rtol=1e-4, atol=1e-4)
