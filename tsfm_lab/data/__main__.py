"""Data sets on the command line: list, info, get, check.

python -m tsfm_lab.data list [--pool POOL]     every known set
python -m tsfm_lab.data info NAME              what is known of one
python -m tsfm_lab.data get NAME...            fetch and check
python -m tsfm_lab.data check [NAME...]        check what is in the cache, open it, compare with the registry
"""

import argparse
import sys
from dataclasses import fields

from tsfm_lab.data.catalog import load
from tsfm_lab.data.checksums import describe_checksum, find_mismatch
from tsfm_lab.data.download import cached_path, fetch
from tsfm_lab.data.hub import fetch_folder, local_folders
from tsfm_lab.data.registry import UNKNOWN, Entry, entries, find, gift_eval_configurations, overlaps, pools
from tsfm_lab.data.series import SeriesCollection


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 where all went well, 1 where something is wrong, said on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tsfm_lab.data", description="Known data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    listed = commands.add_parser("list", help="every known set")
    listed.add_argument("--pool", choices=sorted(pools()), help="only those of one pool")
    commands.add_parser("info", help="what is known of one set").add_argument("name")
    commands.add_parser("get", help="fetch and check").add_argument("names", nargs="+", metavar="NAME")
    checked = commands.add_parser("check", help="check what is in the cache")
    checked.add_argument("names", nargs="*", metavar="NAME", help="default: every set whose files are there")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "list":
            return _list(chosen.pool)
        if chosen.command == "info":
            return _info(find(chosen.name))
        if chosen.command == "get":
            return _each([find(name) for name in chosen.names], _get)
        found = [find(name) for name in chosen.names] or [entry for entry in entries().values() if _is_here(entry)]
        return _each(found, _check)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _list(pool: str | None) -> int:
    chosen = [entry for entry in entries().values() if pool in (None, entry.pool)]
    for entry in chosen:
        horizons = ",".join(map(str, entry.horizons)) or "-"
        here = "here" if _is_here(entry) else ""
        print(f"{entry.name:<48} {entry.frequency:<7} {entry.pool:<17} {horizons:<16} {here}".rstrip())
    print(f"{len(chosen)} sets; GIFT-Eval has {len(gift_eval_configurations())} configurations", file=sys.stderr)
    return 0


def _info(entry: Entry) -> int:
    shown = {
        item.name: getattr(entry, item.name) for item in fields(entry) if item.name not in ("files", "season", "mase")
    }
    shown |= {"pool": f"{entry.pool} ({pools()[entry.pool]})"}
    shown |= {"season_length": entry.season_length, "mase_season": entry.mase_season}
    for key, value in shown.items():
        if value not in (None, "", (), {}):
            print(f"{key:<14} {value}")
    for file in entry.files:
        place = cached_path(file)
        size = f"{file.bytes} bytes" if file.bytes is not None else "size unknown"
        state = "in the cache" if place.is_file() else "not fetched"
        print(f"{'file':<14} {file.path}\n{'':<14} {file.url}")
        print(f"{'':<14} {size}, {describe_checksum(file)}\n{'':<14} {state}: {place}")
    if entry.hub:
        print(f"{'place':<14} {local_folders(entry)[0]}")
    for overlap in overlaps():
        if overlap.pretraining == entry.name:
            print(f"{'overlaps':<14} {', '.join(overlap.touches)} ({overlap.how})")
    return 0


def _each(chosen: list[Entry], action) -> int:
    failed = 0
    for entry in chosen:
        try:
            print(f"{entry.name}: {action(entry)}")
        except (ValueError, OSError, ImportError) as error:
            failed += 1
            print(f"{entry.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _get(entry: Entry) -> str:
    if entry.loader == "statsmodels":
        return "built in, nothing to fetch"
    if entry.hub:
        return f"{fetch_folder(entry)} (checked by the hub; no checksum is pinned here)"
    places = [fetch(file) for file in entry.files]
    unchecked = [file.path for file in entry.files if not file.checkable]
    said = f"{len(unchecked)} unverified, no checksum is known" if unchecked else "verified"
    return f"{', '.join(map(str, places))} ({said})"


def _check(entry: Entry) -> str:
    for file in entry.files:
        problem = find_mismatch(cached_path(file), file)
        if problem:
            raise ValueError(f"{cached_path(file)} is not the published file: {problem}; delete it and get it again")
    collection = load(entry.name, progress=False)
    differs = _compare(entry, collection)
    if differs:
        raise ValueError(f"its contents differ from the registry: {'; '.join(differs)}")
    weak = [file.path for file in entry.files if file.sha256 == UNKNOWN]
    lines = [f"{len(collection)} series, {int(collection.lengths.sum())} steps, ok"]
    lines += [f"  checked by {describe_checksum(file)}" for file in entry.files if file.path in weak]
    return "\n".join([*lines, *(f"  {note}" for note in collection.notes)])


def _compare(entry: Entry, collection: SeriesCollection) -> list[str]:
    found = {
        "items": len(collection),
        "variates": int(collection.num_variates.max()),
        "steps": (int(collection.lengths.min()), int(collection.lengths.max())),
    }
    return [
        f"{key} {value}, expected {getattr(entry, key)}"
        for key, value in found.items()
        if getattr(entry, key) is not None and getattr(entry, key) != value
    ]


def _is_here(entry: Entry) -> bool:
    if entry.hub:
        return any(folder.is_dir() for folder in local_folders(entry))
    return all(cached_path(file).is_file() for file in entry.files)


if __name__ == "__main__":
    sys.exit(main())
