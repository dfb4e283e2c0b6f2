"""`python -m tsfm_lab.bench forecast`: series a second and memory of every forecaster, and the Monash sets end to end.

uni2ts's predictor and Chronos-Bolt are measured where they can be imported, in the same process: see
`bench.uni2ts_peer` and `bench.forecast_peers`. The Monash sets are those whose files are at hand (TSFM_DATA_MIRROR).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from tsfm_lab import paths
from tsfm_lab.bench.forecast_peers import Quantiles, has_chronos, make_chronos_bolt, make_uni2ts_predictor
from tsfm_lab.bench.tables import Rows, format_rows
from tsfm_lab.bench.timing import Timing, describe_machine, peak_memory
from tsfm_lab.bench.uni2ts_peer import has_uni2ts
from tsfm_lab.data.registry import entries
from tsfm_lab.data.transfer import DownloadError
from tsfm_lab.evaluation import Task, evaluate, monash_tasks, summarise
from tsfm_lab.forecast import Forecaster, make_forecaster
from tsfm_lab.forecast.kinds import FORECASTERS
from tsfm_lab.forecast.opening import CLASSICAL
from tsfm_lab.models import MODELS
from tsfm_lab.runs.files import read_json, write_json

CONTEXT, HORIZON, SEASON = 512, 48, 24
SIZES = {"": {"patch_size": "auto"}, ", patch 32": {"patch_size": 32}}
FROZEN = {", frozen scale": {"scale": "frozen"}}  # exact, a hundred samples read everything anew with each patch
VARIANTS = {"moirai": SIZES, "moirai_hybrid": SIZES, "moirai_moe": FROZEN, "moirai_moe_hybrid": FROZEN}
SAME_AS_UNI2TS = ("moirai", "moirai_hybrid")  # models that its predictor is compared with
BAR = 1 / 10  # of uni2ts's time for the same model


def make_histories(num_series: int) -> np.ndarray:
    """(s t) float32: hourly walks with a daily cycle."""
    rng = np.random.default_rng(0)
    walks = rng.standard_normal((num_series, CONTEXT)).cumsum(axis=1)
    cycle = 5 * np.sin(2 * np.pi * (np.arange(CONTEXT) / SEASON + rng.random((num_series, 1))))
    return (walks + cycle).astype(np.float32)


def make_calls(device: torch.device) -> dict[str, Quantiles]:
    """Every forecaster, from histories (s t) to nine quantiles (s q h); models of the small size, random weights."""
    torch.manual_seed(0)
    forecasters: dict[str, Forecaster] = {name: make(season=SEASON) for name, make in CLASSICAL.items()}
    modules = {name: MODELS[name].from_preset("small").to(device) for name in FORECASTERS}
    for name, module in modules.items():
        for suffix, options in VARIANTS.get(name, {"": {}}).items():
            forecasters[name + suffix] = make_forecaster(module, context_length=CONTEXT, **options)
    calls = {name: _as_call(forecaster) for name, forecaster in forecasters.items()}
    if has_uni2ts() and device.type == "cpu":
        calls["uni2ts"] = make_uni2ts_predictor(modules["moirai"], "auto", CONTEXT, HORIZON)
        calls["uni2ts, patch 32"] = make_uni2ts_predictor(modules["moirai"], 32, CONTEXT, HORIZON)
    if has_chronos() and device.type == "cpu":
        calls["chronos_bolt"] = make_chronos_bolt(HORIZON)
    return calls


def _as_call(forecaster: Forecaster) -> Quantiles:
    return lambda histories: forecaster.forecast(histories, HORIZON).quantiles


def time_per_series(
    calls: Mapping[str, Quantiles], histories: np.ndarray, seconds: float, rounds: int, clock: Callable[[], float]
) -> dict[str, tuple[int, Timing]]:
    """Seconds a series, in turns; each call on as many series as take about `seconds`, at least one.

    clock: as of `timing.time_in_turns`.
    """
    sizes, times = {}, {name: [] for name in calls}
    for name, call in calls.items():
        count = 1
        for limit in (1, 32):  # from what a few take, not to begin with a call of hours
            count = int(np.clip(count, 1, limit))
            start = clock()
            call(histories[:count])
            count = int(seconds * count / max(clock() - start, 1e-9))
        sizes[name] = int(np.clip(count, 1, len(histories)))
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            call(histories[: sizes[name]])
            times[name].append((clock() - start) / sizes[name])
    return {name: (sizes[name], Timing(tuple(times[name]))) for name in calls}


def run_series(options: argparse.Namespace) -> Rows:
    """Context 512, horizon 48, nine quantiles, 100 samples of a model that draws; small models, random weights."""
    device, histories = torch.device(options.device), make_histories(options.series)
    calls = make_calls(device)
    alone = device.type == "cpu" and options.threads == 1
    clock = time.process_time if alone else time.perf_counter
    timings = time_per_series(calls, histories, options.seconds, options.rounds, clock)
    rows = []
    for name, (count, timing) in timings.items():
        row = {"forecaster": name, "series": count, "a second": round(1 / timing.median, 2)}
        row["spread"] = round((max(timing.seconds) - min(timing.seconds)) / timing.median, 3)
        few = histories[:64]
        memory = None if timing.median > 0.1 else peak_memory(lambda name=name, few=few: calls[name](few), device)
        row["MiB, 64 series"] = None if memory is None else round(memory, 1)
        model, _, patch = name.partition(", ")
        peer = f"uni2ts, {patch}" if patch else "uni2ts"
        if peer in timings and model in SAME_AS_UNI2TS:
            row["time / uni2ts"] = round(timing.relative_to(timings[peer][1]), 4)
        rows.append(row | {"clock": "cpu" if alone else "wall"})
    return rows


def run_monash(options: argparse.Namespace) -> Rows:
    """Every Monash set at hand, read, forecast and scored; MASE as a share of seasonal naive's, geometric mean."""
    names = [entry.name for entry in entries().values() if entry.pool == "heldout_monash"]
    tasks = [task for task in monash_tasks(names) if is_at_hand(task)]
    if not tasks:
        raise DownloadError("no Monash set is at hand; set TSFM_DATA_MIRROR to a mirror of the real data")
    torch.manual_seed(0)
    models = {name: CLASSICAL[name]() for name in ("naive", "seasonal_naive", "drift", "ets")}
    module = MODELS["moirai"].from_preset("small").to(options.device)
    models["moirai, patch 32"] = make_forecaster(module, context_length=CONTEXT, patch_size=32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            start = time.perf_counter()
            results = evaluate({name: model}, tasks, Path(folder))
            seconds = time.perf_counter() - start
            counts = results.counts()
            own = counts[counts["model"] == name]
            rows.append(
                {
                    "forecaster": name,
                    "sets": int((own["status"] == "finished").sum()),
                    "series": int(own["windows"].sum()),
                    "replaced": int(own["replaced"].sum()),
                    "seconds": round(seconds, 2),
                    "of them forecasting": round(own["seconds"].sum(), 2),
                }
            )
        scores = summarise(results.table(), "mase")["relative mase"]
    for row in rows:  # an untrained model's accuracy says nothing
        row["relative MASE"] = None if row["forecaster"].startswith("moirai") else round(scores[row["forecaster"]], 4)
    return rows


def is_at_hand(task: Task) -> bool:
    """Whether a task's data lie here or in the mirror."""
    try:
        return len(task.open()) > 0
    except DownloadError:
        return False


ITEMS: dict[str, Callable[[argparse.Namespace], Rows]] = {"series": run_series, "monash": run_monash}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write JSON; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.bench forecast", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"what to measure: {', '.join(ITEMS)}; default all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--series", type=int, default=1000, help="series, at most")
    parser.add_argument("--seconds", type=float, default=4, help="about how long each forecaster runs in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file; default runs/results/forecast_<device>.json")
    options = parser.parse_args(arguments)
    if unknown := set(options.items) - set(ITEMS):
        parser.error(f"unknown item {', '.join(sorted(unknown))}; known: {', '.join(ITEMS)}")
    torch.set_num_threads(options.threads)
    output = options.output or paths.RUNS / "results" / f"forecast_{torch.device(options.device).type}.json"
    results, missed = read_json(output), False
    for item in options.items or ITEMS:
        rows = ITEMS[item](options)
        results[item] = {
            **describe_machine(options.device),
            "context_length": CONTEXT,
            "horizon": HORIZON,
            "rows": rows,
        }
        write_json(output, results)
        print(f"\n{item}: {ITEMS[item].__doc__}\n{format_rows(rows)}")
        for row in rows:
            if row.get("time / uni2ts") is not None:
                holds = row["time / uni2ts"] <= BAR
                print(f"  {row['forecaster']} {row['time / uni2ts']} ≤ {BAR}: {'holds' if holds else 'MISSED'}")
                missed |= not holds
    return int(missed)
