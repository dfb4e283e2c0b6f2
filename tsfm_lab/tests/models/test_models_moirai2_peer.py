"""Moirai2Module against uni2ts 2.0.0 itself at the published size, where that package is installed."""

import json

import pytest
import torch

from tsfm_lab.models import Moirai2Module, load_model
from tsfm_lab.tests.models.packed_rows import make_packed_batch

peer_moirai2 = pytest.importorskip(
    "uni2ts.model.moirai2", reason="uni2ts 2.0.0 is not installed here; golden/moirai2.npz holds its results"
)

PUBLISHED = {"d_model": 384, "d_ff": 1024, "num_layers": 6, "patch_size": 16, "max_seq_len": 512}
PUBLISHED |= {"attn_dropout_p": 0.0, "dropout_p": 0.0, "num_predict_token": 4}
BATCH = make_packed_batch(tokens=128, seed=1, patch_sizes=(16,))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The peer, and ours opened from the checkpoint that the peer wrote."""
    torch.manual_seed(0)
    peer = peer_moirai2.Moirai2Module(**PUBLISHED)
    folder = tmp_path_factory.mktemp("peer")
    peer.save_pretrained(folder)
    return peer.eval(), load_model(folder)


def test_quantiles_and_gradients_agree(pair):
    peer, own = pair
    real = BATCH["sample_id"] > 0
    inputs = {name: value for name, value in BATCH.items() if name != "patch_size"}
    expected, found = peer(**inputs, training_mode=False)[real], own(**BATCH).flatten(2)[real]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # six layers of float32
    expected.sum().backward()
    found.sum().backward()
    theirs = dict(peer.named_parameters())
    norm = torch.stack([p.grad.norm() for p in peer.parameters()]).norm().item()
    for name, parameter in own.named_parameters():
        distance = (parameter.grad - theirs[name].grad).norm().item()
        assert distance < 1e-3 * theirs[name].grad.norm().item() + 1e-5 * norm, name


def test_the_peer_opens_what_we_save(pair, tmp_path):
    peer, own = pair
    own.save_pretrained(tmp_path)
    again = peer_moirai2.Moirai2Module.from_pretrained(tmp_path, strict=True)
    assert all(torch.equal(value, peer.state_dict()[key]) for key, value in again.state_dict().items())
    assert isinstance(own, Moirai2Module)
    written = json.loads((tmp_path / "config.json").read_text())
    assert {name: written[name] for name in PUBLISHED} == PUBLISHED
