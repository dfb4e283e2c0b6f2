"""Synthetic corpora: every series is a function of (seed, i), and each family is what it says."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import toeplitz

from tsfm_lab.data import Series, SeriesList
from tsfm_lab.data.synthetic import (
    ARMA,
    FREQUENCIES,
    SEASONS,
    Calendar,
    Events,
    IntermittentCounts,
    KernelSynth,
    LinearSystem,
    SeasonalTrend,
    SyntheticCollection,
    SyntheticMix,
    TSMixup,
)
from tsfm_lab.data.synthetic.calendar import CALENDAR
from tsfm_lab.data.synthetic.kernel_synth import add_terms, color_noise, kernel_terms, multiply_terms
from tsfm_lab.data.synthetic.lds import nearest_season, run_modes
from tsfm_lab.data.synthetic.mixup import mean_abs

FAMILIES = ("kernelsynth", "tsmixup", "seasonal_trend", "arma", "lds", "intermittent", "events", "calendar")


def only(family: str, **settings) -> SyntheticMix:
    return SyntheticMix(**{name: float(name == family) for name in FAMILIES}, **settings)


def digest(series) -> str:
    parts = [s.item_id.encode() + s.freq.encode() + s.target.tobytes() for s in series]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_series_are_the_same_in_any_order_of_asking():
    collection = SyntheticCollection(20, seed=3)
    forwards = [collection[i] for i in range(20)]
    backwards = [collection[i] for i in reversed(range(20))][::-1]
    assert digest(forwards) == digest(backwards)


def test_series_are_the_same_bits_in_another_process_with_another_number_of_threads():
    code = (
        "from tsfm_lab.data.synthetic import SyntheticCollection as C; import hashlib;"
        "parts = [s.item_id.encode() + s.freq.encode() + s.target.tobytes() for s in C(16, seed=5)];"
        "print(hashlib.sha256(b''.join(parts)).hexdigest())"
    )
    seen = set()
    for threads in ("1", "2"):
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | limits
        )
        seen.add(done.stdout.strip())
    assert seen == {digest(SyntheticCollection(16, seed=5))}


def test_other_seeds_and_indices_give_other_series():
    a, b = SyntheticCollection(6, seed=0), SyntheticCollection(6, seed=1)
    assert len({s.target.tobytes() for s in (*a, *b)}) == 12


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("kernelsynth", [30.746954, -76.8578186, -24.6843095, 27.9544031]),
        ("tsmixup", [176.394272, 230.185516, 189.014557, 27.3338255]),
        ("seasonal_trend", [-0.71771735, -0.715765774, -0.633542671, 0.0444473735]),
        ("arma", [0.428959966, 3.58900118, 2.24062973, 3.15780604]),
        ("lds", [-1447.00684, -1623.50183, -1623.53607, 9.14985796]),
        ("intermittent", [0, 0, 0.080078125, 0.758695422]),
        ("events", [-77.7333374, -75.9311218, 0.421814574, 41.302962]),
    ],
)
def test_every_machine_makes_the_same_values(family, values):
    """First and last step, mean and standard deviation of series 0 of seed 7, as made on x86-64 with NumPy 2.4.

    float32 rounding is 6e-8 of a value; 1e-6 leaves room for other libm and SIMD variants of exp and sin.
    """
    y = only(family).series(7, 0).target[0].astype(np.float64)
    assert [y[0], y[-1], np.nanmean(y), np.nanstd(y)] == pytest.approx(values, rel=1e-6)


def test_shapes_are_known_without_making_the_series():
    collection = SyntheticCollection(40, seed=2)
    shapes = [s.target.shape for s in collection]
    assert list(zip(collection.num_variates, collection.lengths, strict=True)) == shapes
    assert len(set(collection.lengths)) > 1
    assert max(collection.num_variates) > 1


def test_families_come_in_proportion_to_their_weights():
    mix, n = SyntheticMix(), 4000
    names = Counter(mix._begin(0, i)[1] for i in range(n))
    for name in FAMILIES:
        p = getattr(mix, name)
        # five standard deviations of a binomial share
        assert abs(names[name] / n - p) <= 5 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_usable_series(family):
    mix = only(family, length=256)
    for i in range(12):
        series = mix.series(11, i)
        assert series.item_id == f"{family}-11-{i}"
        assert not np.isinf(series.target).any()
        assert np.nanstd(series.target) > 0
        assert np.isnan(series.target).mean() <= 0.2
        assert series.freq in {freq for group in FREQUENCIES.values() for freq in group}


def test_defaults_are_the_published_mix():
    mirror = os.environ.get("TSFM_DATA_MIRROR")
    file = Path(mirror or "") / "synthetic_mix.json"
    if not mirror or not file.is_file():
        pytest.skip("set TSFM_DATA_MIRROR to a folder with synthetic_mix.json")
    published = json.loads(file.read_text())
    mix, families = SyntheticMix(), published["families"]
    assert mix.length == published["length"]
    published = {name: families[name]["weight"] if name in families else 0 for name in FAMILIES}
    assert {name: getattr(mix, name) for name in FAMILIES} == published
    gp, spec = KernelSynth(), families["kernelsynth"]
    assert gp.max_kernels == spec["max_kernels"]
    assert list(gp.periods) == spec["periodic_periods_in_steps"]
    assert list(gp.dot_product_offsets) == spec["DotProduct_sigma0"]
    assert list(gp.rbf_lengths) == spec["RBF_length"]
    assert list(gp.rational_quadratic_alphas) == spec["RationalQuadratic_alpha"]
    assert list(gp.white_variances) == spec["White_noise"]
    assert gp.constant == spec["Constant"]
    assert mix.families["tsmixup"].alpha == families["tsmixup"]["alpha"]
    assert families["seasonal_trend"]["period"].startswith("choice{" + ",".join(map(str, SEASONS)) + "}")


# Gaussian processes


def test_color_noise_applies_the_cholesky_factor():
    """The Schur recursion against LAPACK, on kernels from white to nearly singular."""
    lag = np.arange(200)
    kappa = np.stack([2.0 * (lag == 0), 3 * np.exp(-((lag / 400) ** 2)), np.exp(-2 * np.sin(np.pi * lag / 24) ** 2)])
    noise = np.random.default_rng(0).standard_normal(kappa.shape)
    made = color_noise(kappa, noise, jitter=1e-6)
    for k, z, f in zip(kappa, noise, made, strict=True):
        L = np.linalg.cholesky(toeplitz(k) + 1e-6 * k[0] * np.eye(200))
        # condition number 1e8 times rounding 1e-16, with room
        np.testing.assert_allclose(f, L @ z, atol=1e-7)


def test_a_term_without_variance_gives_zeros():
    assert not color_noise(np.zeros((1, 8)), np.ones((1, 8))).any()


def test_terms_of_sums_and_products_make_up_the_dense_kernel():
    n, x = 30, np.linspace(0, 1, 30)
    outer = np.outer(x, x)

    def dense(terms):
        return sum(outer**m * toeplitz(np.broadcast_to(kappa, n)) for m, kappa in terms.items())

    dot, rbf, periodic = (kernel_terms(*k, n) for k in (("dot product", 1.0), ("rbf", 0.1), ("periodic", 7)))
    np.testing.assert_allclose(dense(dot), 1 + outer, atol=1e-14)
    np.testing.assert_allclose(dense(rbf), np.exp(-((x[:, None] - x) ** 2) / 0.02), atol=1e-14)
    product = multiply_terms(multiply_terms(dot, dot), rbf)
    np.testing.assert_allclose(dense(product), (1 + outer) ** 2 * dense(rbf), atol=1e-13)
    np.testing.assert_allclose(dense(add_terms(product, periodic)), dense(product) + dense(periodic), atol=1e-13)


def test_a_periodic_kernel_names_the_frequency():
    gp = KernelSynth(
        max_kernels=1,
        periods=(24,),
        dot_product_offsets=(),
        rbf_lengths=(),
        rational_quadratic_alphas=(),
        white_variances=(),
        constant=0.0,
    )
    drawn = [gp.draw(np.random.default_rng(i), (1, 240)) for i in range(20)]
    seasonal = [y[0] for y, freq in drawn if freq == "h"]
    assert 2 < len(seasonal) < 18  # the bank holds the constant too
    # the jitter moves a step by a thousandth of the standard deviation, 1
    assert all(np.abs(y[24:] - y[:-24]).max() < 0.02 for y in seasonal)


# the other families


def test_mixup_is_a_convex_combination_of_pieces_of_the_pool():
    """Every piece is divided by its mean |x|, so constants of any size become ones, and so does their mixture."""
    pool = SeriesList([Series(f"c{i}", "2020-01-01", "h", np.full(300 + 10 * i, 5.0 * i + 1)) for i in range(9)])
    mixup = TSMixup((), (), pool)
    for i in range(30):
        rng = np.random.default_rng(i)
        c, t = mixup.draw_shape(rng, 1024)
        y, freq = mixup.draw(rng, (c, t))
        assert y.shape == (1, t)
        assert 128 <= t <= 380
        np.testing.assert_allclose(y, 1, rtol=1e-12)
        assert freq == "h"


def test_mixup_works_on_a_pool_that_is_shorter_than_its_shortest_piece():
    pool = SeriesList([Series("short", "2020-01-01", "D", np.arange(50.0))])
    assert only("tsmixup", mixup_pool=pool).series(0, 0).length == 50


def test_mean_abs_leaves_out_what_is_missing():
    assert mean_abs(np.array([-2.0, np.nan, 4.0])) == 3.0
    assert mean_abs(np.array([np.nan, np.nan])) == 1.0
    assert mean_abs(np.zeros(3)) == 1.0


def test_a_season_repeats_where_nothing_disturbs_it():
    plain = SeasonalTrend(
        max_seasons=1, seasons=(24,), modulated=0, trends=(1, 0, 0, 0, 0), multiplicative=0, noise=(1e-12, 1e-11)
    )
    y, freq = plain.draw(np.random.default_rng(0), (1, 240))
    np.testing.assert_allclose(y[:, 24:], y[:, :-24], atol=1e-9)
    assert freq == "h"


def test_arma_polynomials_have_their_inverse_roots_inside_the_unit_circle():
    arma, rng = ARMA(), np.random.default_rng(0)
    for order in (1, 2, 3, 4) * 10:
        polynomial = arma._polynomial(rng, order)
        moduli = np.abs(np.roots(polynomial))
        assert len(polynomial) == order + 1
        # repeated roots are computed to the square root of rounding only
        assert moduli.min() >= 0.3 - 1e-6
        assert moduli.max() <= 0.995 + 1e-6


@pytest.mark.parametrize("d", [4, 5])
def test_modes_are_the_dense_system_run_step_by_step(d):
    rng = np.random.default_rng(d)
    drive = rng.standard_normal((d, 50))
    eigenvalues = LinearSystem()._rotations(rng, d)
    A = np.zeros((d, d))
    for i, a in enumerate(eigenvalues):
        j = 2 * i
        A[j, j] = a.real
        if j + 1 < d:
            A[j, j + 1], A[j + 1, j], A[j + 1, j + 1] = -a.imag, a.imag, a.real
    h, states = np.zeros(d), []
    for w in drive.T:
        h = A @ h + w
        states.append(h)
    np.testing.assert_allclose(run_modes(eigenvalues, drive), np.array(states).T, atol=1e-12)


def test_symmetric_modes_are_scalar_recursions():
    drive = np.ones((2, 5))
    np.testing.assert_allclose(
        run_modes(np.array([0.5, -1.0]), drive), [[1, 1.5, 1.75, 1.875, 1.9375], [1, 0, 1, 0, 1]]
    )


def test_a_rotation_takes_the_nearest_season():
    assert nearest_season(0.99 * np.exp(2j * np.pi / 23)) == 24


def test_counts_stay_counts():
    mix = only("intermittent", length=300)
    for i in range(20):
        y = mix.series(0, i).target
        assert (y >= 0).all()
        assert (y == np.round(y)).all()


def test_intermittent_demand_has_gaps():
    y, _ = IntermittentCounts(counts_only=0.0, demand_probability=(0.1, 0.1), modulated=0.0).draw(
        np.random.default_rng(0), (1, 4000)
    )
    # five standard deviations of a binomial share
    assert abs((y > 0).mean() - 0.1) < 5 * np.sqrt(0.09 / 4000)


def test_events_leave_out_at_most_a_fifth():
    shares = [np.isnan(Events().draw(np.random.default_rng(i), (1, 500))[0]).mean() for i in range(60)]
    assert 0 < max(shares) <= 0.2


# the collection


def test_cached_series_are_the_same(tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="the cache is an arrow folder")
    collection = SyntheticCollection(12, seed=4, mix=SyntheticMix(length=128))
    cached = collection.cache(tmp_path / "synthetic")
    assert "12/12" in capsys.readouterr().err  # the progress bar
    assert digest(cached) == digest(collection)
    assert list(cached.lengths) == list(collection.lengths)
    written = (tmp_path / "synthetic").stat().st_mtime_ns
    collection.cache(tmp_path / "synthetic")
    assert (tmp_path / "synthetic").stat().st_mtime_ns == written


def test_a_cache_of_another_seed_is_refused(tmp_path):
    pytest.importorskip("pyarrow", reason="the cache is an arrow folder")
    mix = SyntheticMix(length=128)
    SyntheticCollection(3, seed=4, mix=mix).cache(tmp_path / "synthetic")
    with pytest.raises(ValueError, match="must hold these 3 series of seed 5"):
        SyntheticCollection(3, seed=5, mix=mix).cache(tmp_path / "synthetic")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 8}, "at least 16 steps"),
        ({"arma": -0.1}, "must not be negative"),
        (dict.fromkeys(FAMILIES, 0), "nor all zero"),
    ],
)
def test_impossible_mixes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SyntheticMix(**settings)


def test_synthetic_series_need_no_heavy_package():
    heavy = ("gluonts", "jupytext", "papermill", "datasets", "pandas", "pyarrow", "lightning")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy}))\n"  # None makes an import of it fail
        "from tsfm_lab.data.synthetic import SyntheticCollection\n"
        "print(len([s.target for s in SyntheticCollection(8)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "8"


@pytest.mark.parametrize("freq", CALENDAR)
def test_a_calendar_series_without_noise_repeats_itself_after_the_seasons_of_its_frequency(freq):
    quiet = Calendar(slope=0, wander=(1e-9, 1e-9), noise=(1e-9, 1e-9), seasonless=0, second_season=0, night=0.5)
    for i in range(200):
        y, drawn = quiet.draw(np.random.default_rng(i), (1, 1200))
        m = CALENDAR[freq][0]
        if drawn == freq and m == int(m):
            np.testing.assert_allclose(y[0, m:], y[0, :-m], atol=1e-6 * np.ptp(y))


def test_solar_like_calendar_series_are_zero_at_night_and_never_below():
    family, seen = Calendar(night=1.0), 0
    for i in range(40):
        y, freq = family.draw(np.random.default_rng(i), (1, 600))
        if freq.endswith(("h", "min")) and (y == 0).any():
            seen += 1
            assert y.min() == 0
            assert 0.2 < (y == 0).mean() < 0.9
    assert seen > 10


def test_the_mix_of_before_is_unchanged_by_a_family_without_weight():
    """Its values stand in notebooks and results."""
    assert SyntheticMix().calendar == 0
    assert not any("calendar" in SyntheticMix()._begin(0, i)[1] for i in range(500))
