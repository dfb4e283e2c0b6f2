"""What fine-tuning came to: scores before and after, how it was trained, and saving, which refuses a worse model."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from huggingface_hub.constants import CONFIG_NAME

from tsfm_lab.evaluation.evaluate import Evaluation
from tsfm_lab.forecast import Forecaster
from tsfm_lab.metrics import metrics_of
from tsfm_lab.runs import write_json
from tsfm_lab.training.finetune import Finetuning
from tsfm_lab.training.finetune_data import TimeParts

if TYPE_CHECKING:
    import pandas

METRICS = ("mase", "wql")


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning came to.

    forecaster: with the fine-tuned model. how: it was trained, with the learning rate that was chosen.
    scores: by part ("validation", "test") and metric: before, after, and change, after/before − 1.
    windows: the same by test window: item_id, window (1 is the first), and before and after of each metric.
    history: step, lr, loss, val_loss of every learning rate that was tried; val_loss at step 0 is the base model's.
    searched: validation loss by learning rate; infinite where training broke.
    skipped: how many series were left out, by reason. trained_on: name of the data.
    """

    forecaster: Forecaster
    how: Finetuning
    scores: "pandas.DataFrame"
    windows: "pandas.DataFrame" = field(repr=False)
    history: "pandas.DataFrame" = field(repr=False)
    searched: dict[float, float]
    skipped: dict[str, int]
    trained_on: str

    @property
    def lr(self) -> float:
        """The learning rate that was chosen."""
        return self.how.lr

    @property
    def improved(self) -> bool:
        """Whether the weighted quantile loss fell on the test windows and did not rise on the validation windows."""
        return not self.worse() and self.scores.loc[("test", "wql"), "change"] < 0

    def worse(self) -> list[str]:
        """The parts, "validation" or "test", on which the weighted quantile loss did not stay or fall."""
        found = {part: self.scores.loc[(part, "wql")] for part in ("validation", "test")}
        return [part for part, wql in found.items() if not wql["after"] <= wql["before"]]

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Save the model where `tsfm_lab.load` opens it; returns the folder.

        config.json there records what it was trained on, where that is known of the base model too, so that an
        evaluation on the same data says "in domain".
        force: also save a model that became worse.

        Raises
        ------
        ValueError: the model became worse, with both scores. FileExistsError: the folder has a model already.
        """
        folder = Path(folder)
        if self.worse() and not force:
            part = self.worse()[-1]
            before, after = self.scores.loc[(part, "wql"), ["before", "after"]]
            raise ValueError(
                f"fine-tuning made the model worse: weighted quantile loss on the {part} windows {before:.4g} before, "
                f"{after:.4g} after; keep the base model, try lr=None (a search), mode='head' or more data, or save it "
                "all the same with force=True"
            )
        if any((folder / name).exists() for name in (CONFIG_NAME, "model", "model.safetensors")):
            raise FileExistsError(f"{folder} has a model already, which is not overwritten; choose another folder")
        self.forecaster.module.save_pretrained(folder / "model")
        known = self.forecaster.pretraining
        scores = {f"{part} {metric}": list(row) for (part, metric), *row in self.scores.round(6).itertuples()}
        record = {"data": None if known is None else list(known), "fine_tuned_on": self.trained_on}
        write_json(folder / CONFIG_NAME, {**record, **asdict(self.how), "scores": scores})
        return folder


def table_of_scores(before: dict[str, Evaluation], after: dict[str, Evaluation]) -> "pandas.DataFrame":
    """before, after, change by part and metric."""
    import pandas as pd

    rows = {}
    for part in before:
        old, new = metrics_of(before[part].sums), metrics_of(after[part].sums)
        for metric in METRICS:
            a, b = float(old[metric]), float(new[metric])
            rows[part, metric] = {"before": a, "after": b, "change": b / a - 1 if a else math.nan}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["part", "metric"])


def table_of_windows(parts: TimeParts, before: Evaluation, after: Evaluation) -> "pandas.DataFrame":
    """A row for each test window and variate."""
    import pandas as pd

    variates = parts.whole[0].num_variates
    number = np.tile(np.repeat(np.arange(1, parts.num_test + 1), variates), len(parts.whole))
    frame = pd.DataFrame({"item_id": [parts.whole[i].item_id for i in before.item], "window": number})
    for when, found in (("before", before), ("after", after)):
        scores = metrics_of(found.sums, by_window=True)
        for metric in METRICS:
            frame[f"{metric} {when}"] = scores[metric]
    return frame
