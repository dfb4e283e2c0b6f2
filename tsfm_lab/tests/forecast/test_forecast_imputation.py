"""Imputation of histories: GluonTS's values, and what it does where nothing precedes."""

import numpy as np
import pytest

from tsfm_lab.forecast.imputation import impute_causal_mean, impute_windows
from tsfm_lab.forecast.windows import Windows


@pytest.mark.parametrize("missing", [[3, 4, 9], [0, 1, 5], [39], [], [0]])
def test_missing_steps_get_gluonts_values(missing):
    imputation = pytest.importorskip("gluonts.transform", reason="needs gluonts").CausalMeanValueImputation()
    values = np.random.default_rng(0).normal(3, 2, size=40).astype(np.float32)
    values[missing] = np.nan
    with np.errstate(invalid="ignore"):  # of its own first step
        expected = imputation(values.copy())
    np.testing.assert_allclose(impute_causal_mean(values), expected, rtol=1e-5)  # sums in float64


def test_a_history_without_values_becomes_zeros():
    assert impute_causal_mean(np.full(5, np.nan, dtype=np.float32)).tolist() == [0] * 5


def test_the_given_array_is_left_as_it_is():
    values = np.array([1, 3, np.nan], dtype=np.float32)
    assert impute_causal_mean(values).tolist() == [1, 3, 2]
    assert np.isnan(values[2])


def test_windows_of_one_variate_are_filled_behind_their_padding():
    target = np.array([[[np.nan, np.nan, 2, 4, np.nan]]], dtype=np.float32)
    is_pad = np.array([[True, True, False, False, False]])
    filled = impute_windows(Windows(target, is_pad)).target
    np.testing.assert_array_equal(filled, [[[np.nan, np.nan, 2, 4, 3]]])
    assert np.isnan(target[0, 0, 4])


def test_several_variates_are_left_with_their_gaps():
    windows = Windows(np.full((1, 2, 3), np.nan, dtype=np.float32), np.zeros((1, 3), dtype=bool))
    assert impute_windows(windows) is windows
