"""What the runs are doing, read from their files alone: works on a shared file system while jobs run elsewhere."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsfm_lab import paths
from tsfm_lab.runs.directory import read_manifest
from tsfm_lab.runs.files import read_json
from tsfm_lab.runs.lock import living_holder
from tsfm_lab.runs.metrics import read_rows

COLUMNS = ("run", "state", "step", "loss", "steps/s", "left", "checkpoint", "attempts")


@dataclass(frozen=True)
class Summary:
    """One run in a line.

    state: of the last attempt ("dead" when it says running but nobody works there). step: last one logged, of
    `max_steps`. checkpoint: seconds since the latest one. error: of a failed attempt.
    """

    name: str
    state: str
    step: int | None
    max_steps: int | None
    loss: float | None
    steps_per_s: float | None
    checkpoint: float | None
    attempts: int
    error: str

    @property
    def left(self) -> float | None:
        """Seconds to go at the present speed; None when not running or unknown."""
        if self.state != "running" or None in (self.step, self.max_steps) or not self.steps_per_s:
            return None
        return max(0, self.max_steps - self.step) / self.steps_per_s

    def cells(self) -> tuple[str, ...]:
        """The texts under COLUMNS; "-" where nothing is known."""
        step = "-" if self.step is None else f"{self.step}" + (f"/{self.max_steps}" if self.max_steps else "")
        loss = "-" if self.loss is None else f"{self.loss:.4f}"
        speed = "-" if self.steps_per_s is None else f"{self.steps_per_s:.2f}"
        left, age = _duration(self.left), _duration(self.checkpoint)
        return (self.name, self.state, step, loss, speed, left, age, str(self.attempts))


def find_runs(name: str = "") -> list[Path]:
    """Run directories, children included, whose name below runs/ contains `name`; in the order of their paths."""
    found = (file.parent for file in paths.RUNS.rglob("config.json") if not _is_model(file.parent))
    return sorted(run for run in found if name in run.relative_to(paths.RUNS).as_posix())


def _is_model(folder: Path) -> bool:
    """Whether a folder is a saved model, whose config.json is the model's own."""
    return (folder / "model.safetensors").exists()


def find_run(name: str) -> Path:
    """The one run whose name is, ends in or contains `name`.

    Raises ValueError when there is none or, listing them, more than one.
    """
    runs = find_runs(name)
    for fits in (str.__eq__, str.endswith):
        exact = [run for run in runs if fits(run.relative_to(paths.RUNS).as_posix(), name)]
        if len(exact) == 1:
            return exact[0]
    if len(runs) != 1:
        names = ", ".join(run.relative_to(paths.RUNS).as_posix() for run in runs) or "none"
        raise ValueError(f"{name!r} must name one run in {paths.RUNS}, it fits: {names}")
    return runs[0]


def summarise(run: Path) -> Summary:
    """Read one run's files. A child directory has the state of the run it belongs to."""
    owner = run if (run / "manifest.json").exists() else run.parent
    status, manifest, config = read_json(owner / "status.json"), read_manifest(owner), read_json(run / "config.json")
    attempts = manifest.get("attempts", [])
    state = status.get("state") or (attempts[-1]["status"] if attempts else "new")
    if state == "running" and attempts and attempts[-1]["end"] is None and living_holder(owner) is None:
        state = "dead"
    rows = read_rows(run / "metrics.csv")
    checkpoints = [file.stat().st_mtime for file in (run / "checkpoints").glob("*") if file.is_file()]
    return Summary(
        name=run.relative_to(paths.RUNS).as_posix(),
        state=state,
        step=int(rows[-1]["step"]) if rows else None,
        max_steps=config.get("max_steps"),
        loss=_last(rows, "loss"),
        steps_per_s=_last(rows, "steps_per_s"),
        checkpoint=time.time() - max(checkpoints) if checkpoints else None,
        attempts=len(attempts),
        error=status.get("error", ""),
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of texts, the first a header, as aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def list_runs(name: str = "") -> str:
    """A table of all runs whose name contains `name`, with the errors of failed ones below it."""
    summaries = [summarise(run) for run in find_runs(name)]
    if not summaries:
        return f"no runs in {paths.RUNS}" + (f" whose name contains {name!r}" if name else "")
    errors = [f"{summary.name}: {summary.error}" for summary in summaries if summary.error]
    return "\n".join([table([COLUMNS, *(summary.cells() for summary in summaries)]), *errors])


def show(run: Path, last: int = 5) -> str:
    """All that is known of one run: configuration, attempts, children, the `last` rows of its metrics, its error."""
    status, manifest = read_json(run / "status.json"), read_manifest(run)
    parts = [table([COLUMNS, *(summarise(one).cells() for one in [run, *_children(run)])])]
    parts.append("\n".join(f"  {key}: {value}" for key, value in read_json(run / "config.json").items()))
    attempts = [
        tuple(str(attempt[key] or "-") for key in ("start", "end", "status", "host", "job_id"))
        for attempt in manifest.get("attempts", [])
    ]
    if attempts:
        parts.append(table([("start", "end", "status", "host", "job"), *attempts]))
    if rows := read_rows(run / "metrics.csv")[-last:]:
        parts.append(table([tuple(rows[0]), *(tuple(value or "-" for value in row.values()) for row in rows)]))
    if status.get("traceback"):
        parts.append("\n".join(status["traceback"]))
    return "\n\n".join(parts)


def compare(runs: list[Path]) -> str:
    """Runs side by side, as `comparison_rows` has them."""
    return table([("", *(run.relative_to(paths.RUNS).as_posix() for run in runs)), *comparison_rows(runs)])


def comparison_rows(runs: list[Path]) -> list[tuple[str, ...]]:
    """A name and a text for each run: the options in which they differ, then last and best values of each metric."""
    configs = [read_json(run / "config.json") for run in runs]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]
    rows = [(key, *(str(config.get(key, "-")) for config in configs)) for key in differing]
    logs = [read_rows(run / "metrics.csv") for run in runs]
    metrics = list(dict.fromkeys(name for log in logs if log for name in log[-1]))
    for name in metrics:
        rows.append((name, *(_text(_last(log, name)) for log in logs)))
        if name == "loss" or name.startswith("val_"):
            rows.append((f"best {name}", *(_text(_best(log, name)) for log in logs)))
    return rows


def tail(run: Path, *, seconds: float = 5.0) -> None:
    """Redraw `show` every few seconds until the run has ended; Ctrl-C leaves."""
    try:
        while True:
            print("\x1b[2J\x1b[H" + show(run), flush=True)
            if summarise(run).state != "running":
                return
            time.sleep(seconds)
    except KeyboardInterrupt:
        print()


def _children(run: Path) -> list[Path]:
    return sorted(file.parent for file in run.glob("*/config.json") if not _is_model(file.parent))


def _last(rows: list[dict[str, Any]], name: str) -> float | None:
    return next((float(row[name]) for row in reversed(rows) if row.get(name)), None)


def _best(rows: list[dict[str, Any]], name: str) -> float | None:
    return min((float(row[name]) for row in rows if row.get(name)), default=None)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m{rest:02d}s"
