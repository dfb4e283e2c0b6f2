"""Series cut in time into training, validation and test, and what each family of models reads of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch.utils.data import DataLoader

from tsfm_lab.data.mixture import Mixture
from tsfm_lab.data.packing import PackedBatch, first_fit_decreasing, pack_rows
from tsfm_lab.data.series import Series, SeriesCollection, SeriesList, variate_name
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.transforms import Sample, UnusableSeries, apply_chain, as_sample, finetuning_chain
from tsfm_lab.models.patch_forecaster import PatchForecaster
from tsfm_lab.training.timer_data import WindowData, interpolated, some_windows

MAX_VALIDATION = 256  # windows that a validation loss is taken over, evenly spaced


@dataclass(frozen=True)
class TimeParts:
    """Series cut in time: train | validation | test, the last two of whole windows.

    whole: the series that were long enough. num_validation, num_test: windows of `horizon` steps that each has.
    context_length: steps that a window reads at most. patch_sizes: what windows are cut into, for models with patches.
    skipped: how many series were left out, by reason.
    """

    whole: SeriesCollection
    horizon: int
    num_validation: int
    num_test: int
    context_length: int
    patch_sizes: tuple[int, ...] = ()
    skipped: Counter[str] = field(default_factory=Counter)

    def before_test(self) -> SeriesList:
        """Each series up to its first test step."""
        return self._up_to(self.num_test)

    def before_validation(self) -> SeriesList:
        """Each series up to its first validation step: what is trained on."""
        return self._up_to(self.num_test + self.num_validation)

    def validation_windows(self) -> list[Series]:
        """History and horizon of each validation window, at most MAX_VALIDATION of them, evenly spaced."""
        windows = []
        for series in self.before_test():
            ends = series.length - self.horizon * np.arange(self.num_validation)[::-1]
            reach = self.context_length + self.horizon
            windows += [series.window(max(int(end) - reach, 0), int(end)) for end in ends]
        chosen = np.linspace(0, len(windows) - 1, min(len(windows), MAX_VALIDATION)).astype(int)
        return [windows[i] for i in chosen]

    def _up_to(self, num_windows: int) -> SeriesList:
        steps = num_windows * self.horizon
        return SeriesList([s.window(0, s.length - steps) for s in self.whole], self.whole.name, self.whole.pool)


def cut_in_time(
    collection: SeriesCollection,
    *,
    horizon: int,
    num_validation: int,
    num_test: int,
    context_length: int,
    least: int,
    patch_sizes: Sequence[int] = (),
    target_dim: int = 1,
    num_past: int = 0,
) -> TimeParts:
    """The parts of a collection; with target_dim 1 every variate is a series of its own.

    least: steps that must remain for training. A series that is too short for that and all windows, or has a variate
    without an observed value before validation, is left out and counted. num_past: past covariates that are kept.

    Raises
    ------
    ValueError: a count below 1, a series of another number of variates, or none that can be used.
    """
    for name, value in (("prediction_length", horizon), ("val_windows", num_validation), ("test_windows", num_test)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    skipped: Counter[str] = Counter()
    kept, longest = [], 0
    held_out = horizon * (num_validation + num_test)
    for series in _rows(collection, target_dim, num_past):
        longest = max(longest, series.length)
        if series.length < held_out + least:
            skipped["too short"] += 1
        elif np.isnan(series.target[:, : series.length - held_out]).all(axis=1).any():
            skipped["nothing observed"] += 1
        else:
            kept.append(series)
    if not kept:
        raise ValueError(
            f"none of the {skipped.total()} series of {collection.name!r} can be fine-tuned on ({_counts(skipped)}): "
            f"{num_test} test and {num_validation} validation windows of {horizon} steps and {least} steps to train "
            f"on need {held_out + least}, the longest has {longest}; take fewer windows or a shorter prediction_length"
        )
    whole = SeriesList(kept, collection.name, collection.pool)
    return TimeParts(whole, horizon, num_validation, num_test, context_length, tuple(patch_sizes), skipped)


def _rows(collection: SeriesCollection, target_dim: int, num_past: int) -> Iterator[Series]:
    for series in collection:
        if target_dim not in (1, series.num_variates):
            raise ValueError(
                f"series {series.item_id!r} has {series.num_variates} variates, the forecaster was built with "
                f"target_dim={target_dim}"
            )
        past = series.past_feat_dynamic_real[:num_past] if num_past else None
        series = replace(series, past_feat_dynamic_real=past, feat_dynamic_real=None)
        if target_dim == series.num_variates:
            yield series
        else:
            for v, row in enumerate(series.target):
                yield replace(series, item_id=variate_name(series, v), target=row)


def _counts(skipped: Counter[str]) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in skipped.items())


def training_stream(parts: TimeParts, module_sizes: Sequence[int], *, batch_rows: int, seed: int) -> TrainingStream:
    """Packed batches of windows of the training part; a row holds one window of the smallest patch size, or more.

    module_sizes: all patch sizes of the model, the largest of which a token has room for.
    """
    train = parts.before_validation()
    return TrainingStream(
        Mixture([train]),
        finetuning_chain(parts.patch_sizes, parts.context_length, parts.horizon, max_patch_size=max(module_sizes)),
        seed=seed,
        batch_rows=batch_rows,
        max_seq_len=_most_tokens(parts),
    )


def packed_validation(parts: TimeParts, module_sizes: Sequence[int], *, batch_rows: int) -> list[PackedBatch]:
    """The validation windows in every patch size, packed; the same batches each time.

    Raises ValueError where none of them has an observed value in its context and in its horizon.
    """
    samples = [sample for size in parts.patch_sizes for sample in _validation_samples(parts, size)]
    if not samples:
        raise ValueError(f"no validation window of {parts.whole.name!r} has observed values before and in its horizon")
    capacity = _most_tokens(parts)
    rows = first_fit_decreasing([len(sample["target"]) for sample in samples], capacity)
    batches = [rows[i : i + batch_rows] for i in range(0, len(rows), batch_rows)]
    return [
        pack_rows([[samples[i] for i in row] for row in batch], len(batch), capacity, max(module_sizes))
        for batch in batches
    ]


def _validation_samples(parts: TimeParts, patch_size: int) -> Iterator[Sample]:
    chain = finetuning_chain((patch_size,), parts.context_length, parts.horizon, at_end=True)
    for i, window in enumerate(parts.validation_windows()):
        try:
            yield apply_chain(chain, as_sample(window), np.random.default_rng((patch_size, i)))
        except UnusableSeries:  # without observed values, or constant: nothing to score, as in training
            continue


def _most_tokens(parts: TimeParts) -> int:
    """Tokens of the longest window: all variates and past covariates, in the smallest patch size."""
    p, series = min(parts.patch_sizes), parts.whole[0]
    past = series.past_feat_dynamic_real
    variates = series.num_variates + (0 if past is None else len(past))
    return variates * (-(-parts.context_length // p) - (-parts.horizon // p))


class SeriesWindows(Sequence[tuple[np.ndarray, np.ndarray]]):
    """Windows (x, y) of several series, one after the other: x (seq_len c), y the steps after each of its tokens.

    rows: (t c) each. begins: first steps of x in each of them, of seq_len + output_token_len steps that are there.
    """

    def __init__(self, rows: Sequence[np.ndarray], begins: Sequence[np.ndarray], sizes: tuple[int, int, int]):
        self.rows, (self.seq_len, self.input_token_len, self.output_token_len) = rows, sizes
        self.places = [(i, int(begin)) for i, some in enumerate(begins) for begin in some]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        item, begin = self.places[i]
        end = begin + self.seq_len
        rows, p = self.rows[item], self.input_token_len
        following = rows[begin + p : end + self.output_token_len]
        tokens = np.lib.stride_tricks.sliding_window_view(following, self.output_token_len, axis=0)[::p]
        return rows[begin:end], np.concatenate([token.T for token in tokens])


def make_timer_data(
    module: PatchForecaster, parts: TimeParts, *, batch_size: int, seed: int
) -> tuple[WindowData, DataLoader]:
    """Training and validation windows of a model of the Timer family, standardised by each series' training part.

    Gaps are interpolated; what a short series lacks of a window before its start is its first value, as in a forecast.
    """
    p, out = module.input_token_len, module.output_token_len
    sizes = (parts.context_length // p * p, p, out)
    rows, trained, scored = [], [], []
    for series in parts.before_test():
        train = series.length - parts.num_validation * parts.horizon
        values = interpolated(series.target.T)
        scale = values[:train].std(axis=0)
        values = (values - values[:train].mean(axis=0)) / np.where(scale == 0, 1.0, scale)
        lead = max(sizes[0] + out - train, 0)
        rows.append(np.pad(values, [(lead, 0), (0, 0)], mode="edge").astype(np.float32))
        trained.append(np.arange(lead + train - sizes[0] - out + 1))
        last = len(rows[-1]) - out - sizes[0]  # the last window whose forecast lies before the test part
        first = min(lead + train - sizes[0], last)
        scored.append(np.arange(first, last + 1, min(parts.horizon, out)))
    data = WindowData(SeriesWindows(rows, trained, sizes), batch_size, seed=seed)
    return data, some_windows(SeriesWindows(rows, scored, sizes), MAX_VALIDATION, batch_size)
