"""`python -m tsfm_lab.bench data`: how fast training batches are made, beside uni2ts where it is importable.

Batches of 128 rows of 512 tokens with MOIRAI's transforms, by pool, in memory and from arrow, for 0 to 2 workers; how
long a training loop waits for them; and how fast synthetic series are made. uni2ts is measured in the same process: in
an environment of its own, install this package's dependencies and `pip install --no-deps uni2ts==2.0.0`, and run the
command there with PYTHONPATH at the checkout.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from tsfm_lab import paths
from tsfm_lab.bench.data_pools import KINDS, PATCH_SIZES, Pool, make_pool
from tsfm_lab.bench.tables import Row, Rows, format_rows
from tsfm_lab.bench.timing import describe_machine, time_in_turns
from tsfm_lab.bench.uni2ts_data import open_uni2ts_loader
from tsfm_lab.bench.uni2ts_peer import has_uni2ts
from tsfm_lab.data.mixture import Mixture
from tsfm_lab.data.packing import packing_waste
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.synthetic import SyntheticMix
from tsfm_lab.data.transforms import pretraining_chain
from tsfm_lab.data.workers import PackedLoader
from tsfm_lab.runs.files import read_json, write_json

Batches = Iterator[dict[str, Tensor]]
GPU_STEP_MS = 150  # of the published small model at 128 × 512 tokens
WORKERS = 8  # that a GPU's training has


def open_own(pool: Pool, storage: str, num_workers: int, num_steps: int | None = None) -> Batches:
    """Batches of this package, without end or so many."""
    mixture = Mixture([part.source(storage) for part in pool.parts])
    stream = TrainingStream(mixture, pretraining_chain(PATCH_SIZES), seed=0, segment_by="variate")
    return iter(PackedLoader(stream, num_steps=num_steps, num_workers=num_workers))


def open_peer(pool: Pool, storage: str, num_workers: int) -> Batches:
    """Endless batches of uni2ts."""
    return open_uni2ts_loader(pool.parts, storage, num_workers)


class Meter:
    """A call that takes the next batch, counts what is in it and notes the processor time of this process."""

    def __init__(self, batches: Batches):
        self.batches = batches
        self.tokens, self.samples, self.waste, self.cpu = [], [], [], []

    def __call__(self) -> None:
        start = time.process_time()
        batch = next(self.batches)
        self.cpu.append(time.process_time() - start)
        self.tokens.append(int((batch["sample_id"] > 0).sum()))
        self.samples.append(int(batch["sample_id"].amax(dim=1).sum()))
        self.waste.append(packing_waste(batch))

    def rates(self, seconds: float, batches: int) -> dict[str, float]:
        """Per second of the wall clock, over the last batches; of the waste, the mean."""
        return {
            "tokens_per_s": round(sum(self.tokens[-batches:]) / seconds),
            "samples_per_s": round(sum(self.samples[-batches:]) / seconds),
            "waste": round(fmean(self.waste), 4),
        }

    def tokens_per_cpu_s(self, batches: int) -> float:
        return round(sum(self.tokens[-batches:]) / sum(self.cpu[-batches:]))


def measure_batches(pool: Pool, storage: str, num_workers: int, rounds: int) -> Row:
    """Both loaders at one setting: turn by turn without workers; with them, one after the other.

    Without workers also by processor time, which what else runs on the machine disturbs least.
    """
    openers = {"own": open_own} | ({"uni2ts": open_peer} if has_uni2ts() else {})
    row: Row = {"pool": pool.name, "storage": storage, "workers": num_workers}
    meters = {name: Meter(opener(pool, storage, num_workers)) for name, opener in openers.items()}
    if num_workers:
        rates = {name: _flow(meter, num_workers, rounds) for name, meter in meters.items()}
        compared = "tokens_per_s"
    else:
        times = time_in_turns(meters, rounds, warmup=1)
        rates = {
            name: meter.rates(sum(times[name].seconds), rounds) | {"tokens_per_cpu_s": meter.tokens_per_cpu_s(rounds)}
            for name, meter in meters.items()
        }
        compared = "tokens_per_cpu_s"
    row |= {f"{name}_{quantity}": value for name, found in rates.items() for quantity, value in found.items()}
    if "uni2ts" in rates:
        row["own/uni2ts"] = round(rates["own"][compared] / rates["uni2ts"][compared], 2)
    return row


def _flow(meter: Meter, num_workers: int, rounds: int) -> dict[str, float]:
    """Rates once the batches that workers had made ahead are used up."""
    for _ in range(2 * num_workers + 1):
        meter()
    start = time.perf_counter()
    for _ in range(rounds):
        meter()
    return meter.rates(time.perf_counter() - start, rounds)


def measure_pool(pool: Pool, rounds: int) -> Iterator[Row]:
    """Batches of 128 × 512 tokens: own ones with their segment plans, uni2ts's without."""
    for storage in ("memory", "arrow"):
        for num_workers in (0, 1, 2):
            yield measure_batches(pool, storage, num_workers, rounds)


def measure_waiting(pool: Pool, rounds: int) -> Iterator[Row]:
    """A training loop of 150 ms steps on 8 workers, extrapolated from the processor time of one.

    The loop waits while the main process takes a batch (take_ms) and, if 8 workers cannot make one in 150 ms
    (made_every_ms), for them. Giving a batch's memory back (release_ms) is not waited for: on a GPU batches are copied
    to page-locked memory by a thread, which also releases them.
    """
    batches = 8 * rounds
    before, loader = _children_seconds(), open_own(pool, "arrow", num_workers=1, num_steps=batches)
    batch = next(loader)  # the first one starts the worker
    take, release = [], []
    for _ in range(batches - 1):
        time.sleep(GPU_STEP_MS / 1e3)
        start = time.process_time()
        upcoming = next(loader)
        taken = time.process_time()
        batch.clear()
        release.append(1e3 * (time.process_time() - taken))
        take.append(1e3 * (taken - start))
        batch = upcoming
    next(loader, None)  # past the last one, which ends the worker
    made_every_ms = 1e3 * (_children_seconds() - before) / batches / WORKERS
    wait_ms = fmean(take) + max(0, made_every_ms - GPU_STEP_MS)
    times = {"take_ms": fmean(take), "release_ms": fmean(release), "made_every_ms": made_every_ms, "wait_ms": wait_ms}
    share = round(wait_ms / GPU_STEP_MS, 4)
    yield {"pool": pool.name, **{name: round(ms, 2) for name, ms in times.items()}, "share": share}


def _children_seconds() -> float:
    """Processor time of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_generators(rounds: int) -> Iterator[Row]:
    """Making synthetic series of 1,024 steps, one core: of the whole mix and of each family."""
    families = list(SyntheticMix().families)
    alone = {name: SyntheticMix(**{other: float(other == name) for other in families}) for name in families}
    for name, mix in {"mix": SyntheticMix(), **alone}.items():
        number = 100 * rounds if name == "mix" else 10 * rounds
        start, cpu = time.perf_counter(), time.process_time()
        for i in range(number):
            mix.series(0, i)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        per_min = {"per_min": round(60 * number / wall), "per_cpu_min": round(60 * number / cpu)}
        yield {"family": name, "series": number, **per_min}


def measure(item: str, folder: Path, rounds: int) -> Iterator[Row]:
    """The rows of one item, as they come."""
    if item == "generators":
        return measure_generators(rounds)
    if item == "waiting":
        return measure_waiting(make_pool("all", folder / item), rounds)
    return measure_pool(make_pool(item, folder / item), rounds)


ITEMS = (*KINDS, "all", "waiting", "generators")


def check_bars(item: str, rows: Rows) -> list[dict[str, Any]]:
    """What was to be reached, beside its worst value."""
    if item == "generators":
        bars = [("mix per_min", rows[0]["per_min"], ">=", 2000)]
    elif item == "waiting":
        share, made_every_ms = (max(row[name] for row in rows) for name in ("share", "made_every_ms"))
        bars = [("share", share, "<=", 0.05), ("made_every_ms", made_every_ms, "<=", float(GPU_STEP_MS))]
    else:
        ratios = [row["own/uni2ts"] for row in rows if "own/uni2ts" in row]
        bars = [("own/uni2ts", min(ratios), ">=", 3.0)] if ratios else []
        bars.append(("own_waste", max(row["own_waste"] for row in rows), "<=", 0.03))
    return [
        {"of": name, "worst": worst, "bar": f"{sign} {bar}", "holds": worst >= bar if sign == ">=" else worst <= bar}
        for name, worst, sign, bar in bars
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write JSON after every row; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench data", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"what to measure: {', '.join(ITEMS)}; default each")
    parser.add_argument("--rounds", type=int, default=3, help="timed batches of each setting")
    parser.add_argument("--output", type=Path, help="JSON file; default runs/results/data_cpu.json")
    options = parser.parse_args(arguments)
    if unknown := set(options.items) - set(ITEMS):
        parser.error(f"unknown item {', '.join(sorted(unknown))}; known: {', '.join(ITEMS)}")

    torch.set_num_threads(1)
    output = options.output or paths.RUNS / "results" / "data_cpu.json"
    results, missed = read_json(output), False
    for item in options.items or ITEMS:
        rows, machine = [], describe_machine()
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(item, Path(folder), options.rounds):
                rows.append(row)
                results[item] = {**machine, "rows": rows, "bars": check_bars(item, rows)}
                write_json(output, results)
        print(f"\n{item}\n{format_rows(rows)}")
        for bar in results[item]["bars"]:
            print(f"  {bar['of']} {bar['worst']} {bar['bar']}: {'holds' if bar['holds'] else 'MISSED'}")
            missed |= not bar["holds"]
    return int(missed)
