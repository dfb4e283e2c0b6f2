"""The registry: what each data set is, where it comes from, how it is checked, and what it may be used for.

The facts stand in TOML files beside this one: registry.toml (long-horizon sets, the small real sets, built-in series),
monash.toml (the Monash archive and M4), lotsa.toml (LOTSA v1: groups, names, weights), gift_eval.toml (GIFT-Eval's
configurations) and overlaps.toml (which pretraining sets hold values of which evaluation sets).
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from tsfm_lab.data.frequency import mase_season, parse_frequency, season_length

UNKNOWN = "unknown"
LOADERS = ("table", "frame", "csv_files", "tsf", "m4", "statsmodels", "arrow")
TERMS = {"short": 1, "medium": 10, "long": 15}
LOTSA_MIXTURES = ("lotsa_v1_unweighted", "lotsa_v1_weighted")


@dataclass(frozen=True)
class File:
    """One file of an origin.

    path: its place in the cache, and under `raw/` of a mirror. sha256: of the origin's bytes, or "unknown".
    git_blob: git's own checksum (SHA-1 of "blob <size>", NUL, content), of files seen only in a repository's tree.
    mirror: another place under `raw/` of a mirror; "<archive>.zip#<member>" is a member of an archive.
    """

    path: str
    url: str
    licence: str
    sha256: str = UNKNOWN
    git_blob: str = ""
    bytes: int | None = None
    mirror: str = ""
    note: str = ""

    @property
    def checkable(self) -> bool:
        """Whether any checksum is known."""
        return self.sha256 != UNKNOWN or bool(self.git_blob)


@dataclass(frozen=True)
class Entry:
    """One data set.

    loader: how its files are read (see `catalog`). hub: "<repository>/<folder>" of a set on the Hugging Face hub.
    frequency: canonical, or "unknown" where only the rows say it. horizons: steps to forecast, () for none.
    split: "8640/2880/2880" rows or "0.7/0.1/0.2" of the rows for training, validation, test; "last": the test part is
    the last horizon of each series; "windows": GIFT-Eval's rolling windows; "none".
    pool: see `pools()`. items, variates, steps: series, variates of each, (shortest, longest); None where not recorded.
    missing: values absent in the origin. dirt: what is known to be wrong; repair: how `load(repair=True)` mends it.
    slice_of: the set of which this one is a part. shared: items, or item[variate], that share values with held-out
    sets; `load_pool` leaves them out of pretraining.
    """

    name: str
    loader: str
    pool: str
    frequency: str
    licence: str
    files: tuple[File, ...] = ()
    hub: str = ""
    horizons: tuple[int, ...] = ()
    split: str = "none"
    domain: str = ""
    season: int | None = None
    mase: int | None = None
    items: int | None = None
    variates: int | None = None
    steps: tuple[int, int] | None = None
    missing: int | None = None
    dirt: str = ""
    repair: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    slice_of: str = ""
    shared: tuple[str, ...] = ()
    note: str = ""

    @property
    def season_length(self) -> int | None:
        """Season of the seasonal-naive forecast in steps; None where the frequency is unknown."""
        return self.season or (season_length(self.frequency) if self.frequency != UNKNOWN else None)

    @property
    def mase_season(self) -> int | None:
        """Season of the MASE denominator in steps; None where the frequency is unknown."""
        return self.mase or (mase_season(self.frequency) if self.frequency != UNKNOWN else None)


@dataclass(frozen=True)
class Overlap:
    """A pretraining set that holds values of evaluation sets.

    touches: their names, with shell patterns. how: "equal", "train part", "aggregate" or "same source".
    """

    pretraining: str
    touches: tuple[str, ...]
    how: str


def find(name: str) -> Entry:
    """The entry of a data set; "gift_eval/<set>/<term>" is the configuration of one term.

    Raises: ValueError with the nearest known names.
    """
    known = entries()
    if name in known:
        return known[name]
    base, _, term = name.rpartition("/")
    if base in known and name in gift_eval_configurations():
        return replace(known[base], name=name, horizons=(known[base].horizons[0] * TERMS[term],))
    lowered = {other.lower(): other for other in known}
    near = [lowered[other] for other in get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)]
    near += [other for other in known if other.endswith(f"/{name}") and other not in near]
    hint = f"did you mean {', '.join(near)}?" if near else "see python -m tsfm_lab.data list"
    raise ValueError(f"unknown data set {name!r}; {hint}")


@cache
def entries() -> dict[str, Entry]:
    """All data sets by name."""
    found = [*_listed("registry.toml"), *_listed("monash.toml"), *_lotsa(), *_gift_eval()]
    names = [entry.name for entry in found]
    assert len(set(names)) == len(names), "a data set is registered twice"
    return {entry.name: entry for entry in found}


def pools() -> dict[str, str]:
    """What each pool is for: "pretrain", "heldout" (never pretrained on), "in_domain" (neither) or "demo"."""
    return dict(_read("registry.toml")["pools"])


def lotsa_weights(weighted: bool = True) -> dict[str, float]:
    """The mixtures of LOTSA v1 that MOIRAI was pretrained on: weight of each of the 170 sets, or 1 each.

    A set counts as ceil(series · weight) series. Woo et al. 2024, arXiv:2402.02592.
    """
    table = _read("lotsa.toml")
    weights = {}
    for group in table["groups"].values():
        for name in _group_names(group):
            weights[f"lotsa/{name}"] = float(group.get("weights", {}).get(name, group.get("weight", 1.0)))
    return weights if weighted else dict.fromkeys(weights, 1.0)


def lotsa_groups() -> dict[str, tuple[str, ...]]:
    """The sets of each group of LOTSA v1."""
    groups = _read("lotsa.toml")["groups"]
    return {key: tuple(f"lotsa/{name}" for name in _group_names(group)) for key, group in groups.items()}


def lotsa_stacked() -> tuple[str, ...]:
    """The sets of LOTSA v1 whose aligned series MOIRAI's pretraining stacks to multivariate samples."""
    return tuple(f"lotsa/{name}" for name in _read("lotsa.toml")["stacked"])


@cache
def gift_eval_configurations() -> tuple[str, ...]:
    """Names of GIFT-Eval's 97 configurations: "gift_eval/<set>[/<frequency>]/<term>"."""
    table = _read("gift_eval.toml")
    long = set(table["medium_and_long"])
    sets = [name for names in table["sets"].values() for name in names]
    return tuple(f"gift_eval/{name}/{term}" for name in sets for term in TERMS if term == "short" or name in long)


@cache
def overlaps() -> tuple[Overlap, ...]:
    """Recorded overlaps of pretraining sets with evaluation sets."""
    return tuple(
        Overlap(row["pretraining"], tuple(row["touches"]), row["how"]) for row in _read("overlaps.toml")["overlaps"]
    )


def in_domain(evaluation: str, pretraining: list[str]) -> list[Overlap]:
    """The overlaps that make an evaluation set in-domain for a model pretrained on these sets; [] = held out.

    A set pretrained on under its own name is in-domain as well.
    """
    names = {evaluation, evaluation.rpartition("/")[0]}
    same = [Overlap(name, (evaluation,), "equal") for name in pretraining if name in names]
    return same + [
        overlap
        for overlap in overlaps()
        if overlap.pretraining in pretraining and any(fnmatchcase(n, t) for n in names for t in overlap.touches)
    ]


def registered_sets(names: Sequence[str]) -> list[str]:
    """The registered sets that the names of pretraining data stand for, those of pools and of LOTSA among them.

    names: as of `training.corpora.pretraining_mixture`; "=weight" behind a name is left out.
    """
    names = [name.partition("=")[0] for name in names]
    lotsa = list(lotsa_weights()) if set(names) & set(LOTSA_MIXTURES) else []
    pooled = [entry.name for entry in entries().values() if entry.pool in names]
    return [name for name in names if name in entries()] + pooled + lotsa


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files("tsfm_lab.data").joinpath(name).read_text(encoding="utf-8"))


def _listed(name: str) -> list[Entry]:
    table = _read(name)
    published = {path: File(path, **facts) for path, facts in table.get("files", {}).items()}
    return [_entry(key, facts, published) for key, facts in table["sets"].items()]


def _entry(name: str, facts: dict[str, Any], published: dict[str, File]) -> Entry:
    facts = dict(facts)
    own = tuple(published[path] for path in facts.pop("files", ()))
    facts["licence"] = facts.get("licence") or "; ".join(dict.fromkeys(file.licence for file in own))
    facts |= {key: tuple(facts[key]) for key in ("horizons", "steps", "shared") if key in facts}
    assert facts["loader"] in LOADERS, f"{name}: unknown loader {facts['loader']}"
    assert parse_frequency(facts["frequency"]) == facts["frequency"], f"{name}: {facts['frequency']} is not canonical"
    return Entry(name, files=own, **facts)


def _group_names(group: dict[str, Any]) -> list[str]:
    if "years" in group:
        first, last, step = group["years"]
        return [f"{group['prefix']}{year}" for year in range(first, last + 1, step)]
    return list(group["frequencies"])


def _lotsa() -> list[Entry]:
    table = _read("lotsa.toml")
    found = []
    for key, group in table["groups"].items():
        for name in _group_names(group):
            frequency = parse_frequency(group.get("frequencies", {}).get(name, group.get("frequency")))
            found.append(
                Entry(
                    f"lotsa/{name}",
                    "arrow",
                    table["pool"],
                    frequency,
                    table["licence"],
                    hub=f"{table['hub']}/{name}",
                    domain=group["domain"],
                    note=f"group {key}",
                )
            )
    return found


def _gift_eval() -> list[Entry]:
    table = _read("gift_eval.toml")
    found = []
    for domain, names in table["sets"].items():
        for name in names:
            base, _, tail = name.partition("/")
            frequency = tail or table["frequencies"][name]
            horizons = table["m4_horizons"] if base.startswith("m4_") else table["horizons"]
            short = horizons[frequency.lstrip("0123456789")]
            terms = TERMS.values() if name in table["medium_and_long"] else (1,)
            found.append(
                Entry(
                    f"gift_eval/{name}",
                    "arrow",
                    table["pool"],
                    parse_frequency(frequency),
                    table["licence"],
                    hub=f"{table['hub']}/{name}",
                    horizons=tuple(short * n for n in terms),
                    split="windows",
                    domain=domain,
                    variates=table["variates"].get(base, 1),
                )
            )
    return found
