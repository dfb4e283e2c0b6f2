"""A training run small enough for a test: in this process, or in one of its own (`python tiny_run.py FOLDER STEPS`)."""

import sys
from pathlib import Path

import numpy as np
import torch

from tsfm_lab.data import Series, SeriesList
from tsfm_lab.data.mixture import Mixture
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.transforms import pretraining_chain
from tsfm_lab.models.moirai_hybrid import MoiraiHybridModule
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.pretrain import MoiraiHybridPretrain
from tsfm_lab.training.trainer import TrainerOptions, fit

TOKENS, ROWS, PATCH_SIZES = 24, 4, (8, 16)


def stream() -> TrainingStream:
    """Ten noisy waves of two variates, and one with gaps."""
    rng = np.random.default_rng(0)
    t = np.arange(200)
    values = [np.sin(t / rng.uniform(2, 9, (2, 1))) + rng.normal(size=(2, len(t))) for _ in range(10)]
    values[0][:, ::7] = np.nan
    series = [Series(f"wave-{i}", "2020-01-01", "D", v) for i, v in enumerate(values)]
    chain = pretraining_chain(PATCH_SIZES, TOKENS)
    return TrainingStream(Mixture([SeriesList(series)]), chain, seed=3, batch_rows=ROWS, max_seq_len=TOKENS)


def pretraining(max_steps: int, dropout_p: float = 0.0, **options) -> MoiraiHybridPretrain:
    """One STU and one attention layer, the same weights each time."""
    torch.manual_seed(0)
    sizes = {"d_model": 64, "num_layers": 2, "patch_sizes": PATCH_SIZES, "max_seq_len": TOKENS}
    module = MoiraiHybridModule.from_preset("small", dropout_p=dropout_p, **sizes)
    return MoiraiHybridPretrain(module, max_steps=max_steps, warmup_steps=2, lr=3e-4, seed=3, **options)


def train(folder: Path, max_steps: int, checkpoint_steps: int = 4, dropout_p: float = 0.1, **more) -> RunDirectory:
    """Train, or go on, in `folder`; returns the run."""
    torch.set_num_threads(1)
    run = RunDirectory(folder, {"max_steps": max_steps})
    options = TrainerOptions(max_steps=max_steps, device="cpu", checkpoint_steps=checkpoint_steps, log_lines=0)
    fit(pretraining(max_steps, dropout_p), stream(), run, options, **more)
    return run


def losses(run: RunDirectory) -> list[tuple[str, str]]:
    """(step, loss) of every row of metrics.csv, the loss as written: equal text is an equal float."""
    return [(row["step"], row["loss"]) for row in run.metrics(_columns(run)).rows()]


def _columns(run: RunDirectory) -> list[str]:
    return (run.path / "metrics.csv").read_text().partition("\n")[0].split(",")


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]), dropout_p=float(sys.argv[3]))
