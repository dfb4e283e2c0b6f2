"""The Timer family against stored outputs of its peers, and against the peers themselves where they are named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tsfm_lab.models.checkpoint import load_strictly
from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_base import TimerBase
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer

GOLDEN = Path(__file__).parent / "golden"
PEERS = {"openltm": "TSFM_PEER_OPENLTM", "stride": "TSFM_PEER_STRIDE", "timer-base": "TSFM_PEER_TIMER_BASE"}
FILES = {"openltm": "timer_openltm.npz", "stride": "timer_stride.npz", "timer-base": "timer_base.npz"}
TOKENS = {"input_token_len": 4, "output_token_len": 4}
SIZES = {**TOKENS, "d_model": 16, "n_heads": 2, "d_ff": 24, "e_layers": 2}
TARGET = {**TOKENS, "d_model": 48, "n_heads": 4, "d_ff": 128, "e_layers": 2}
HALVES = dict.fromkeys(("draft_scale_d_model", "draft_scale_n_heads", "draft_scale_d_ff", "draft_scale_e_layers"), 0.5)


def build(case):
    """Our model of a case's name."""
    family, _, variant = case.partition("/")
    if family == "xl":
        activation, mode, norm, _ = variant.split("-")
        return TimerXL(**SIZES, activation=activation, covariate=mode == "covariate", use_norm=norm == "norm")
    if family.startswith("ttm"):
        levels = int(family.removeprefix("ttm-"))
        mixer = {"e_layers": 2, "adaptive_levels": levels, "decoder_width": 8, "decoder_layers": 2}
        return TinyTimeMixer(20, **TOKENS, d_model=16, **mixer)
    if family.startswith("draft"):
        return TimerXLDraft(**TARGET, **HALVES, draft_stochastic=family == "draft-stochastic")
    return {"timer": Timer, "timer-base": TimerBase}[family](**SIZES)


def assert_equal_to_peer(file):
    with np.load(file) as arrays:
        stored = {key: torch.from_numpy(arrays[key]).float() for key in arrays}
    for case in [key.removesuffix("/x") for key in stored if key.endswith("/x")]:
        model = build(case).eval()
        prefix = f"{case.partition('/')[0]}/weights/"
        weights = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
        if isinstance(model, Timer):  # a table computed from sizes alone
            weights["position_embedding.pe"] = model.position_embedding.pe
        load_strictly(model, weights)
        x, y = stored[f"{case}/x"], stored[f"{case}/y"]
        with torch.no_grad():
            law = model.law(x if x.ndim == 3 else x[..., None])
        mean = law.mean if x.ndim == 3 else law.mean[:, -4:, 0]
        # float32 sums in another order, on outputs of size 10
        torch.testing.assert_close(mean, y, rtol=1e-5, atol=1e-5, msg=lambda text, case=case: f"{case}: {text}")
        if f"{case}/logvar" in stored:
            torch.testing.assert_close(law.logvar, stored[f"{case}/logvar"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("peer", PEERS)
def test_models_equal_stored_outputs_of_their_peers(peer):
    assert_equal_to_peer(GOLDEN / FILES[peer])


@pytest.mark.parametrize("peer", PEERS)
def test_models_equal_their_peers_run_here(peer, tmp_path):
    checkout = os.environ.get(PEERS[peer])
    if not checkout:
        pytest.skip(f"{PEERS[peer]} names no checkout of {peer}; see golden/make_timer_golden.py")
    python = os.environ.get("TSFM_PEER_PYTHON", sys.executable)
    command = [python, GOLDEN / "make_timer_golden.py", peer, checkout, tmp_path / "golden.npz"]
    subprocess.run(command, check=True, capture_output=True)
    assert_equal_to_peer(tmp_path / "golden.npz")
