"""What the names in DATA stand for, and what may not be among them."""

import numpy as np
import pytest

from tsfm_lab import paths
from tsfm_lab.data import Series, SeriesList, write_lotsa
from tsfm_lab.training.corpora import pretraining_mixture


def names(mixture):
    return [source.collection.name for source in mixture.sources]


def test_built_in_sets_count_as_their_weights_say():
    mixture = pretraining_mixture(["synthetic", "elnino=20"], synthetic_series=3, synthetic_length=64)
    assert names(mixture) == ["synthetic", "elnino"]
    assert [source.size for source in mixture.sources] == [3, 20]
    assert all(series.length >= 16 for series in mixture.sources[0].collection)


def test_one_family_of_the_synthetic_mix_is_a_set_of_its_own():
    mixture = pretraining_mixture(["synthetic/arma", "synthetic/events=2"], synthetic_series=3, synthetic_length=64)
    assert [source.size for source in mixture.sources] == [3, 6]
    assert all(series.item_id.startswith("arma-") for series in mixture.sources[0].collection)
    with pytest.raises(ValueError, match=r"no family 'arima'; write one of synthetic/\{.*arma.*\}"):
        pretraining_mixture(["synthetic/arima"])


def test_series_that_share_values_with_a_held_out_set_are_left_out_of_a_registered_one():
    (source,) = pretraining_mixture(["macrodata"]).sources
    assert source.collection[0].num_variates == 9  # three of twelve are in monash_fred_md


def test_a_folder_in_the_lotsa_layout_and_a_folder_of_them_are_read(tmp_path):
    series = SeriesList([Series("a", "2020-01-01", "D", np.arange(40.0))])
    for name in ("one", "two"):
        write_lotsa(series, tmp_path / name)
    assert len(pretraining_mixture([str(tmp_path / "one")]).sources) == 1
    assert len(pretraining_mixture([str(tmp_path)]).sources) == 2


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="neither arrow files nor folders"):
        pretraining_mixture([str(tmp_path)])


@pytest.mark.parametrize(("name", "reason"), [("co2", "held out for evaluation"), ("sunspots", "shares values")])
def test_what_is_not_for_pretraining_is_refused(name, reason):
    with pytest.raises(ValueError, match=f"{name} .*{reason}"):
        pretraining_mixture([name])


def test_a_held_out_set_whose_values_are_pretrained_on_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="monash_m4_hourly is not held out: lotsa/m4_hourly"):
        pretraining_mixture(["lotsa_v1_unweighted"], held_out=["monash_m4_hourly"])


def test_a_misspelt_name_and_a_weight_that_is_no_number_are_named():
    with pytest.raises(ValueError, match="did you mean elnino"):
        pretraining_mixture(["elninjo"])
    with pytest.raises(ValueError, match="name=weight"):
        pretraining_mixture(["elnino=much"])


def test_a_large_synthetic_corpus_is_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr("tsfm_lab.training.corpora.IN_MEMORY", 2)
    (source,) = pretraining_mixture(["synthetic"], synthetic_series=3, synthetic_length=64).sources
    (again,) = pretraining_mixture(["synthetic"], synthetic_series=3, synthetic_length=64).sources
    assert list((tmp_path / "synthetic").glob("3x64-seed0/*.arrow"))
    np.testing.assert_array_equal(source.collection[2].target, again.collection[2].target)
