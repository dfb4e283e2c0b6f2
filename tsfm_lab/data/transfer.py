"""One file over HTTP, continued from where a broken transfer stopped."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path

CHUNK = 1 << 20
TIMEOUT_S = 30.0  # without a byte from the server


class DownloadError(OSError):
    """A file that could not be fetched; the message says why and what helps."""


class NotThereError(DownloadError):
    """The server answers, but does not have the file."""


class UnreachableError(DownloadError):
    """No server answers."""


def download(url: str, part: Path, *, label: str = "", checkable: bool = True) -> None:
    """Fetch `url` into `part`; what `part` holds already is taken for its beginning and not sent again.

    label: of the progress bar, "" for none. checkable: whether a checksum will tell a wrong beginning; without one the
    transfer only resumes what the server's ETag says is the same file.
    Raises: NotThereError, UnreachableError; DownloadError where the transfer breaks: `part` keeps what came.
    """
    etag = etag_of(part)
    if not (checkable or etag.is_file()):
        part.unlink(missing_ok=True)
    begin = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "tsfm-lab", "Accept-Encoding": "identity"})
    if begin:
        request.add_header("Range", f"bytes={begin}-")
        if etag.is_file():
            request.add_header("If-Range", etag.read_text())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if response.headers.get("ETag"):
                etag.write_text(response.headers["ETag"])
            _write(response, part, begin if response.status == 206 else 0, label)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begin:  # nothing is left to send: the checksum decides
            return
        kind = NotThereError if error.code in (403, 404, 410) else DownloadError
        raise kind(f"{url} answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        have = part.stat().st_size if part.is_file() else 0
        if have > begin:
            raise DownloadError(f"{url} broke off after {have} bytes ({error}); run it again to resume") from error
        raise UnreachableError(f"cannot reach {url} ({error})") from error


def etag_of(part: Path) -> Path:
    """Where the server's ETag of a part is kept."""
    return part.with_name(f"{part.name}.etag")


def _write(response: HTTPResponse, part: Path, begin: int, label: str) -> None:
    left = response.headers.get("Content-Length")
    total = begin + int(left) if left is not None else None
    with _bar(label, begin, total) as advance, part.open("r+b" if begin else "wb") as sink:
        sink.seek(begin)
        while chunk := response.read(CHUNK):
            sink.write(chunk)
            advance(len(chunk))
        have = sink.tell()
    if total is not None and have < total:
        raise ConnectionError(f"{total - have} of {total} bytes are missing")


@contextmanager
def _bar(label: str, begin: int, total: int | None) -> Iterator[Callable[[int], object]]:
    if not label:
        yield lambda n: None
        return
    from tqdm.auto import tqdm

    with tqdm(desc=label, initial=begin, total=total, unit="B", unit_scale=True) as bar:
        yield bar.update
