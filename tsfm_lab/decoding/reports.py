"""The source's result files in a run's directory: summary, breakdown and long-term forecast, a row a setting."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tsfm_lab.decoding.measure import Accuracy
from tsfm_lab.decoding.tracing import Trace
from tsfm_lab.runs.files import read_json, write_json
from tsfm_lab.runs.metrics import MetricsLog

PARTS = ("draft", "verify", "judge", "commit")
SUMMARY = ("step", "setting", "mode", "mse", "mae", "total_gen_time_s", "per_batch_s", "accepted", "attempted")
BREAKDOWN = ("step", "setting", *(f"{prefix}_{part}" for part in PARTS for prefix in ("t", "n")))


class ResultFiles:
    """Writes what STRIDE writes as text, as tables: each row lies in the file when `add` returns.

    result_inference_summary.csv: errors, seconds, drafted tokens kept and judged. result_inference_breakdown.csv:
    seconds and calls of each part. result_long_term_forecast.json: {setting: {mse, mae}}.

    Raises
    ------
    ValueError: when a file in the directory has other columns.
    """

    def __init__(self, directory: Path):
        self.summary = MetricsLog(directory / "result_inference_summary.csv", SUMMARY)
        self.breakdown = MetricsLog(directory / "result_inference_breakdown.csv", BREAKDOWN)
        self.forecast = directory / "result_long_term_forecast.json"
        for log in (self.summary, self.breakdown):
            log.drop_after(-1)  # an execution measures every setting anew

    def add(self, setting: str, mode: str, errors: Accuracy, trace: Trace, *, batches: int) -> None:
        """A decode of so many batches: its errors, and what its trace was told."""
        step, seconds = len(self.summary.rows()), sum(trace.seconds.values())
        self.summary.append(
            step,
            setting=setting,
            mode=mode,
            mse=errors.mse,
            mae=errors.mae,
            total_gen_time_s=seconds,
            per_batch_s=seconds / batches,
            accepted=sum(trace.kept.values()),
            attempted=sum(trace.judged.values()),
        )
        times = {f"t_{part}": trace.seconds[part] for part in PARTS}
        self.breakdown.append(step, setting=setting, **times, **{f"n_{part}": trace.calls[part] for part in PARTS})
        write_json(self.forecast, {**read_json(self.forecast), setting: asdict(errors)})
