"""MoiraiModule against uni2ts 2.0.0 itself at the published small size, where that package is installed."""

import numpy as np
import pytest
import scipy.stats
import torch

from tsfm_lab.models.moirai import PATCH_SIZES, MoiraiModule
from tsfm_lab.tests.models.make_golden import LOSS_FIELDS, inside_patches
from tsfm_lab.tests.models.packed_rows import make_packed_batch
from tsfm_lab.training.losses import PackedNLLLoss

pytest.importorskip("uni2ts", reason="uni2ts 2.0.0 is not installed here; golden/moirai.npz holds its results")
from uni2ts import distribution as peer_distribution
from uni2ts.loss.packed import PackedNLLLoss as PeerLoss
from uni2ts.model.moirai.module import MoiraiModule as PeerModule

BATCH = make_packed_batch(tokens=128, seed=1, patch_sizes=PATCH_SIZES)
INSIDE = inside_patches(BATCH)
SIZES = {"d_model": 384, "num_layers": 6, "patch_sizes": PATCH_SIZES, "max_seq_len": 512}
SINGLE_LAWS = ("StudentT", "Normal", "NormalFixedScale", "NegativeBinomial", "LogNormal")
SINGLE_LAWS += ("Laplace", "LaplaceFixedScale", "Pareto", "ParetoFixedAlpha")
NO_DROPOUT = {"attn_dropout_p": 0.0, "dropout_p": 0.0}


def published_output():
    return peer_distribution.MixtureOutput(
        [
            peer_distribution.StudentTOutput(),
            peer_distribution.NormalFixedScaleOutput(1e-3),
            peer_distribution.NegativeBinomialOutput(),
            peer_distribution.LogNormalOutput(),
        ]
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The peer, and ours opened from the checkpoint that the peer wrote."""
    torch.manual_seed(0)
    peer = PeerModule(published_output(), **SIZES, **NO_DROPOUT)
    folder = tmp_path_factory.mktemp("peer")
    peer.save_pretrained(folder)
    return peer, MoiraiModule.from_pretrained(folder)


@pytest.fixture(scope="module")
def laws(pair):
    peer, own = pair
    return peer(**BATCH), own(**BATCH)


def test_the_peer_opens_what_we_save(pair, tmp_path):
    peer, own = pair
    own.save_pretrained(tmp_path)
    again = PeerModule.from_pretrained(tmp_path, strict=True)
    assert all(torch.equal(value, peer.state_dict()[key]) for key, value in again.state_dict().items())
    assert [type(c).__name__ for c in again.distr_output.components] == [
        type(c).__name__ for c in peer.distr_output.components
    ]


def test_log_densities_agree(laws):
    expected, found = (law.log_prob(BATCH["target"])[INSIDE] for law in laws)
    # 1e-3 relative; a location's last bits (1e-6) become 1e-3 of the component whose scale is .001
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def test_loss_and_gradients_agree(pair, laws):
    peer, own = pair
    expected = PeerLoss()(laws[0], **{name: BATCH[name] for name in LOSS_FIELDS})
    found = PackedNLLLoss()(own.forward_predicted(**BATCH), BATCH)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    expected.backward()
    found.backward()
    norm = torch.stack([p.grad.norm() for p in peer.parameters()]).norm().item()
    theirs = dict(peer.named_parameters())
    for name, parameter in own.named_parameters():
        distance = (parameter.grad - theirs[name].grad).norm().item()
        assert distance < 1e-3 * theirs[name].grad.norm().item() + 1e-5 * norm, name


def test_samples_agree_in_law(laws):
    torch.manual_seed(0)
    positions = INSIDE.flatten().nonzero().squeeze(1)[::200]
    samples = [law.sample((1000,)).flatten(1)[:, positions].numpy() for law in laws]
    p_values = [scipy.stats.ks_2samp(a, b).pvalue for a, b in zip(*(s.T for s in samples), strict=True)]
    # under one law the smallest of n p-values is below .001/n once in a thousand
    assert min(p_values) > 1e-3 / len(p_values)
    assert np.median(p_values) > 0.2


@pytest.mark.parametrize("name", [f"{law}Output" for law in SINGLE_LAWS])
def test_every_single_law_agrees(name, tmp_path):
    torch.manual_seed(0)
    peer = PeerModule(getattr(peer_distribution, name)(), **{**SIZES, "d_model": 64, "num_layers": 1}, **NO_DROPOUT)
    peer.save_pretrained(tmp_path)
    own = MoiraiModule.from_pretrained(tmp_path)
    expected, found = peer(**BATCH).base_dist, own(**BATCH).base
    torch.testing.assert_close(found.mean[INSIDE], expected.mean[INSIDE], rtol=1e-4, atol=1e-4)
    value = 1 + found.mean.detach().abs()  # inside every support
    densities = [law.log_prob(value)[INSIDE] for law in (found, expected)]
    torch.testing.assert_close(*densities, rtol=1e-3, atol=2e-3)
