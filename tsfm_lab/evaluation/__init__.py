"""Evaluation: benchmarks by their protocols, one table of results, intervals and tests; fine-tuning and its effect."""

from tsfm_lab.evaluation.aggregate import PairedTest, paired_test, relative_scores, scores_of, summarise
from tsfm_lab.evaluation.comparison import at_equal_steps, at_equal_time, read_metrics, save_table, table_of_runs
from tsfm_lab.evaluation.evaluate import Evaluation, evaluate, evaluate_task
from tsfm_lab.evaluation.fine_tuned import FineTuned
from tsfm_lab.evaluation.finetune import LEARNING_RATES, finetune
from tsfm_lab.evaluation.gift_eval import gift_eval_tasks
from tsfm_lab.evaluation.held_out import HeldOutScore, HeldOutSet, open_held_out
from tsfm_lab.evaluation.lsf import lsf_tasks
from tsfm_lab.evaluation.monash import monash_tasks
from tsfm_lab.evaluation.results import Results
from tsfm_lab.evaluation.task import Task, Window

__all__ = [
    "LEARNING_RATES",
    "Evaluation",
    "FineTuned",
    "HeldOutScore",
    "HeldOutSet",
    "PairedTest",
    "Results",
    "Task",
    "Window",
    "at_equal_steps",
    "at_equal_time",
    "evaluate",
    "evaluate_task",
    "finetune",
    "gift_eval_tasks",
    "lsf_tasks",
    "monash_tasks",
    "open_held_out",
    "paired_test",
    "read_metrics",
    "relative_scores",
    "save_table",
    "scores_of",
    "summarise",
    "table_of_runs",
]
