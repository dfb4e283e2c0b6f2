"""`python -m tsfm_lab.bench expert_claims`: what source 001 says of MOIRAI-MoE, put to the test on small models.

Trains MOIRAI and MOIRAI-MoE on the same batches under several seeds and scores held-out real series: does feeding
predictions back reduce the error, against MOIRAI's one shot and against the same decoder that reads the context's mean
in place of its predictions; does a forecast hold beyond the tokens that a row of training has; and what does a frozen
scale cost. Counts what the published sizes hold and compute. The sets need TSFM_DATA_MIRROR.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tsfm_lab import paths
from tsfm_lab.bench.frozen_scale import compare_scales
from tsfm_lab.bench.packed_rows import make_packed_batch
from tsfm_lab.bench.tables import Rows, format_rows
from tsfm_lab.bench.timing import describe_machine
from tsfm_lab.evaluation import HeldOutSet, open_held_out
from tsfm_lab.forecast import Forecaster, MoiraiForecast, MoiraiMoEForecast
from tsfm_lab.forecast.moirai_moe_passes import FrozenPasses
from tsfm_lab.forecast.windows import Windows
from tsfm_lab.models import MoiraiModule, MoiraiMoEModule
from tsfm_lab.models.moirai_hybrid import count_parameters
from tsfm_lab.runs import open_run
from tsfm_lab.runs.files import read_json, write_json
from tsfm_lab.training import make_mixture, train
from tsfm_lab.training.presets.pretrain_stu import PRETRAIN_STU

SETS, HORIZONS, PATCH_SIZE = ("ETTh1", "weather"), (96, 336, 1536), 16  # 1536 steps: 96 tokens, in rows of 64
CONFIG = replace(
    PRETRAIN_STU["smoke"],
    data=("synthetic", "smoke_pretrain"),
    synthetic_series=400,
    synthetic_length=1024,
    held_out=SETS,
    patch_sizes=(PATCH_SIZE,),
    max_steps=400,
    device="cpu",
)
CONTEXT, NUM_SAMPLES = 512, 100


class BlindPasses(FrozenPasses):
    """Decoding that reads the context's mean, zero once standardised, in place of the patches it has drawn."""

    def extend(self, patches: Tensor) -> Tensor:
        mean = self.fields["loc"].gather(1, self.place[..., :1])  # (b c 1)
        return super().extend(mean[:, None].expand_as(patches))


class BlindForecast(MoiraiMoEForecast):
    """`MoiraiMoEForecast` by `BlindPasses`."""

    def make_passes(self, windows: Windows, horizon: int) -> BlindPasses:
        return BlindPasses(self.module, windows, horizon, self.patch_size)


def forecasters(moirai: nn.Module, moe: nn.Module) -> dict[str, Forecaster]:
    """The ways to forecast that are compared."""
    options = {"context_length": CONTEXT, "patch_size": PATCH_SIZE, "num_samples": NUM_SAMPLES}
    return {
        "moirai, one shot": MoiraiForecast(moirai, **options),
        "moe, fed back": MoiraiMoEForecast(moe, scale="frozen", **options),
        "moe, blind": BlindForecast(moe, **options),
    }


def score(forecaster: Forecaster, held_out: HeldOutSet) -> dict[str, float]:
    """WQL and MASE of one way, as shares of the seasonal naive forecast's."""
    found = held_out.score(lambda histories, horizon: forecaster.forecast(histories, horizon, batch_size=4))
    naive = held_out.naive_score()
    return {name: found[name] / naive[name] for name in found}


def train_pairs(options: argparse.Namespace) -> Iterator[tuple[nn.Module, nn.Module]]:
    """MOIRAI and MOIRAI-MoE of each seed, trained on the same batches; those trained before are opened."""
    config = replace(CONFIG, max_steps=options.steps, seeds=tuple(options.seeds), models=("moirai", "moe"))
    run, mixture = open_run("expert_claims", config), make_mixture(config)
    for seed in options.seeds:
        moirai, moe = (train(spec, config, run, mixture, seed=seed).module.eval() for spec in config.models)
        yield moirai, moe


def open_sets(options: argparse.Namespace, horizons: Sequence[int]) -> list[HeldOutSet]:
    """Every held-out set with every horizon."""
    size = {"num_series": options.series, "num_windows": options.windows}
    return [open_held_out(name, **size, horizon=horizon) for name in SETS for horizon in horizons]


def compare_feedback(options: argparse.Namespace) -> Rows:
    """Feeding back against one shot and against reading the mean: WQL and MASE as shares of seasonal naive's."""
    found: dict[tuple[str, int, str], list[dict[str, float]]] = {}
    for moirai, moe in train_pairs(options):
        for held_out in open_sets(options, HORIZONS):
            for way, forecaster in forecasters(moirai, moe).items():
                found.setdefault((held_out.name, held_out.horizon, way), []).append(score(forecaster, held_out))
    return [{"set": s, "horizon": h, "way": way, **_mean_and_spread(scores)} for (s, h, way), scores in found.items()]


def compare_scale(options: argparse.Namespace) -> Rows:
    """What a frozen scale costs MOIRAI-MoE: WQL and MASE frozen / exact, and how far the quantiles move."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    names = ("wql frozen/exact", "mase frozen/exact", "distance/interval")
    for _, moe in train_pairs(options):
        for held_out in open_sets(options, (96, 336, 720)):
            row = compare_scales(moe, held_out)
            found.setdefault((held_out.name, held_out.horizon), []).append({name: row[name] for name in names})
    return [{"set": s, "horizon": h, **_mean_and_spread(rows)} for (s, h), rows in found.items()]


def _mean_and_spread(scores: list[dict[str, float]]) -> dict[str, float]:
    """Mean over the seeds, and standard deviation, of each score."""
    means = {name: round(float(np.mean([score[name] for score in scores])), 3) for name in scores[0]}
    return means | {f"{name} sd": round(float(np.std([score[name] for score in scores])), 3) for name in scores[0]}


def count_compute() -> dict[str, Any]:
    """Parameters of the small models, and operations of the matrix products of a pass over the same tokens."""
    batch = make_packed_batch(2, rows=1)
    batch["patch_size"] = torch.full_like(batch["patch_size"], PATCH_SIZE)
    batch["target"], batch["observed_mask"] = (batch[name][..., :PATCH_SIZE] for name in ("target", "observed_mask"))
    row: dict[str, Any] = {}
    for name, model in (("moirai", MoiraiModule), ("moe", MoiraiMoEModule)):
        module = model.from_preset("small", patch_sizes=(PATCH_SIZE,)).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.forward_predicted(**batch)
        row |= {f"{name} parameters": count_parameters(module), f"{name} flops": counter.get_total_flops()}
    return row | {f"moe/moirai {x}": round(row[f"moe {x}"] / row[f"moirai {x}"], 3) for x in ("parameters", "flops")}


ITEMS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "compute": lambda options: [count_compute()],
    "feedback": compare_feedback,
    "scale": compare_scale,
}


def main(arguments: list[str] | None = None) -> int:
    """Count, train, score, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench expert_claims", description=__doc__)
    parser.add_argument("items", nargs="*", default=list(ITEMS), help=f"of {', '.join(ITEMS)}; default all")
    parser.add_argument("--steps", type=int, default=CONFIG.max_steps, help="of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--series", type=int, default=7, help="of each set")
    parser.add_argument("--windows", type=int, default=1, help="last windows of each series")
    parser.add_argument("--output", type=Path, default=paths.RUNS / "results" / "expert_claims_cpu.json")
    options = parser.parse_args(arguments)
    if unknown := set(options.items) - set(ITEMS):
        parser.error(f"unknown item {', '.join(sorted(unknown))}; known: {', '.join(ITEMS)}")
    torch.set_num_threads(1)
    results = read_json(options.output)
    how = {name: getattr(options, name) for name in ("steps", "seeds", "series", "windows")}
    for item in options.items:
        rows = ITEMS[item](options)
        results[item] = {**describe_machine(), **how, "rows": rows}
        write_json(options.output, results)
        print(f"\n{item}\n{format_rows(rows)}")
    return 0
