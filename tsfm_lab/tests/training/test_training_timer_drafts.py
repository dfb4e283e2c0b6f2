"""Drafts of every kind are made and distilled by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.timer_config import TimerConfig
from tsfm_lab.training.timer_data import make_windows
from tsfm_lab.training.timer_drafts import distill_draft_of_kind, make_draft_of_kind
from tsfm_lab.training.timer_draws import draw_windows
from tsfm_lab.training.timer_stages import make_target, refine_target, with_sigma

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
    draft_stochastic=False,
    sigma="correlated",
    draft_windows=24,
    epoch_steps=3,
    distill_epochs=1,
    max_val_windows=16,
    device="cpu",
)


@pytest.mark.parametrize("kind", ["timer_xl_draft", "timer", "ttm", "early_exit:1", "feature", "linear", "stu"])
def test_each_kind_learns_from_the_target_in_its_own_directory(kind, tmp_path):
    target = with_sigma(SMALL, make_target(SMALL).eval())
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


WINDOWS = {"seq_len": 32, "input_token_len": 8, "output_token_len": 8}


def test_drawn_windows_are_the_data_and_then_the_targets_law_with_its_means():
    target = with_sigma(SMALL, make_target(SMALL).eval())
    windows = make_windows("co2", "train", multivariate=False, **WINDOWS)
    drawn = draw_windows(target, windows, 1500, context=16, seed=0)
    errors = []
    for i in (0, 700, 1499):
        x, y = drawn[i]
        data = torch.from_numpy(windows[np.linspace(0, len(windows) - 1, 1500).astype(int)[i]][0])
        torch.testing.assert_close(x[:16], data[:16], rtol=1e-5, atol=1e-5)
        statistics = target.statistics(x[None, :16])
        torch.testing.assert_close(y, target(x[None], statistics)[0, -24:], rtol=1e-4, atol=1e-4)  # float32, a cache
    for x, y in drawn:
        stdev = target.statistics(x[None, :16]).stdev[0]
        errors.append(((x[16:] - y[:16]) / stdev).view(2, 8))
    white = target.noise_scale.whiten(torch.cat(errors)).double()
    moments = white.T @ white / len(white) - torch.eye(8)
    assert (moments * (len(white) / 2) ** 0.5).abs().max() < 4.5  # standard errors


def test_drawing_without_a_law_is_refused():
    windows = make_windows("co2", "train", multivariate=False, **WINDOWS)
    with pytest.raises(ValueError, match="drawing needs a target with a law"):
        draw_windows(make_target(SMALL), windows, 4, context=16, seed=0)


def test_a_refined_target_is_calibrated_anew_and_the_first_stays_as_it_is(tmp_path):
    config = replace(SMALL, refine_epochs=1)
    target = with_sigma(config, make_target(config).eval())
    before = {name: value.clone() for name, value in target.state_dict().items()}
    refined = refine_target(config, RunDirectory(tmp_path, {}), target)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
    assert not torch.equal(refined.head.weight, target.head.weight)
    assert not torch.equal(refined.sigma, target.sigma)
    assert refine_target(SMALL, RunDirectory(tmp_path, {}), target) is target
