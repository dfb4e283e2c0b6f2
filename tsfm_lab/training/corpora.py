"""From the names of data sets to the mixture that pretraining draws from, and nothing held out in it."""

from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from tsfm_lab import paths
from tsfm_lab.data import (
    Mixture,
    SeriesCollection,
    SeriesList,
    Source,
    SyntheticCollection,
    SyntheticMix,
    entries,
    find,
    in_domain,
    load,
    load_pool,
    lotsa_weights,
    pools,
)
from tsfm_lab.data.catalog import without_shared
from tsfm_lab.data.registry import LOTSA_MIXTURES, lotsa_stacked, registered_sets

IN_MEMORY = 1000  # synthetic series up to which making them anew costs less than a cache does


def pretraining_mixture(
    names: Sequence[str], *, held_out: Sequence[str] = (), synthetic_series: int = 200, synthetic_length: int = 1024
) -> Mixture:
    """The sources of a pretraining run.

    names: each one of
        - "synthetic": `synthetic_series` series of the synthetic mix, of `synthetic_length` steps; or of one family of
          it alone, "synthetic/seasonal_trend";
        - a set of the registry (`python -m tsfm_lab.data list`), or one of its pools for pretraining, "smoke_pretrain";
        - "lotsa_v1_unweighted" or "lotsa_v1_weighted": the 170 sets of LOTSA v1, aligned ones stacked as published;
        - a folder in the LOTSA layout, or a folder of such folders;
      with "=weight" behind it where a set is to count as ceil(series · weight) series. Series of a registered set that
      share values with a held-out one are left out.
    held_out: names of the registry that the run is scored on.
    Raises ValueError for a set that is not for pretraining, or one that holds values of `held_out`.
    """
    weighted = [_split(name) for name in names]
    registered = registered_sets(names)
    for name in registered:
        _require_for_pretraining(name)
    for name in held_out:
        overlap = in_domain(name, registered)
        if overlap:
            raise ValueError(
                f"{name} is not held out: {overlap[0].pretraining} holds values of it ({overlap[0].how}); "
                "leave one of them out of HELD_OUT or DATA"
            )
    sources: list[Source] = []
    for name, weight in weighted:
        if name in LOTSA_MIXTURES:
            sources += _lotsa(name == "lotsa_v1_weighted")
        elif name.partition("/")[0] == "synthetic":
            sources.append(Source(_synthetic(name, synthetic_series, synthetic_length), weight))
        else:
            sources += [Source(collection, weight) for collection in _open(name)]
    return Mixture(sources)


def _split(name: str) -> tuple[str, float]:
    base, _, weight = name.partition("=")
    try:
        return base, float(weight or 1)
    except ValueError:
        raise ValueError(f"DATA entries are 'name' or 'name=weight', got {name!r}") from None


def _require_for_pretraining(name: str) -> None:
    entry = find(name)
    kind = pools()[entry.pool]
    if kind == "heldout":
        raise ValueError(f"{name} is held out for evaluation and must not be pretrained on; leave it out of DATA")
    if kind == "in_domain":
        raise ValueError(f"{name} shares values with held-out sets ({entry.note or 'see the registry'}); leave it out")


def _open(name: str) -> list[SeriesCollection]:
    """One collection, or those of a pool or of a folder's folders."""
    if name in pools():
        return load_pool(name)
    if name in entries():
        return [without_shared(load(name), find(name).shared)]
    folder = Path(name)
    if not folder.is_dir() or any(folder.glob("*.arrow")) or any(folder.glob("*.parquet")):
        return [load(name)]
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    if not inside:
        raise ValueError(f"{folder} holds neither arrow files nor folders of them")
    return [load(path) for path in inside]


def _lotsa(weighted: bool) -> list[Source]:
    stacked = lotsa_stacked()
    return [
        Source(load(name), weight, stack=128 if name in stacked else 1)
        for name, weight in lotsa_weights(weighted).items()
    ]


def _synthetic(name: str, size: int, length: int) -> SeriesCollection:
    family = name.partition("/")[2]
    families = list(SyntheticMix().families)
    if family and family not in families:
        raise ValueError(f"the synthetic mix has no family {family!r}; write one of synthetic/{{{','.join(families)}}}")
    weights = {other: float(other == family) for other in families} if family else {}
    collection = SyntheticCollection(size, seed=0, mix=SyntheticMix(length=length, **weights), name=name)
    if size <= IN_MEMORY:
        return SeriesList(list(collection), name=collection.name, pool=collection.pool)
    folder = paths.CACHE / name / f"{size}x{length}-seed0"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # several ranks may ask at once
        return collection.cache(folder)
