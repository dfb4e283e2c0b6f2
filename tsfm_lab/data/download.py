"""Files of the registry, fetched once: resumed, checked before use, moved into place whole, under a lock.

TSFM_DATA_MIRROR, a folder or a URL with the files under `raw/` (as they are, gzipped, or inside an archive), stands in
for the origins. What is in the cache is used without a network.
"""

import errno
import os
import shutil
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from tsfm_lab import paths
from tsfm_lab.data.archives import CorruptFileError, open_data
from tsfm_lab.data.checksums import describe_checksum, find_mismatch
from tsfm_lab.data.registry import File
from tsfm_lab.data.transfer import DownloadError, NotThereError, UnreachableError, download, etag_of

LOCK_TIMEOUT_S = 3600.0  # another process may be fetching a large file


def mirror() -> str:
    """TSFM_DATA_MIRROR: a folder or URL in place of the origins, "" for none."""
    return os.environ.get("TSFM_DATA_MIRROR", "")


def cached_path(file: File) -> Path:
    """Where a file lies, or would lie, in the cache."""
    return paths.CACHE / file.path


def fetch(file: File, progress: bool = True) -> Path:
    """The path of a file, checked: from the cache, else from the mirror, else from its origin.

    Raises: CorruptFileError where a checksum is wrong (a file in the cache stays as it is); DownloadError without a
    network, without space, or where the transfer breaks (the part stays, and the next call resumes it).
    """
    target = cached_path(file)
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_name(f".{target.name}.lock"), timeout=LOCK_TIMEOUT_S) as lock:
                if not target.is_file():  # another process may have fetched it meanwhile
                    _fetch_into(target, file, file.path if progress else "")
        except Timeout:
            raise DownloadError(f"another process has held {lock.lock_file} for an hour; end it") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DownloadError(_no_space(target, file)) from error
            raise
    _require_checksum(target, file, "delete it and get it again")
    return target


def _fetch_into(target: Path, file: File, label: str) -> None:
    if file.bytes is not None and shutil.disk_usage(target.parent).free < file.bytes:
        raise DownloadError(_no_space(target, file))
    part = target.with_name(f"{target.name}.part")
    if not _copy_from_mirror(file, part, label):
        try:
            download(file.url, part, label=label, checkable=file.checkable)
        except (NotThereError, UnreachableError) as error:
            raise type(error)(f"{error}. {_by_hand(file)}") from error
    try:
        _require_checksum(part, file, "get it again, or get it from elsewhere")
    except CorruptFileError:
        part.unlink()
        raise
    finally:
        etag_of(part).unlink(missing_ok=True)
    part.replace(target)


def is_at_hand(file: File) -> bool:
    """Whether a file can be had without a network: in the cache, or in a folder that is the mirror.

    Of a mirror behind a URL it is taken on trust.
    """
    if cached_path(file).exists() or "://" in mirror():
        return True
    base = Path(mirror()).expanduser()
    return bool(mirror()) and any((base / "raw" / place).is_file() for place, _ in _mirror_places(file))


def _mirror_places(file: File) -> list[tuple[str, str]]:
    """Where a mirror may keep a file below raw/, and as which member of an archive, "" for none."""
    archive, _, member = file.mirror.partition("#")
    return [(file.path, ""), (f"{file.path}.gz", ""), *([(archive, member)] if archive else [])]


def _copy_from_mirror(file: File, part: Path, label: str) -> bool:
    """Put the origin's bytes of a file into `part`, however the mirror keeps them; False where it does not."""
    base = mirror().rstrip("/")
    if not base:
        return False
    remote = "://" in base
    if not remote and not Path(base).expanduser().is_dir():
        raise DownloadError(f"TSFM_DATA_MIRROR={base} is no folder; set it to one that holds raw/, or to a URL")
    for place, inside in _mirror_places(file):
        if remote:
            source = part if place == file.path else part.with_name(f"{part.name}-{Path(place).name}")
            try:
                download(f"{base}/raw/{quote(place)}", source, label=label, checkable=file.checkable)
            except NotThereError:
                continue
        else:
            source = Path(base).expanduser() / "raw" / place
            if not source.is_file():
                continue
        _unpack(source, inside, part, whole=place == file.path)
        if remote and source != part:
            source.unlink()
            etag_of(source).unlink(missing_ok=True)
        return True
    return False


def _unpack(source: Path, member: str, part: Path, whole: bool) -> None:
    if whole and source != part:
        shutil.copyfile(source, part)
    elif not whole:
        with open_data(source, member) as opened, part.open("wb") as sink:
            shutil.copyfileobj(opened, sink)


def _require_checksum(path: Path, file: File, remedy: str) -> None:
    problem = find_mismatch(path, file)
    if problem:
        raise CorruptFileError(f"{path} is not the published file: {problem}; {remedy}")


def _no_space(target: Path, file: File) -> str:
    free = shutil.disk_usage(target.parent).free
    need = f"the {file.bytes} bytes" if file.bytes else "the bytes"
    return f"no space for {need} of {file.path} in {target.parent} ({free} free); free some, or set TSFM_CACHE"


def _by_hand(file: File) -> str:
    return (
        f"Without a network, put {Path(file.path).name} ({describe_checksum(file)}) at {cached_path(file)}, "
        f"or set TSFM_DATA_MIRROR to a folder that holds raw/{file.path}"
    )
