"""Is a file the published one? By SHA-256 where it is known, else by git's blob id, else by its size."""

import hashlib
from functools import lru_cache
from pathlib import Path

from tsfm_lab.data.registry import UNKNOWN, File

CHUNK = 1 << 20


def find_mismatch(path: Path, file: File) -> str:
    """What tells `path` from the published file, in words; "" where nothing does or nothing is known."""
    path = Path(path)
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        return f"{size} bytes, expected {file.bytes}"
    if file.sha256 != UNKNOWN:
        found = _digest(path, "sha256", size, path.stat().st_mtime_ns)
        return "" if found == file.sha256 else f"sha256 {found}, expected {file.sha256}"
    if file.git_blob:
        found = _digest(path, "git", size, path.stat().st_mtime_ns)
        return "" if found == file.git_blob else f"git blob {found}, expected {file.git_blob}"
    return ""


def describe_checksum(file: File) -> str:
    """What the file will be checked against."""
    if file.sha256 != UNKNOWN:
        return f"sha256 {file.sha256}"
    return f"git blob {file.git_blob}" if file.git_blob else "checksum unknown: it cannot be verified"


@lru_cache(maxsize=1024)
def _digest(path: Path, kind: str, size: int, changed: int) -> str:
    """Hash of a file; `changed`, its modification time, makes a rewritten file another entry of the cache."""
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
