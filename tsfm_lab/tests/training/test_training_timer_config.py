"""The Timer experiments' configuration and stages: the source's parameters, checkpoints of one's own, bad values."""

from dataclasses import replace

import pytest
import torch

from tsfm_lab.models.timer import Timer
from tsfm_lab.models.timer_xl import TimerXL
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.models.ttm import TinyTimeMixer
from tsfm_lab.nn.noise_scale import PatchScale, StepScale
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.calibration import (
    best_shrinkage,
    calibrate_covariance,
    calibrate_sigma,
    coverage,
    log_likelihood,
    residual_correlation,
    residual_sigma,
    residuals,
)
from tsfm_lab.training.timer_config import ALWAYS_ON, SpeculativeConfig, TimerConfig, field_of
from tsfm_lab.training.timer_stages import (
    calibration_batches,
    distill_draft,
    load_checkpoint,
    make_draft,
    make_target,
    pretrain_draft,
    train_target,
    with_sigma,
)

# STRIDE's README, "Key Parameters"
SOURCE_PARAMETERS = (
    "model",
    "d_model",
    "d_ff",
    "n_heads",
    "e_layers",
    "draft_scale_d_model",
    "draft_scale_n_heads",
    "draft_scale_d_ff",
    "draft_scale_e_layers",
    "task_name",
    "is_training",
    "train_epochs",
    "batch_size",
    "learning_rate",
    "cosine",
    "root_path",
    "data_path",
    "data",
    "seq_len",
    "input_token_len",
    "output_token_len",
    "test_pred_len",
    "use_speculative",
    "spec_k",
    "spec_sigma",
    "spec_accept_bias",
    "draft_stochastic",
    "distill",
    "distill_target_model",
    "distill_target_ckpt",
    "draft_nll_var_reg",
    "draft_teacher_noise",
    "trace_inference_breakdown",
    "spec_debug_accept",
    "spec_debug_out",
    "test_dir",
    "test_file_name",
    "pretrain_model_path",
    "spec_draft_model",
    "spec_draft_ckpt",
    "spec_sigma_mode",
    "spec_accept_mse_tol",
)
SMALL = TimerConfig(
    scale="smoke",
    data="co2",
    pretrain_data=("elnino",),
    seq_len=24,
    input_token_len=8,
    output_token_len=8,
    test_pred_len=(8,),
    d_model=32,
    n_heads=2,
    d_ff=128,
    e_layers=2,
    draft_scale_d_model=0.5,
    epoch_steps=3,
    train_epochs=1,
    pretrain_epochs=1,
    distill_epochs=1,
    max_val_windows=16,
    device="cpu",
)


@pytest.mark.parametrize("name", SOURCE_PARAMETERS)
def test_every_parameter_of_the_source_has_a_field_or_is_always_on(name):
    assert name in ALWAYS_ON or hasattr(SpeculativeConfig(scale="smoke"), field_of(name))


def test_a_parameter_that_nobody_has_is_refused():
    with pytest.raises(ValueError, match="no field stands for 'spec_x'"):
        field_of("spec_x")


def test_stages_train_a_target_and_a_draft_each_in_its_directory(tmp_path):
    run = RunDirectory(tmp_path, {})
    target = train_target(SMALL, run)
    draft = pretrain_draft(SMALL, run)
    distilled = distill_draft(SMALL, run, draft, target)
    assert isinstance(distilled, TimerXLDraft)
    assert distilled.hyperparameters == {"d_model": 16, "n_heads": 1, "d_ff": 64, "e_layers": 1}
    assert {child.name for child in tmp_path.iterdir()} >= {"target", "draft-pretrained", "draft-distilled"}
    assert not torch.equal(distilled.embedding.weight, draft.embedding.weight)  # the pretrained one is left as it was


@pytest.mark.parametrize(("name", "kind"), [("timer_xl_draft", TimerXLDraft), ("timer", Timer), ("ttm", TinyTimeMixer)])
def test_each_kind_of_draft_is_trained_by_the_same_stage(name, kind, tmp_path):
    config = replace(SMALL, draft_model=name)
    run = RunDirectory(tmp_path, {})
    draft = distill_draft(config, run, make_draft(config), make_target(config))
    assert isinstance(draft, kind)
    assert draft(torch.randn(1, 24, 1)).shape[1] >= 8


def test_without_distillation_the_draft_learns_the_data(tmp_path):
    config = replace(SMALL, distill=False, draft_stochastic=False)
    draft = distill_draft(config, RunDirectory(tmp_path, {}), make_draft(config), make_target(config))
    assert isinstance(draft, TimerXLDraft)


def test_a_checkpoint_of_ones_own_is_tested_and_not_trained(tmp_path):
    target = make_target(SMALL).eval()
    torch.save(target.state_dict(), tmp_path / "mine.pth")
    config = replace(SMALL, is_training=False, test_dir=str(tmp_path), test_file_name="mine.pth")
    run = RunDirectory(tmp_path / "run", {})
    found = train_target(config, run)
    assert torch.equal(found.head.weight, target.head.weight)
    draft = make_draft(config)
    tested = distill_draft(config, run, pretrain_draft(config, run), found)
    assert torch.equal(tested.embedding.weight, draft.embedding.weight)
    assert not [path for path in run.path.iterdir() if path.is_dir()]


def test_a_saved_folder_is_loaded_as_it_was_saved(tmp_path):
    make_target(SMALL).save_pretrained(tmp_path)
    found = load_checkpoint(str(tmp_path), make_target(SMALL))
    assert isinstance(found, TimerXL)
    assert found.config["d_model"] == 32


def test_a_checkpoint_of_another_token_length_is_refused(tmp_path):
    make_target(replace(SMALL, input_token_len=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has input_token_len 4, the configuration 8"):
        load_checkpoint(str(tmp_path), make_target(SMALL))


def test_a_checkpoint_of_another_size_is_refused(tmp_path):
    torch.save(make_target(SMALL).state_dict(), tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="other shapes"):
        load_checkpoint(str(tmp_path), make_target(replace(SMALL, d_model=64)))


def test_calibrated_sigma_is_the_root_mean_square_error_in_units_of_the_window():
    model, batches = make_target(SMALL).eval(), calibration_batches(SMALL)
    sigma = residual_sigma(residuals(model, batches)).float()
    errors = []
    for x, y in batches:
        for i in range(len(x)):
            window = x[i : i + 1]
            stdev = window.std(correction=0) + 1e-7
            errors.append(((y[i, -8:] - model(window)[0, -8:]) / stdev)[:, 0].detach())
    expected = torch.stack(errors).square().mean(0).sqrt()
    torch.testing.assert_close(sigma, expected, rtol=1e-3, atol=1e-4)  # ε in the variance
    assert torch.equal(calibrate_sigma(model, batches).sigma, sigma)


def test_a_calibrated_covariance_leaves_each_steps_sigma_as_it_is():
    model, batches = make_target(SMALL).eval(), calibration_batches(SMALL)
    errors = residuals(model, batches)
    scale = calibrate_covariance(model, batches).noise_scale
    torch.testing.assert_close(scale.sigma.double(), residual_sigma(errors))
    shrinkage = best_shrinkage(errors)
    off = ~torch.eye(errors.shape[1], dtype=torch.bool)
    expected = (1 - shrinkage) * (errors.T @ errors / len(errors))[off]
    torch.testing.assert_close((scale.factor @ scale.factor.T)[off].double(), expected, rtol=1e-4, atol=1e-5)


def test_shrinkage_is_small_where_errors_go_together_and_large_where_they_are_few_and_independent():
    torch.manual_seed(0)
    e = torch.randn(400, 12, dtype=torch.float64)
    assert best_shrinkage(e + 2 * torch.randn(400, 1, dtype=torch.float64)) <= 0.1
    assert best_shrinkage(e[:40]) >= 0.3


def test_the_log_likelihood_is_that_of_torch_for_either_scale():
    torch.manual_seed(0)
    errors = torch.randn(50, 4, dtype=torch.float64)
    sigma = residual_sigma(errors)
    factor = sigma[:, None] * torch.linalg.cholesky(residual_correlation(errors, 0.1))
    together = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), scale_tril=factor)
    assert log_likelihood(PatchScale(factor), errors) == pytest.approx(together.log_prob(errors).mean().item() / 4)
    alone = torch.distributions.Normal(torch.zeros(4, dtype=torch.float64), sigma)
    assert log_likelihood(StepScale(sigma), errors) == pytest.approx(alone.log_prob(errors).mean().item())


def test_a_target_has_its_own_law_learned_or_calibrated(tmp_path):
    x = torch.randn(1, 24, 1)
    for sigma in ("learned", "calibrated", "correlated"):
        config = replace(SMALL, sigma=sigma)
        target = train_target(config, RunDirectory(tmp_path / sigma, {}))
        assert (target.law(x).logvar is not None) == (sigma == "learned")
        assert with_sigma(config, target).law(x).logvar is not None
        assert (target.noise_scale is None) == (sigma == "learned")


def test_a_calibrated_law_covers_its_levels():
    from tsfm_lab.models.patch_forecaster import TokenLaw

    torch.manual_seed(0)
    mean, stdev = torch.randn(200, 100, 1), torch.rand(200, 100, 1) + 0.5
    y = mean + stdev * torch.randn(200, 100, 1)
    # 20,000 values: standard error .35 %
    assert coverage(TokenLaw(mean, 2 * stdev.log()), y, [0.5, 0.9]) == pytest.approx([0.5, 0.9], abs=0.01)
    assert coverage(TokenLaw(mean, 2 * stdev.log() + 2), y, [0.5])[0] > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seq_len": 100}, "seq_len must be a multiple of input_token_len=96, got 100"),
        ({"seq_len": 0}, "seq_len must be at least 1"),
        ({"test_pred_len": ()}, "test_pred_len must name horizons"),
        ({"is_training": False}, "name its folder with test_dir"),
        ({"covariate": True}, "covariate=True needs multivariate=True"),
        ({"sigma": "learned", "model": "timer"}, "sigma='learned' needs model='timer_xl', got 'timer'"),
        ({"sigma": "correlated", "model": "timer"}, "sigma='correlated' needs model='timer_xl', got 'timer'"),
        ({"refine_epochs": 1}, "refine_epochs needs sigma='correlated', got 'calibrated'"),
        ({"draft_windows": 8, "draft_stochastic": False}, "draft_windows are drawn behind norm_prefix_len steps"),
        ({"spec_k": 0}, "spec_k must be at least 1 drafted token, got 0"),
        ({"spec_sigma": 0.0}, "spec_sigma must be positive, got 0.0"),
        ({"spec_accept_bias": 0.5}, "spec_accept_bias must be at least 1, got 0.5"),
    ],
)
def test_values_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SpeculativeConfig(scale="smoke", **options)
