"""Files as they are published: plain, gzipped, or members of a zip archive."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO


class CorruptFileError(ValueError):
    """A file that cannot be read as what its name says; the message names it and the remedy."""


def list_members(path: Path, pattern: str = "*") -> list[str]:
    """Files of a zip archive whose name matches the shell pattern, in the archive's order; [""] for any other file.

    Raises: CorruptFileError for a broken archive, ValueError where nothing matches.
    """
    if Path(path).suffix != ".zip":
        return [""]
    with _reported(path), zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ValueError(f"{path} has no member that matches {pattern!r}; it holds {', '.join(names[:8])}")
    return found


@contextmanager
def open_data(path: Path, member: str = "") -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed: `.gz` by its name, a `.zip` by its member ("" where it has only one).

    Raises: CorruptFileError where decompression fails, FileNotFoundError.
    """
    path = Path(path)
    with _reported(path):
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                yield file
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(member or _only_member(path)) as file:
                yield io.BufferedReader(file)
        else:
            with path.open("rb") as file:
                yield file


def inner_suffix(path: Path, member: str = "") -> str:
    """Suffix of the data itself: ".csv" for "a.csv", "a.csv.gz" and the member "a.csv" of a zip."""
    name = Path(member) if member else Path(path)
    if name.suffix == ".zip":
        name = Path(_only_member(path))
    return name.with_suffix("").suffix if name.suffix == ".gz" else name.suffix


def _only_member(path: Path) -> str:
    names = list_members(path)
    if len(names) > 1:
        raise ValueError(f"{path} holds {len(names)} files; name one of {', '.join(names[:8])}")
    return names[0]


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CorruptFileError(f"{path} is truncated or corrupt ({error}); delete it and get it again") from error
