"""From fields with a variate axis to one sequence of tokens, variate by variate."""

from dataclasses import dataclass

import numpy as np

from tsfm_lab.data.transforms.sample import SERIES_FIELDS, Sample, present


def _flatten(arrays: list[np.ndarray]) -> np.ndarray:
    """[(c_i n_i *rest)] -> (t *rest) with t = Σ c_i·n_i; a single array is not copied."""
    rows = [array.reshape(-1, *array.shape[2:]) for array in arrays]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


@dataclass(frozen=True)
class FlatPackCollection:
    """Join the arrays of one collection: {field: (c n *rest)} -> (t *rest), t = Σ c·n tokens."""

    field: str

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        collection = sample[self.field]
        return {**sample, self.field: _flatten([collection[name] for name in SERIES_FIELDS if name in collection])}


@dataclass(frozen=True)
class FlatPackFields:
    """Join the values: target (c n patch) and past_feat_dynamic_real (p m patch) -> target (t patch), t = c·n + p·m."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        kept = {name: value for name, value in sample.items() if name not in SERIES_FIELDS}
        return {**kept, "target": _flatten([sample[name] for name in present(sample)])}


@dataclass(frozen=True)
class SequencifyField:
    """Repeat a number once per token: scalar -> (t) int64."""

    field: str

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return {**sample, self.field: np.full(len(sample["target"]), sample[self.field], dtype=np.int64)}


@dataclass(frozen=True)
class SelectFields:
    """Keep the named fields only, in their order. Raises: ValueError naming a field that is not there."""

    fields: tuple[str, ...]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        missing = [name for name in self.fields if name not in sample]
        if missing:
            raise ValueError(f"the sample must have the fields {list(self.fields)}, but has no {missing}")
        return {name: sample[name] for name in self.fields}
