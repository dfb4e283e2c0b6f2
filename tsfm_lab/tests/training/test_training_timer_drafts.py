"""Drafts of every kind are made and distilled by name."""

import pytest
import torch

from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.timer_config import TimerConfig
from tsfm_lab.training.timer_drafts import distill_draft_of_kind, make_draft_of_kind
from tsfm_lab.training.timer_stages import make_target

SMALL = TimerConfig(
    scale="smoke",
    data="co2",
    pretrain_data=("elnino",),
    seq_len=32,
    norm_prefix_len=16,
    input_token_len=8,
    output_token_len=8,
    test_pred_len=(8,),
    d_model=32,
    n_heads=2,
    d_ff=128,
    e_layers=2,
    draft_scale_d_model=0.5,
    draft_input_noise=0.5,
    epoch_steps=3,
    distill_epochs=1,
    max_val_windows=16,
    device="cpu",
)


@pytest.mark.parametrize("kind", ["timer_xl_draft", "timer", "ttm", "early_exit:1", "feature", "linear", "stu"])
def test_each_kind_learns_from_the_target_in_its_own_directory(kind, tmp_path):
    target = make_target(SMALL).eval()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    untrained = make_draft_of_kind(kind, SMALL, target).state_dict()
    draft = distill_draft_of_kind(kind, SMALL, RunDirectory(tmp_path, {}), target)
    assert any(not torch.equal(value, untrained[name]) for name, value in draft.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
    assert (tmp_path / f"draft-{kind.replace(':', '-')}" / "model").is_dir()
    assert not draft.training


def test_windowed_drafts_read_the_context_and_not_what_training_adds_behind_it():
    target = make_target(SMALL)
    assert {make_draft_of_kind(kind, SMALL, target).context_length for kind in ("ttm", "linear")} == {16}


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"draft must be one of timer_xl_draft, .*, got 'oracle'"):
        make_draft_of_kind("oracle", SMALL, make_target(SMALL))
