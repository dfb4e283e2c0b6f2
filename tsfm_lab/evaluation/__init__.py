"""Evaluation: baselines, held-out windows, comparison of runs."""

from tsfm_lab.evaluation.comparison import at_equal_steps, at_equal_time, read_metrics, save_table, table_of_runs
from tsfm_lab.evaluation.held_out import HeldOutScore, HeldOutSet, open_held_out

__all__ = [
    "HeldOutScore",
    "HeldOutSet",
    "at_equal_steps",
    "at_equal_time",
    "open_held_out",
    "read_metrics",
    "save_table",
    "table_of_runs",
]
