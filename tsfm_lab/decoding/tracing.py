"""What happened in a decode: time by part, and which drafted tokens stood, by position and sample."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from tsfm_lab.runs.metrics import MetricsLog

ACCEPTANCE_COLUMNS = ("step", "batch", "sample", "position", "score", "kept")


class Trace:
    """Told by a decoder what it does.

    seconds, calls: by part ("draft", "verify", "judge", "commit"); on a GPU every part is waited for.
    judged, kept: by position in the round, drafted tokens up to the first refused one and those that stood; what lies
    past the horizon counts in neither.
    tokens: forecast in all. rounds: of all batches.

    Parameters
    ----------
    file: a CSV, begun anew, of every judged token, written round by round: step (round), batch, sample (row), position
        (in the round), score (`Verdict.score`), kept (0 or 1).
    """

    def __init__(self, file: Path | None = None):
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.judged: Counter[int] = Counter()
        self.kept: Counter[int] = Counter()
        self.tokens = self.rounds = 0
        self.batch = 0
        self._log = MetricsLog(file, ACCEPTANCE_COLUMNS) if file else None
        if self._log:
            self._log.drop_after(-1)
        self._wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done in the block under this name."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] += time.perf_counter() - start
        self.calls[name] += 1

    def record(self, rows: Tensor, remaining: Tensor, kept: Tensor, score: Tensor) -> None:
        """A round: rows (b) int, tokens left to forecast (b), drafted tokens that stood (b), their scores (b k)."""
        k = score.shape[1]
        judged = torch.minimum((kept + 1).clamp(max=k), remaining)
        self.tokens += int(torch.minimum(kept + 1, remaining).sum())
        position = torch.arange(k, device=kept.device)
        is_judged = position < judged[:, None]
        stood = is_judged & (position < kept[:, None])
        for place, (tried, held) in enumerate(zip(is_judged.sum(0).tolist(), stood.sum(0).tolist(), strict=True)):
            self.judged[place] += tried
            self.kept[place] += held
        if self._log:
            for row, place in is_judged.nonzero().tolist():
                self._log.append(
                    self.rounds,
                    batch=self.batch,
                    sample=int(rows[row]),
                    position=place,
                    score=float(score[row, place]),
                    kept=int(stood[row, place]),
                )
        self.rounds += 1

    def next_batch(self) -> None:
        """Count a batch: the rows that follow are another's."""
        self.batch += 1

    @property
    def acceptance(self) -> float:
        """Share of the judged tokens that stood; NaN where none was drafted."""
        judged = sum(self.judged.values())
        return sum(self.kept.values()) / judged if judged else float("nan")
