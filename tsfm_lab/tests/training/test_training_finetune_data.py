"""Series cut in time, and windows for fine-tuning that are what a forecast reads."""

import numpy as np
import pytest
import torch

from tsfm_lab.data import Series, SeriesList
from tsfm_lab.models import LinearForecaster, TimerXL
from tsfm_lab.training.finetune_data import cut_in_time, make_timer_data, packed_validation, training_stream

H, C, SIZES = 6, 20, (4, 8)


def series(length=120, variates=1, name="a", first=0, **more):
    """Values that say where they stand: step t of variate v is first + t + 1000 v."""
    values = first + np.arange(length, dtype=float) + 1000 * np.arange(variates)[:, None]
    return Series(name, "2020-01-01", "D", values, **more)


def cut(*items, **options):
    defaults = {"horizon": H, "num_validation": 2, "num_test": 3, "context_length": C, "least": 10}
    return cut_in_time(SeriesList(items, name="toy"), **{**defaults, "patch_sizes": SIZES, **options})


# parts


def test_validation_and_test_follow_training_in_whole_windows():
    parts = cut(series(120))
    (train,), (seen,) = parts.before_validation(), parts.before_test()
    assert (train.length, seen.length) == (120 - 5 * H, 120 - 3 * H)
    windows = parts.validation_windows()
    assert [w.target[0, -1] for w in windows] == [95, 101]
    assert [w.length for w in windows] == [C + H, C + H]


def test_series_that_are_too_short_or_empty_are_left_out_and_counted():
    empty = Series("e", "2020-01-01", "D", np.where(np.arange(120) < 100, np.nan, 1.0))
    parts = cut(series(120), series(39, name="b"), empty)
    assert [s.item_id for s in parts.whole] == ["a"]
    assert parts.skipped == {"too short": 1, "nothing observed": 1}


def test_a_horizon_too_long_for_every_series_is_refused_with_what_it_needs():
    with pytest.raises(ValueError, match=r"too short: 1.*need 1010, the longest has 120; take fewer windows"):
        cut(series(120), horizon=200)


@pytest.mark.parametrize("name", ["horizon", "num_validation", "num_test"])
def test_a_count_below_one_is_refused(name):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        cut(series(), **{name: 0})


def test_variates_are_apart_or_together_as_the_forecaster_has_them():
    assert [s.item_id for s in cut(series(variates=2)).whole] == ["a[0]", "a[1]"]
    (together,) = cut(series(variates=2), target_dim=2).whole
    assert together.num_variates == 2
    with pytest.raises(ValueError, match="has 2 variates, the forecaster was built with target_dim=3"):
        cut(series(variates=2), target_dim=3)


def test_past_covariates_stay_as_far_as_the_forecaster_reads_them():
    item = series(past_feat_dynamic_real=np.ones((3, 120)), feat_dynamic_real=np.ones((1, 130)))
    assert cut(item).whole[0].past_feat_dynamic_real is None
    (kept,) = cut(item, num_past=2).whole
    assert len(kept.past_feat_dynamic_real) == 2
    assert kept.feat_dynamic_real is None


# windows of packed models


def test_training_never_sees_a_step_of_validation_or_test():
    parts = cut(series(120), series(90, name="b", first=5000))
    stream = training_stream(parts, SIZES, batch_rows=8, seed=0)
    seen = torch.cat([stream.batch(step)["target"].flatten() for step in range(20)])
    first = seen[seen < 4000]
    assert first.max() == 120 - 5 * H - 1
    assert seen.max() == 5000 + 90 - 5 * H - 1


def test_validation_has_each_window_in_each_patch_size_and_only_its_horizon_masked():
    parts = cut(series(120), series(90, name="b", first=5000))
    batches = packed_validation(parts, SIZES, batch_rows=3)
    scored, sizes = [], []
    for batch in batches:
        counted = batch["prediction_mask"][..., None] & batch["observed_mask"]
        scored.append(batch["target"][counted])
        sizes.append(batch["patch_size"][batch["prediction_mask"]])
    values = sorted(torch.cat(scored).tolist())
    expected = [*range(90, 102), *range(5060, 5072)]
    assert values == sorted(expected * 2)
    assert set(torch.cat(sizes).tolist()) == set(SIZES)


def test_validation_without_an_observed_value_is_refused():
    item = series(120)
    item.target[0, 80:] = np.nan
    with pytest.raises(ValueError, match="no validation window of 'toy' has observed values"):
        packed_validation(cut(item, context_length=8), SIZES, batch_rows=2)


# windows of the Timer family

P = 4
TIMER = {"input_token_len": P, "output_token_len": P}


def timer(**options):
    return TimerXL(**{**TIMER, "d_model": 8, "n_heads": 1, "d_ff": 8, "e_layers": 1, **options})


def steps_of(values, train):
    """Standardised values back to the steps that they are of, for a series that counts them."""
    return values * np.arange(train).std() + np.arange(train).mean()


def test_timer_windows_of_training_and_validation_end_before_what_follows():
    parts = cut(series(120))
    data, validation = make_timer_data(timer(), parts, batch_size=8, seed=0)
    train = 120 - 5 * H
    ends = [steps_of(y[-1, 0], train) for _, y in (data.windows[i] for i in range(len(data.windows)))]
    assert max(ends) == pytest.approx(train - 1, abs=1e-3)
    x, y = next(iter(validation))
    assert x.shape[1] == C
    starts, last = steps_of(y[:, -P, 0].numpy(), train), steps_of(y[:, -1, 0].numpy(), train)
    assert starts[0] == pytest.approx(train, abs=1e-3)
    assert last.max() < 120 - 3 * H


def test_timer_windows_hold_the_steps_after_each_token():
    parts = cut(series(120))
    data, _ = make_timer_data(timer(output_token_len=6), parts, batch_size=8, seed=0)
    x, y = data.windows[0]
    rows = steps_of(np.concatenate([x, y]), 120 - 5 * H)[:, 0].round().astype(int).tolist()
    assert rows == [*range(C), *(p + k for p in range(P, C + P, P) for k in range(6))]


def test_a_short_series_begins_with_its_first_value():
    parts = cut(series(45))
    data, validation = make_timer_data(LinearForecaster(5, **TIMER), parts, batch_size=8, seed=0)
    assert len(data.windows) == 1
    x, _ = data.windows[0]
    assert x[:9, 0].tolist() == [x[0, 0]] * 9
    assert np.diff(x[9:, 0]).min() > 0
    assert len(validation.dataset) > 0


def test_timer_windows_have_no_gaps():
    item = series(120)
    item.target[0, [5, 6, 50, 119]] = np.nan
    data, validation = make_timer_data(timer(), cut(item), batch_size=8, seed=0)
    assert all(np.isfinite(x).all() and np.isfinite(y).all() for x, y in map(data.windows.__getitem__, range(40)))
    assert torch.isfinite(next(iter(validation))[0]).all()
