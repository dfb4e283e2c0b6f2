"""The chain against uni2ts where it is installed: equal values for equal choices, equally distributed choices."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from tsfm_lab.data.transforms import TOKEN_FIELDS, apply_chain, pretraining_chain

pytest.importorskip("uni2ts", reason="the comparison with uni2ts needs it: pip install --no-deps uni2ts==2.0.0")


class Recorder:
    """A random generator that keeps what it drew, in order."""

    def __init__(self, seed):
        self.rng, self.drawn = np.random.default_rng(seed), []

    def __getattr__(self, method):
        def draw(*args):
            self.drawn.append(getattr(self.rng, method)(*args))
            return self.drawn[-1]

        return draw


@pytest.fixture
def peer(monkeypatch):
    from uni2ts.model.moirai import MoiraiPretrain
    from uni2ts.transform.patch import DefaultPatchSizeConstraints

    ranges = DefaultPatchSizeConstraints.DEFAULT_RANGES
    # its table has old pandas aliases only, so that pandas >= 2.2 finds nothing in it
    for new, old in {"s": "S", "min": "T", "h": "H", "ME": "M", "QE": "Q", "YE": "Y"}.items():
        monkeypatch.setitem(ranges, new, ranges[old])
    settings = SimpleNamespace(max_dim=128, min_patches=2, min_mask_ratio=0.15, max_mask_ratio=0.5)
    module = SimpleNamespace(patch_sizes=(8, 16, 32, 64, 128), max_seq_len=512)
    model = SimpleNamespace(hparams=settings, module=module, seq_fields=MoiraiPretrain.seq_fields)
    return MoiraiPretrain.train_transform_map.fget(model)["any"]()


def draw_series(rng):
    freq = ["s", "5min", "h", "D", "B", "W-SUN", "M", "Q-DEC", "Y-DEC"][rng.integers(9)]
    c, p = int(rng.integers(1, 12)), int(rng.integers(0, 4))
    t = int(rng.integers(260, 3000))
    values = rng.standard_normal((c + p, t)).astype(np.float32)
    values[:, : t // 3][rng.random((c + p, t // 3)) < 0.1] = np.nan
    sample = {"target": list(values[:c]), "freq": freq}
    return sample | ({"past_feat_dynamic_real": list(values[c:])} if p else {})


def replay(monkeypatch, drawn):
    """Make numpy's global functions, which uni2ts draws from, return what was drawn before."""
    left = iter(drawn)

    def randint(low, high=None):
        value = int(next(left))
        low, high = (0, low) if high is None else (low, high)
        assert low <= value < high
        return value

    monkeypatch.setattr(np.random, "randint", randint)
    monkeypatch.setattr(np.random, "permutation", lambda n: next(left))
    monkeypatch.setattr(np.random, "uniform", lambda low, high: next(left))

    def choice(a, size=None, replace=True):
        return np.asarray(a)[next(left)] if size is None else next(left)

    monkeypatch.setattr(np.random, "choice", choice)
    return left


@pytest.mark.parametrize("seed", range(60))
def test_equal_choices_give_equal_tokens(peer, monkeypatch, seed):
    sample = draw_series(np.random.default_rng(seed))
    recorder = Recorder(seed)
    own = apply_chain(pretraining_chain(), sample, recorder)
    left = replay(monkeypatch, recorder.drawn)
    theirs = peer(dict(sample))
    assert next(left, None) is None  # both made the same number of choices
    for field in TOKEN_FIELDS:
        np.testing.assert_array_equal(own[field], theirs[field], err_msg=field)
        assert own[field].dtype == theirs[field].dtype


def describe(tokens):
    """What the choices of a sample come to."""
    masked = tokens["prediction_mask"]
    patches = tokens["time_id"].max() + 1
    return {
        "patch size": tokens["patch_size"][0],
        "variates": len(np.unique(tokens["variate_id"])),
        "patches": patches,
        "first step": tokens["target"][0, 0],
        "masked share": masked.sum() / masked.size,
        "first variate id": tokens["variate_id"][0],
    }


def test_choices_have_the_same_distributions(peer):
    """2,000 draws each; by chance one in 10,000 two-sample tests falls below p = 1e-4, and the seeds are fixed."""
    n = 2000
    # values grow along time, so that the first value tells where the crop begins
    sample = {"target": list(np.arange(5)[:, None] * 0.0 + np.arange(1, 901.0, dtype=np.float32)), "freq": "5min"}
    rng = np.random.default_rng(0)
    own = [describe(apply_chain(pretraining_chain(), sample, rng)) for _ in range(n)]
    np.random.seed(0)  # noqa: NPY002 the peer draws from the global generator
    theirs = [describe(peer(dict(sample))) for _ in range(n)]
    for quantity in own[0]:
        a, b = ([d[quantity] for d in draws] for draws in (own, theirs))
        assert ks_2samp(a, b).pvalue > 1e-4, quantity
