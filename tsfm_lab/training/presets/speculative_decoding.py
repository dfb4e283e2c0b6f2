"""Presets of notebooks/06_speculative_decoding: a target, drafts of several kinds, and the settings to sweep.

A target trains on its context (norm_prefix_len steps, whose statistics stay) and on what it will write behind it, so
seq_len is context plus horizon, less a token. full: the source's sizes (1024/8/2048, 1536 steps, ETTh1).
"""

from dataclasses import dataclass
from typing import Any

from tsfm_lab.runs.config import unhashed
from tsfm_lab.training.timer_config import SpeculativeConfig


@dataclass(frozen=True)
class SpeculativeDecodingConfig(SpeculativeConfig):
    """`SpeculativeConfig`, with the drafts to compare and the grids to sweep."""

    spec_drafts: tuple[str, ...] = ("timer_xl_draft", "early_exit:4", "early_exit:2", "feature", "linear", "stu")
    spec_batches: tuple[int, ...] = (1, 8, 64)  # rows of a batch, for speeds
    num_paths: int = 3000  # draws of the horizon in each sample of the exactness test
    null_replicates: int = 20  # pairs of the target's own samples
    sweep_k: tuple[int, ...] = (1, 2, 3, 5, 7)  # exact, tolerance and stride
    sweep_sigma: tuple[float, ...] = (0.3, 0.7)  # stride
    sweep_bias: tuple[float, ...] = (1.0, 3.0)  # stride
    sweep_tolerance: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)  # tolerance
    sweep_draft: tuple[str, ...] = ("timer_xl_draft", "linear")  # of spec_drafts
    sweep_batch: tuple[int, ...] = (1, 64)
    most_loss: float = 0.02  # of squared error against the cached roll-out, in looking for the best setting
    timing_rounds: int = unhashed(9)
    interactive: bool = unhashed(False)  # sliders (they need a live kernel)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm_prefix_len is None or not 0 < self.norm_prefix_len < self.seq_len:
            raise ValueError(
                f"norm_prefix_len is the context, in steps from 1 to below seq_len={self.seq_len}, "
                f"got {self.norm_prefix_len}"
            )
        if self.input_token_len != self.output_token_len or self.norm_prefix_len % self.input_token_len:
            raise ValueError(
                "a cache needs tokens of one length and a context of whole tokens, got input_token_len="
                f"{self.input_token_len}, output_token_len={self.output_token_len}, "
                f"norm_prefix_len={self.norm_prefix_len}"
            )
        if self.test_pred_len != (self.horizon,):
            raise ValueError(
                f"test_pred_len must be ({self.horizon},), what seq_len leaves behind norm_prefix_len, "
                f"got {self.test_pred_len}"
            )
        if self.multivariate or self.covariate:
            raise ValueError("decoding with a cache takes one variate a row: leave multivariate and covariate False")
        if self.sigma == "learned":
            raise ValueError(
                "target and draft share one law: sigma must be 'calibrated' or 'correlated', got 'learned'"
            )
        if not set(self.sweep_draft) <= set(self.spec_drafts):
            raise ValueError(f"sweep_draft must be among spec_drafts={self.spec_drafts}, got {self.sweep_draft}")

    @property
    def horizon(self) -> int:
        """Steps that are decoded: as many as the target has learned to write behind a context."""
        return self.seq_len - self.norm_prefix_len + self.output_token_len

    def cells(self) -> list[dict[str, Any]]:
        """Every setting of the sweep: each mode with the parameters that it has, None for the others."""
        none = dict.fromkeys(("k", "sigma", "bias", "tolerance"))
        modes = [
            *({"mode": "exact", "k": k} for k in self.sweep_k),
            *({"mode": "tolerance", "k": k, "tolerance": t} for k in self.sweep_k for t in self.sweep_tolerance),
            {"mode": "sweep"},
            *(
                {"mode": "stride", "k": k, "sigma": sigma, "bias": bias}
                for k in self.sweep_k
                for sigma in self.sweep_sigma
                for bias in self.sweep_bias
            ),
        ]
        return [
            {"draft": draft, "batch": batch, **none, **mode}
            for draft in self.sweep_draft
            for batch in self.sweep_batch
            for mode in modes
        ]


SPECULATIVE_DECODING = {
    "smoke": SpeculativeDecodingConfig(
        scale="smoke",
        data="co2",
        pretrain_data=("elnino",),
        seq_len=195,
        norm_prefix_len=104,
        input_token_len=13,
        output_token_len=13,
        test_pred_len=(104,),
        max_val_windows=64,
        max_test_windows=64,
        d_model=64,
        n_heads=4,
        d_ff=128,
        e_layers=4,
        draft_stochastic=False,
        draft_dropout=0.0,
        sigma="correlated",
        refine_epochs=1,
        draft_windows=512,
        train_epochs=4,
        pretrain_epochs=0,
        distill_epochs=2,
        epoch_steps=20,
        dropout=0.0,
        learning_rate=1e-3,
        draft_learning_rate=1e-2,
        valid_last=False,
        spec_drafts=("timer_xl_draft", "early_exit:2", "feature", "linear", "stu"),
        num_paths=1200,
        null_replicates=10,
        sweep_k=(1, 3),
        sweep_sigma=(0.3,),
        sweep_bias=(1.0, 3.0),
        sweep_tolerance=(0.003, 0.03),
        sweep_batch=(1,),
        timing_rounds=3,
        device="cpu",
    ),
    "lab": SpeculativeDecodingConfig(
        scale="lab",
        pretrain_data=("weather",),
        seq_len=1344,
        norm_prefix_len=672,
        test_pred_len=(768,),
        max_val_windows=1024,
        max_test_windows=1024,
        d_model=256,
        n_heads=4,
        d_ff=512,
        e_layers=8,
        draft_stochastic=False,
        draft_dropout=0.0,
        sigma="correlated",
        refine_epochs=4,
        draft_windows=6144,
        learning_rate=5e-4,
        draft_learning_rate=1e-3,
        batch_size=64,
        epoch_steps=200,
        train_epochs=10,
        pretrain_epochs=0,
        distill_epochs=8,
        valid_last=False,
    ),
    "full": SpeculativeDecodingConfig(
        scale="full",
        seq_len=2208,
        norm_prefix_len=1536,
        test_pred_len=(768,),
        e_layers=8,
        draft_stochastic=False,
        draft_dropout=0.0,
        sigma="correlated",
        refine_epochs=4,
        draft_windows=6144,
        batch_size=64,
        learning_rate=1e-4,
        draft_learning_rate=5e-5,
        pretrain_epochs=0,
        valid_last=False,
    ),
}
