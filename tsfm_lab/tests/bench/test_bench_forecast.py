"""The forecast bench: what it forecasts, how many series each call gets, what the Monash item needs. No test times."""

import numpy as np
import pytest

from tsfm_lab.bench.forecast import CONTEXT, HORIZON, ITEMS, main, make_histories, time_per_series
from tsfm_lab.bench.forecast_peers import has_chronos, make_chronos_bolt


def test_histories_are_the_same_each_time_and_as_long_as_the_context():
    histories = make_histories(5)
    assert (histories.shape, histories.dtype) == ((5, CONTEXT), np.float32)
    np.testing.assert_array_equal(histories, make_histories(5))


def test_a_slow_call_gets_fewer_series_and_a_fast_one_all():
    now = {"seconds": 0.0}
    asked = {"slow": [], "fast": []}

    def call(name, seconds):
        def forecast(histories):
            asked[name].append(len(histories))
            now["seconds"] += seconds * len(histories)

        return forecast

    calls = {"slow": call("slow", 0.1), "fast": call("fast", 1e-6)}
    times = time_per_series(calls, make_histories(100), seconds=4, rounds=2, clock=lambda: now["seconds"])
    assert asked == {"slow": [1, 32, 40, 40], "fast": [1, 32, 100, 100]}
    assert times["slow"][0] == 40
    assert times["slow"][1].median == pytest.approx(0.1)
    assert times["fast"][1].median == pytest.approx(1e-6)


def test_chronos_bolt_gives_nine_quantiles_of_each_step():
    if not has_chronos():
        pytest.skip("pip install chronos-forecasting to measure Chronos-Bolt beside our forecasters")
    assert make_chronos_bolt(HORIZON)(make_histories(2)).shape == (2, 9, HORIZON)


def test_an_unknown_item_is_refused_and_the_known_ones_are_listed(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])
    assert f"unknown item speed; known: {', '.join(ITEMS)}" in capsys.readouterr().err
