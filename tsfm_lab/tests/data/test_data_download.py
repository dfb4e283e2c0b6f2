"""Downloads: whole or not at all, resumed, checked, locked, from a mirror, and plain words where they fail."""

import errno
import gzip
import hashlib
import shutil
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tsfm_lab.data import CorruptFileError, DownloadError, fetch
from tsfm_lab.data.checksums import find_mismatch
from tsfm_lab.data.download import cached_path
from tsfm_lab.data.registry import File

CONTENT = bytes(range(256)) * 4000


class Server(BaseHTTPRequestHandler):
    """Files of a folder, with ranges; `state` says what to do wrong and keeps what was asked."""

    def __init__(self, folder: Path, state: dict, *args):
        self.folder, self.state = folder, state
        super().__init__(*args)

    def do_GET(self):
        self.state["asked"].append((self.path, self.headers.get("Range")))
        file = self.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        body, begin = file.read_bytes(), 0
        wanted = self.headers.get("Range")
        if wanted and self.state.get("ranges", True) and self.headers.get("If-Range") in (None, self.state["etag"]):
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.send_header("ETag", self.state["etag"])
        self.end_headers()
        stop = self.state.pop("stop_after", len(body))
        self.wfile.write(body[begin : begin + stop])

    def log_message(self, *_):
        """Silence."""


@pytest.fixture
def server(tmp_path):
    """(folder it serves, its state, its address)."""
    folder, state = tmp_path / "served", {"asked": [], "etag": '"1"'}
    folder.mkdir()
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, folder, state))
    running.handle_error = lambda *_: None  # clients that hang up are part of the tests
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield folder, state, f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def make_file(url: str, content: bytes = CONTENT, **changes) -> File:
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return File(**({"path": "sub/x.bin", "url": url, "licence": "none"} | facts | changes))


def test_a_file_is_fetched_once_and_used_without_a_network_afterwards(cache, server):
    folder, state, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    file = make_file(f"{address}/x.bin")
    assert fetch(file, progress=False).read_bytes() == CONTENT
    assert fetch(make_file("http://127.0.0.1:9/gone"), progress=False) == cache / "sub" / "x.bin"
    assert len(state["asked"]) == 1
    assert [path.name for path in (cache / "sub").iterdir() if not path.name.startswith(".")] == ["x.bin"]


@pytest.mark.parametrize("known", ["sha256", "etag only"])
def test_a_broken_download_is_resumed_from_where_it_stopped(cache, server, known):
    folder, state, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    state["stop_after"] = 300_000
    file = make_file(f"{address}/x.bin", **({"sha256": "unknown", "bytes": None} if known == "etag only" else {}))
    with pytest.raises(DownloadError, match=r"broke off after 300000 bytes .*run it again to resume"):
        fetch(file, progress=False)
    assert not cached_path(file).exists()
    assert fetch(file, progress=False).read_bytes() == CONTENT
    assert state["asked"] == [("/x.bin", None), ("/x.bin", "bytes=300000-")]


def test_a_file_that_changed_meanwhile_begins_anew(cache, server):
    folder, state, address = server
    (folder / "x.bin").write_bytes(b"old" * 200_000)
    state["stop_after"] = 100_000
    file = make_file(f"{address}/x.bin")
    with pytest.raises(DownloadError):
        fetch(file, progress=False)
    (folder / "x.bin").write_bytes(CONTENT)
    state["etag"] = '"2"'
    assert fetch(file, progress=False).read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(cache, server):
    folder, state, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    state |= {"stop_after": 1000, "ranges": False}
    file = make_file(f"{address}/x.bin")
    with pytest.raises(DownloadError):
        fetch(file, progress=False)
    assert fetch(file, progress=False).read_bytes() == CONTENT


def test_a_part_that_holds_everything_already_is_checked_and_taken(cache, server):
    folder, _, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    file = make_file(f"{address}/x.bin")
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).with_name("x.bin.part").write_bytes(CONTENT)
    assert fetch(file, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"sha256": "unknown", "git_blob": "0" * 40}, {"bytes": 7}])
def test_wrong_bytes_never_reach_the_cache(cache, server, changes):
    folder, _, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    file = make_file(f"{address}/x.bin", **changes)
    with pytest.raises(CorruptFileError, match=r"is not the published file: .*expected"):
        fetch(file, progress=False)
    assert not list(cache.rglob("x.bin*"))


def test_a_damaged_file_in_the_cache_is_refused_and_left_alone(cache):
    file = make_file("http://127.0.0.1:9/gone")
    cached_path(file).parent.mkdir(parents=True)
    cached_path(file).write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(CorruptFileError, match="delete it and get it again"):
        fetch(file, progress=False)
    assert cached_path(file).stat().st_size == len(CONTENT)


def test_git_blob_ids_are_those_of_git(tmp_path):
    (tmp_path / "x").write_bytes(b"hello\n")
    file = make_file("", sha256="unknown", bytes=None, git_blob="ce013625030ba8dba906f756967f9e9ca394464a")
    assert find_mismatch(tmp_path / "x", file) == ""


def test_without_a_network_the_message_names_the_file_its_checksum_and_its_place(cache):
    file = make_file("http://127.0.0.1:9/x.bin")
    with pytest.raises(DownloadError) as error:
        fetch(file, progress=False)
    for said in ("cannot reach", "x.bin", file.sha256, str(cached_path(file)), "TSFM_DATA_MIRROR", "raw/sub/x.bin"):
        assert said in str(error.value)


def test_what_the_origin_does_not_have_is_said(cache, server):
    with pytest.raises(DownloadError, match=r"answers 404 .*Without a network, put"):
        fetch(make_file(f"{server[2]}/missing"), progress=False)


def test_no_space_is_said_before_and_during_the_transfer(cache, server, monkeypatch):
    folder, _, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    file = make_file(f"{address}/x.bin", bytes=len(CONTENT))
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    with pytest.raises(DownloadError, match=r"no space for the 1024000 bytes .*\(1000 free\); free some"):
        fetch(file, progress=False)
    monkeypatch.setattr(shutil, "disk_usage", real)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tsfm_lab.data.transfer._write", full)
    with pytest.raises(DownloadError, match="no space for"):
        fetch(file, progress=False)
    assert not cached_path(file).exists()


def test_two_processes_fetch_a_file_once(cache, server):
    folder, state, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    file, found = make_file(f"{address}/x.bin"), []
    threads = [threading.Thread(target=lambda: found.append(fetch(file, progress=False))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cached_path(file)] * 6
    assert len(state["asked"]) == 1


def lay_out(folder: Path, how: str) -> None:
    """A mirror's `raw/` with the file plain, gzipped, or in an archive."""
    place = folder / "raw" / "sub"
    place.mkdir(parents=True)
    if how == "plain":
        (place / "x.bin").write_bytes(CONTENT)
    elif how == "gzipped":
        (place / "x.bin.gz").write_bytes(gzip.compress(CONTENT, mtime=0))
    else:
        with zipfile.ZipFile(folder / "raw" / "all.zip", "w") as archive:
            archive.writestr("inner/x.bin", CONTENT)
            archive.writestr("inner/y.bin", b"other")


@pytest.mark.parametrize("how", ["plain", "gzipped", "archived"])
@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_mirror_stands_in_for_the_origin(cache, server, monkeypatch, how, kind):
    folder, _, address = server
    lay_out(folder, how)
    monkeypatch.setenv("TSFM_DATA_MIRROR", address if kind == "url" else str(folder))
    file = make_file("http://127.0.0.1:9/gone", mirror="all.zip#inner/x.bin")
    assert fetch(file, progress=False).read_bytes() == CONTENT
    assert [path.name for path in (cache / "sub").iterdir() if not path.name.startswith(".")] == ["x.bin"]


def test_a_broken_transfer_from_a_mirror_is_resumed(cache, server, monkeypatch):
    folder, state, address = server
    lay_out(folder, "plain")
    monkeypatch.setenv("TSFM_DATA_MIRROR", address)
    state["stop_after"] = 5000
    file = make_file("http://127.0.0.1:9/gone")
    with pytest.raises(DownloadError, match="broke off after 5000 bytes"):
        fetch(file, progress=False)
    assert fetch(file, progress=False).read_bytes() == CONTENT
    assert state["asked"][-1] == ("/raw/sub/x.bin", "bytes=5000-")


def test_what_a_mirror_lacks_comes_from_the_origin(cache, server, monkeypatch, tmp_path):
    folder, _, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("TSFM_DATA_MIRROR", str(tmp_path / "mirror"))
    assert fetch(make_file(f"{address}/x.bin"), progress=False).read_bytes() == CONTENT


def test_a_mirror_that_is_no_folder_or_holds_wrong_bytes_is_an_error(cache, tmp_path, monkeypatch):
    file = make_file("http://127.0.0.1:9/gone")
    monkeypatch.setenv("TSFM_DATA_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DownloadError, match="is no folder"):
        fetch(file, progress=False)
    lay_out(tmp_path / "mirror", "gzipped")
    wrong = tmp_path / "mirror" / "raw" / "sub" / "x.bin.gz"
    monkeypatch.setenv("TSFM_DATA_MIRROR", str(tmp_path / "mirror"))
    for content in (gzip.compress(b"other"), wrong.read_bytes()[:500]):
        wrong.write_bytes(content)
        with pytest.raises(CorruptFileError):
            fetch(file, progress=False)
    assert not cached_path(file).exists()


def test_a_bar_shows_the_progress(cache, server, capsys):
    folder, _, address = server
    (folder / "x.bin").write_bytes(CONTENT)
    fetch(make_file(f"{address}/x.bin"))
    assert "sub/x.bin: 100%" in capsys.readouterr().err
