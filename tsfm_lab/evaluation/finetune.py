"""Fine-tuning as a user asks for it: trained on what came first, judged before and after on the same last windows."""

import hashlib
import math
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from copy import copy, deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from tsfm_lab.data import catalog
from tsfm_lab.data.registry import entries
from tsfm_lab.data.series import SeriesCollection
from tsfm_lab.evaluation.evaluate import Evaluation, domain_of, evaluate_task
from tsfm_lab.evaluation.fine_tuned import FineTuned, table_of_scores, table_of_windows
from tsfm_lab.evaluation.task import LastWindows, Task, seasons
from tsfm_lab.forecast import Forecaster, load, make_forecaster
from tsfm_lab.forecast.model_forecaster import ModelForecaster
from tsfm_lab.forecast.timer import TimerForecast
from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.finetune import Finetuning, fit_finetuning
from tsfm_lab.training.finetune_data import TimeParts, cut_in_time

if TYPE_CHECKING:
    import pandas

LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)  # what a search tries


def finetune(
    model: str | Path | nn.Module | Forecaster,
    data: "str | SeriesCollection | pandas.DataFrame",
    prediction_length: int | None = None,
    *,
    lr: float | Sequence[float] | None = 1e-4,
    val_windows: int = 4,
    test_windows: int = 4,
    folder: str | Path | None = None,
    progress: bool = False,
    **how: Any,
) -> FineTuned:
    """Fine-tune a model on your data, and say whether it helped.

    Every series is cut in time: its last `test_windows` windows of `prediction_length` steps are forecast before and
    after, with the same random draws; the `val_windows` before them choose the weights and the learning rate; windows
    for training come from what is left. The given model is not changed, nor its files.

    Parameters
    ----------
    model: a forecaster of `tsfm_lab.load`, whose context_length, patch_size and target_dim are the fine-tuning's too;
        what `load` opens; or a model.
    data: a DataFrame, a collection, or what `tsfm_lab.data.load` opens.
    prediction_length: h, steps; None: the forecaster's own.
    lr: the learning rate; several: each is tried, and the lowest validation loss decides; None: `LEARNING_RATES`.
    folder: of the runs, one for each learning rate, which resume there; None: a temporary one.
    progress: a bar, or a few lines where the output is stored.
    how: fields of `Finetuning`: mode ("full", "head", "low_rank"), rank, max_steps, val_every, patience, batch_size, …

    Raises
    ------
    ValueError: a forecaster without a model, data that is too short or empty, or an option out of range.
    """
    base = _forecaster(model, prediction_length)
    rates = LEARNING_RATES if lr is None else (lr,) if isinstance(lr, int | float) else tuple(lr)
    if not rates:
        raise ValueError("lr must be a rate, several of them, or None for a search, got none")
    tries = [Finetuning(**how, lr=rate) for rate in rates]
    collection = data if isinstance(data, SeriesCollection) else catalog.load(data, **_mended(data))
    mark, seen = domain_of(base, collection.name)
    if mark == "in domain":
        warnings.warn(f"the model was pretrained on {seen}: its score before is none on unseen data", stacklevel=2)
    parts = _parts(base, collection, val_windows, test_windows)
    before = _score(base, parts, tries[0].seed)
    with ExitStack() as stack:
        runs = Path(folder or stack.enter_context(tempfile.TemporaryDirectory()))
        module, chosen, losses, history = _train(base.module, parts, tries, runs, progress)
    tuned = copy(base)
    tuned.module, tuned.replaced = module.to(next(base.module.parameters()).device), Counter()
    if base.pretraining is not None:
        tuned.pretraining = (*base.pretraining, parts.whole.name) if parts.whole.name in entries() else None
    after = _score(tuned, parts, tries[0].seed)
    return FineTuned(
        forecaster=tuned,
        how=chosen,
        scores=table_of_scores(before, after),
        windows=table_of_windows(parts, before["test"], after["test"]),
        history=history,
        searched=losses,
        skipped=dict(parts.skipped),
        trained_on=parts.whole.name,
    )


def _forecaster(model: str | Path | nn.Module | Forecaster, prediction_length: int | None) -> Forecaster:
    """A forecaster around a model, with its horizon."""
    if isinstance(model, nn.Module):
        model = make_forecaster(model)
    forecaster = copy(model) if isinstance(model, Forecaster) else load(model)
    if not isinstance(forecaster, ModelForecaster | TimerForecast):
        raise ValueError(f"{type(forecaster).__name__} has no weights to train; give a trained model, or its name")
    if forecaster.feat_dynamic_real_dim:
        raise ValueError("fine-tuning reads no covariates known ahead; open the model with feat_dynamic_real_dim=0")
    if prediction_length is not None:
        forecaster.prediction_length = prediction_length
    if forecaster.prediction_length is None or forecaster.prediction_length < 1:
        raise ValueError(f"prediction_length must be at least 1 step, got {forecaster.prediction_length}")
    return forecaster


def _mended(data: Any) -> dict[str, bool]:
    """A registered set is read with its known dirt repaired."""
    return {"repair": True} if isinstance(data, str) else {}


def _parts(base: Forecaster, collection: SeriesCollection, val_windows: int, test_windows: int) -> TimeParts:
    module, horizon = base.module, base.prediction_length
    if isinstance(module, PatchForecaster):
        sizes, least = (), module.input_token_len + module.output_token_len
    else:
        size = getattr(base, "patch_size", "auto")
        sizes = module.patch_sizes if size == "auto" else (size,)
        least = min(sizes) + horizon
    return cut_in_time(
        collection,
        horizon=horizon,
        num_validation=val_windows,
        num_test=test_windows,
        context_length=base.context_length,
        least=least,
        patch_sizes=sizes,
        target_dim=base.target_dim,
        num_past=base.past_feat_dynamic_real_dim,
    )


def _train(
    base: nn.Module, parts: TimeParts, tries: Sequence[Finetuning], folder: Path, progress: bool
) -> tuple[nn.Module, Finetuning, dict[float, float], "pandas.DataFrame"]:
    """The best of several trainings of copies of a model, how it was trained, all losses and histories."""
    import pandas as pd

    inputs = {"model": _digest(base.state_dict().values()), "data": parts.whole.name, "parts": _describe(parts)}
    best, losses, histories = None, {}, []
    for how in tries:
        module = deepcopy(base).cpu()
        run = RunDirectory(folder / f"{how.mode}-lr{how.lr:g}-s{how.seed}", {**inputs, **asdict(how), "device": None})
        try:
            loss = fit_finetuning(module, parts, how, run, progress=progress, title=f"{how.mode}, lr {how.lr:g}")
        except ArithmeticError as error:
            if len(tries) == 1:
                raise
            warnings.warn(f"lr {how.lr:g} was given up: {error}", stacklevel=3)
            loss = math.inf
        losses[how.lr] = loss
        histories.append(
            pd.read_csv(run.path / "metrics.csv", float_precision="round_trip")[
                ["step", "lr", "loss", "val_loss"]
            ].assign(tried=how.lr)
        )
        if math.isfinite(loss) and (best is None or loss < losses[best[1].lr]):
            best = (module, how)
    if best is None:
        raise ValueError(f"no learning rate of {list(losses)} gives a finite validation loss; try smaller ones")
    return *best, losses, pd.concat(histories, ignore_index=True)


def _describe(parts: TimeParts) -> dict[str, Any]:
    """What tells one cut of one data set from another."""
    fields = {name: getattr(parts, name) for name in ("horizon", "num_validation", "num_test", "context_length")}
    return {**fields, "patch_sizes": parts.patch_sizes, "values": _digest(s.target for s in parts.whole)}


def _digest(arrays: Any) -> str:
    """First digits of the SHA-256 of some arrays or tensors."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array.cpu().numpy() if hasattr(array, "cpu") else array).tobytes())
    return found.hexdigest()[:16]


def _score(forecaster: Forecaster, parts: TimeParts, seed: int) -> dict[str, Evaluation]:
    """Forecasts of the validation and of the test windows, scored."""
    name, h = parts.whole.name, parts.horizon
    first = parts.whole[0]
    season, mase_season = seasons(name) if name in entries() else (first.season_length, first.mase_season)
    windows = {
        "validation": LastWindows(parts.before_test(), h, parts.num_validation),
        "test": LastWindows(parts.whole, h, parts.num_test),
    }
    return {
        part: evaluate_task(forecaster, Task("finetune", name, h, season, mase_season, lambda w=w: w), seed=seed)
        for part, w in windows.items()
    }
