"""MoiraiMoEModule against uni2ts 2.0.0 itself at the published small size, where that package is installed."""

import json
from unittest import mock

import pytest
import torch

from tsfm_lab.distributions import encode_output
from tsfm_lab.models import MoiraiMoEModule, load_model, published_mixture
from tsfm_lab.nn.moe import record_routing
from tsfm_lab.tests.models.packed_rows import make_packed_batch

peer_moe = pytest.importorskip(
    "uni2ts.model.moirai_moe", reason="uni2ts 2.0.0 is not installed here; golden/moirai_moe.npz holds its results"
)

PUBLISHED = {"d_model": 384, "d_ff": 512, "num_layers": 6, "patch_sizes": (16,), "max_seq_len": 512}
PUBLISHED |= {"attn_dropout_p": 0.0, "dropout_p": 0.0}
BATCH = make_packed_batch(tokens=128, seed=1, patch_sizes=(16,))
REAL = BATCH["sample_id"] > 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The peer with centroids as k-means leaves them, and ours opened from the checkpoint that the peer wrote."""
    torch.manual_seed(0)
    output = peer_moe.module.decode_distr_output(encode_output(published_mixture()))
    peer = peer_moe.MoiraiMoEModule(output, **PUBLISHED)
    peer.encoder.centroid.normal_()  # the package leaves them uninitialised
    folder = tmp_path_factory.mktemp("peer")
    peer.save_pretrained(folder)
    return peer.eval(), load_model(folder)


@torch.no_grad()
def test_router_choices_and_log_densities_agree(pair):
    peer, own = pair
    chosen, topk = [], torch.topk
    with mock.patch("torch.topk", lambda *args: chosen.append(topk(*args)) or chosen[-1]):
        expected = peer(**BATCH).log_prob(BATCH["target"])[REAL]
    with record_routing(own) as record:
        found = own(**BATCH).log_prob(BATCH["target"])[REAL]
    pairs = zip(record, chosen, strict=True)
    same = [(own.experts == theirs.indices)[REAL.flatten()] for own, theirs in pairs]
    assert torch.stack(same).float().mean() > 0.999  # all but near ties
    # 1e-3 relative; a location's last bits (1e-6) become 1e-3 of the component whose scale is .001
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def test_the_peer_opens_what_we_save(pair, tmp_path):
    peer, own = pair
    own.save_pretrained(tmp_path)
    again = peer_moe.MoiraiMoEModule.from_pretrained(tmp_path, strict=True)
    assert all(torch.equal(value, peer.state_dict()[key]) for key, value in again.state_dict().items())
    assert again.encoder.centroid.dtype == torch.float64
    assert isinstance(own, MoiraiMoEModule)
    written = json.loads((tmp_path / "config.json").read_text())
    assert {name: written[name] for name in PUBLISHED} == {**PUBLISHED, "patch_sizes": [16]}
