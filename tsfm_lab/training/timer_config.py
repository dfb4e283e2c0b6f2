"""The parameters of the Timer notebooks, under the source's names: data, target, draft, training, speculation.

A name of STRIDE's command line that is another thing here, or takes another form, is in `SOURCE_NAMES`.
"""

from dataclasses import dataclass, fields
from typing import Literal

from tsfm_lab.runs.config import unhashed


@dataclass(frozen=True)
class TimerConfig:
    """One experiment: a target trained on a set, a draft pretrained elsewhere and distilled from it."""

    scale: str
    seed: int = 0  # of weights, batches and noise

    # checkpoints of one's own, tested instead of trained
    is_training: bool = True  # False: test the target in test_dir and the draft in pretrain_model_path as they are
    test_dir: str = ""  # a folder of save_pretrained, or one with an OpenLTM .pth of the sizes below
    test_file_name: str = "checkpoint.pth"  # of the .pth

    # data
    data: str = "ETTh1"  # registered name or path of a table: trained, distilled and tested on
    pretrain_data: tuple[str, ...] = ("electricity",)  # names, table files or folders of UTSD; "synthetic:<series>"
    multivariate: bool = False  # windows of all variates (MultivariateDatasetBenchmark), else of one each
    seq_len: int = 672  # steps of context
    input_token_len: int = 96  # steps
    output_token_len: int = 96  # steps
    test_pred_len: tuple[int, ...] = (96, 192, 336, 720)  # horizons, steps
    subset_rand_ratio: float = 1.0  # share of the training windows, the first ones
    max_val_windows: int | None = None  # evenly spaced; None: all
    max_test_windows: int | None = None  # evenly spaced; None: all, as published figures need

    # target
    model: Literal["timer_xl", "timer"] = "timer_xl"
    d_model: int = 1024
    n_heads: int = 8
    d_ff: int = 2048
    e_layers: int = 1
    dropout: float = 0.1
    activation: Literal["relu", "gelu"] = "relu"
    covariate: bool = False  # forecast the last variate from all others (multivariate windows)
    use_norm: bool = True
    # the target's own law, from validation errors: σ of each step, or with their correlation; or a head
    sigma: Literal["calibrated", "correlated", "learned"] = "calibrated"

    # draft
    draft_model: Literal["timer_xl_draft", "timer", "ttm"] = "timer_xl_draft"
    draft_scale_d_model: float | None = 0.25  # of the target's; None leaves it alone
    draft_scale_n_heads: float | None = 0.25
    draft_scale_d_ff: float | None = 0.25
    draft_scale_e_layers: float | None = 0.25
    draft_dropout: float | None = None  # None: the target's
    draft_stochastic: bool = True  # mean and log-variance, trained by likelihood; else a mean, by squared error
    pretrain_model_path: str = ""  # a pretrained draft (folder or .pth) to begin from; "": pretrain one

    # training
    train_epochs: int = 10  # of the target
    refine_epochs: int = 0  # of the target after that, by MSE + δ²/p under its correlated law
    pretrain_epochs: int = 15  # of the draft on pretrain_data; 0: none
    distill_epochs: int = 15  # of the draft on data
    epoch_steps: int | None = None  # optimiser steps of an epoch; None: one pass over the windows
    draft_epoch_steps: int | None = None  # of the draft's; None: epoch_steps
    batch_size: int = 32  # windows
    learning_rate: float = 1e-4
    refine_learning_rate: float = 1e-4
    draft_learning_rate: float = 1e-4
    weight_decay: float = 0.0
    cosine: bool = True  # learning rate an epoch; else ·lr_decay an epoch
    tmax: int = 10  # epochs from the highest learning rate to the lowest
    lr_decay: float = 0.1
    patience: int = 3  # epochs
    valid_last: bool = True  # validate on the forecast after the last token
    norm_prefix_len: int | None = None  # steps that the window's statistics come from in training; None: all

    # distillation
    distill: bool = True  # False: the draft is trained on the data, as the target is
    distill_target_ckpt: str = ""  # a trained target (folder or .pth); "": train one
    draft_nll_var_reg: float = 0.01
    draft_teacher_noise: float = 0.05  # standard deviation, in standardised units
    draft_windows: int = 0  # distil on so many windows that the target drew behind norm_prefix_len; 0: on the data's

    # machine: nothing here changes what is computed
    device: Literal["auto", "cpu", "gpu"] = unhashed("auto")
    num_workers: int = unhashed(0)  # processes that read windows

    def __post_init__(self) -> None:
        positive = ("seq_len", "input_token_len", "output_token_len", "batch_size", "train_epochs", "patience")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seq_len % self.input_token_len:
            raise ValueError(
                f"seq_len must be a multiple of input_token_len={self.input_token_len}, got {self.seq_len}"
            )
        if not self.test_pred_len or min(self.test_pred_len) < 1:
            raise ValueError(f"test_pred_len must name horizons of at least 1 step, got {self.test_pred_len}")
        if not self.is_training and not self.test_dir:
            raise ValueError("is_training=False tests a checkpoint: name its folder with test_dir")
        if self.sigma != "calibrated" and self.model != "timer_xl":
            raise ValueError(f"sigma={self.sigma!r} needs model='timer_xl', got {self.model!r}")
        if self.refine_epochs and self.sigma != "correlated":
            raise ValueError(f"refine_epochs needs sigma='correlated', got {self.sigma!r}")
        if self.draft_windows and (self.norm_prefix_len is None or self.draft_stochastic or self.multivariate):
            raise ValueError(
                "draft_windows are drawn behind norm_prefix_len steps of one variate, for a draft without a variance: "
                f"got norm_prefix_len={self.norm_prefix_len}, multivariate={self.multivariate}, "
                f"draft_stochastic={self.draft_stochastic}"
            )
        if self.covariate and not self.multivariate:
            raise ValueError("covariate=True needs multivariate=True: one variate has no covariates")

    @property
    def context_len(self) -> int:
        """Steps that a forecast is made from."""
        return self.seq_len

    @property
    def dropout_of_draft(self) -> float:
        """The draft's rate of dropout: its own, or the target's."""
        return self.dropout if self.draft_dropout is None else self.draft_dropout


@dataclass(frozen=True)
class SpeculativeConfig(TimerConfig):
    """`TimerConfig`, and how its draft speeds up its target."""

    spec_draft_ckpt: str = ""  # a distilled draft (folder or .pth); "": distil one
    spec_k: int = 3  # drafted tokens a round
    spec_sigma: float | None = None  # of the target, in units of the window's; None: calibrated on validation
    spec_sigma_mode: Literal["fixed", "adaptive"] = "fixed"  # adaptive (stride mode): σ² = spec_sigma_adapt_c·MSE
    spec_sigma_adapt_c: float = 1.5
    spec_accept_bias: float = 1.0  # ≥ 1; above 1 the law is not the target's
    spec_accept_mse_tol: float | None = None  # accept a token within this mean squared deviation; None: by likelihood
    spec_debug_accept: bool = False  # acceptance by position and sample
    spec_debug_out: str = "acceptance.csv"  # where, in the run directory

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spec_k < 1:
            raise ValueError(f"spec_k must be at least 1 drafted token, got {self.spec_k}")
        if self.spec_sigma is not None and self.spec_sigma <= 0:
            raise ValueError(f"spec_sigma must be positive, got {self.spec_sigma}; None takes the target's own")
        if self.spec_accept_bias < 1:
            raise ValueError(f"spec_accept_bias must be at least 1, got {self.spec_accept_bias}")

    @property
    def context_len(self) -> int:
        """Steps that are read before the first is decoded: what training normalises by, where it does."""
        return self.norm_prefix_len or self.seq_len


# the source's name → the field that has its effect
SOURCE_NAMES = {
    "task_name": "pretrain_epochs",  # pretraining and forecasting are stages of one run
    "root_path": "data",  # the registry knows the files; TSFM_DATA_MIRROR stands in for their origins
    "data_path": "data",
    "distill_target_model": "model",
    "spec_draft_model": "draft_model",
}
# what the source switches on and every run here does: decode with and without a draft, and time the parts
ALWAYS_ON = ("use_speculative", "trace_inference_breakdown")


def field_of(source_name: str) -> str:
    """The field of `SpeculativeConfig` that stands for a parameter of the source. Raises ValueError where none does."""
    name = SOURCE_NAMES.get(source_name, source_name)
    if name not in {field.name for field in fields(SpeculativeConfig)}:
        raise ValueError(f"no field stands for {source_name!r}")
    return name
