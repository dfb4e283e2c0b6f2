"""Data sets of the Hugging Face hub (LOTSA v1, GIFT-Eval): a local copy where there is one, else through the hub.

A set is looked for under the folder that LOTSA_V1_PATH or GIFT_EVAL names (the field's own variables), in the cache,
and in the folder that TSFM_DATA_MIRROR names, as lotsa/<name> or gift_eval/<name>.
"""

import os
from pathlib import Path

from tsfm_lab import paths
from tsfm_lab.data.download import mirror
from tsfm_lab.data.registry import Entry
from tsfm_lab.data.transfer import DownloadError

VARIABLES = {"lotsa": "LOTSA_V1_PATH", "gift_eval": "GIFT_EVAL"}


def local_folders(entry: Entry) -> list[Path]:
    """Where the folder of a hub set may lie, in the order in which they are tried."""
    family, _, _ = entry.name.partition("/")
    inside = entry.hub.split("/", 2)[2]
    places = [paths.CACHE / family / inside]
    if os.environ.get(VARIABLES[family]):
        places.insert(0, Path(os.environ[VARIABLES[family]]).expanduser() / inside)
    if mirror() and "://" not in mirror():
        places.append(Path(mirror()).expanduser() / family / inside)
    return places


def fetch_folder(entry: Entry, download: bool = True) -> Path:
    """The folder of a hub set.

    download: get it from the hub where no local copy is (the hub's own checksums apply; none is pinned here).
    Raises: DownloadError, naming what to put where.
    """
    for folder in local_folders(entry):
        if folder.is_dir() and any(folder.glob("*.arrow")):
            return folder
    family, _, _ = entry.name.partition("/")
    user, repository, inside = entry.hub.split("/", 2)
    target = paths.CACHE / family / inside
    by_hand = (
        f"put the folder {inside} of the hub data set {user}/{repository} at {target}, "
        f"or set {VARIABLES[family]} to the folder that holds {inside}"
    )
    if not download:
        command = f"python -m tsfm_lab.data get {entry.name}"
        raise DownloadError(f"{entry.name} is not on this machine; run {command}, or {by_hand}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(
            f"{user}/{repository}", repo_type="dataset", allow_patterns=f"{inside}/*", local_dir=paths.CACHE / family
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise DownloadError(
            f"cannot get {entry.name} from the hub ({str(error).splitlines()[0]}); {by_hand}"
        ) from error
    if not any(target.glob("*.arrow")):
        raise DownloadError(f"the hub's {user}/{repository} holds no arrow file under {inside}; {by_hand}")
    return target
