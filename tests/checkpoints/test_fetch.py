"""Downloading from a real server on this machine: what cuts, lies, dawdles or refuses."""

from __future__ import annotations

import contextlib
import errno
import http.server
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import progress
from harness.checkpoints.fetch import download
from harness.checkpoints.fetch_check import Expected
from harness.checkpoints.fetch_http import Source, UnavailableError, UnreachableError
from harness.checkpoints.fetch_places import download_with_hub, google_drive, huggingface, zenodo
from harness.errors import HarnessError
from harness.files import sha256_hex

CONTENT = bytes(range(256)) * 10_000  # 2.56 MB, so that it crosses two mebibytes
WHOLE = Expected(len(CONTENT), sha256_hex(CONTENT))


class Web(http.server.ThreadingHTTPServer):
    """Serves ``content`` under any path, with the fault that a test sets."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.ranges = CONTENT, '"one"', True
        self.cuts: list[int] = []  # one per answer: close after so many bytes
        self.statuses: list[int] = []  # one per answer, instead of the file
        self.pages: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.pause = 0.0
        self.gate = threading.Event()  # closed: after its first piece, an answer waits
        self.gate.set()
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def from_bytes(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Web

    def log_message(self, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client may have read enough
            super().handle()

    def do_GET(self) -> None:
        web = self.server
        web.asked.append((self.path, dict(self.headers)))
        if self.path in web.redirects:
            self.send_response(302)
            self.send_header("Location", web.redirects[self.path])
            self.end_headers()
        elif self.path in web.pages:
            self._send(200, web.pages[self.path].encode(), {"Content-Type": "text/html; charset=utf-8"})
        elif web.statuses:
            self.send_error(web.statuses.pop(0))
        else:
            self._file()

    def _file(self) -> None:
        web, size = self.server, len(self.server.content)
        given = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, web.etag)
        headers = {"ETag": web.etag} if web.etag else {}
        if not given or not web.ranges or not same:
            self._send(200, web.content, headers)
            return
        start = int(given.removeprefix("bytes=").rstrip("-"))
        if start >= size:
            self.send_error(416)
        else:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            self._send(206, web.content[start:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        for first in range(0, len(body), 1 << 18):
            self.wfile.write(body[first : first + (1 << 18)])
            time.sleep(self.server.pause)
            self.server.gate.wait(60)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "store" / "w.pth"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if not path.name.startswith("."))


def test_a_whole_file_is_fetched_once(web: Web, target: Path) -> None:
    assert download(Source(web.url + "/w"), target, WHOLE)
    assert target.read_bytes() == CONTENT
    assert not download(Source(web.url + "/w"), target, WHOLE)
    assert len(web.asked) == 1
    assert left(target) == ["w.pth"]


def test_a_cut_connection_is_resumed_where_it_stopped(web: Web, target: Path) -> None:
    web.cuts = [1_000_000, 500_000]
    download(Source(web.url + "/w"), target, WHOLE, pauses=(0,))
    assert target.read_bytes() == CONTENT
    assert web.from_bytes == [None, "bytes=1000000-", "bytes=1500000-"]
    assert web.asked[1][1]["If-Range"] == '"one"'


def test_the_next_call_goes_on_after_the_server_went_away(web: Web, target: Path) -> None:
    web.cuts, web.statuses = [700_000], []
    with pytest.raises(HarnessError, match=r"byte 700000.*the same command goes on from there"):
        download(Source(web.url + "/w"), target, WHOLE, pauses=())
    assert left(target) == ["w.pth.part", "w.pth.part.json"]
    download(Source(web.url + "/w"), target, WHOLE, pauses=())
    assert target.read_bytes() == CONTENT
    assert web.from_bytes == [None, "bytes=700000-"]
    assert left(target) == ["w.pth"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(web: Web, target: Path) -> None:
    web.cuts = [700_000]
    with pytest.raises(HarnessError):
        download(Source(web.url + "/w"), target, Expected(), pauses=())
    web.content, web.etag = CONTENT[::-1], '"two"'
    download(Source(web.url + "/w"), target, Expected(), pauses=())
    assert target.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_validator_and_hash_nothing_is_joined(web: Web, target: Path, etag: str) -> None:
    web.cuts, web.etag = [700_000], etag
    download(Source(web.url + "/w"), target, Expected(), pauses=(0,))
    assert web.from_bytes == [None, None]
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges(web: Web, target: Path) -> None:
    web.cuts, web.ranges = [700_000], False
    download(Source(web.url + "/w"), target, WHOLE, pauses=(0,))
    assert target.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(web: Web, target: Path) -> None:
    web.cuts = [700_000]
    with pytest.raises(HarnessError):
        download(Source(web.url + "/w"), target, Expected(), pauses=())
    target.with_name("w.pth.part").write_bytes(CONTENT + b"more")
    download(Source(web.url + "/w"), target, Expected(), pauses=(0,))
    assert target.read_bytes() == CONTENT


def test_another_hash_is_refused_and_nothing_is_left(web: Web, target: Path) -> None:
    with pytest.raises(UnavailableError, match="hashes to"):
        download(Source(web.url + "/w"), target, Expected(len(CONTENT), "0" * 64))
    assert left(target) == []


def test_another_size_is_refused_before_it_is_fetched(web: Web, target: Path) -> None:
    with pytest.raises(UnavailableError, match="serves 2560000 bytes, the published file has 7"):
        download(Source(web.url + "/w"), target, Expected(7))
    assert left(target) == []


@pytest.mark.parametrize(("status", "says"), [(404, "404 Not Found"), (403, "set HF_TOKEN"), (401, "set HF_TOKEN")])
def test_a_refusal_of_the_server(web: Web, target: Path, status: int, says: str) -> None:
    web.statuses = [status]
    with pytest.raises(UnavailableError, match=says):
        download(Source(web.url + "/w"), target, WHOLE, pauses=(0,))
    assert left(target) == []
    assert len(web.asked) == 1


def test_a_busy_server_is_asked_again(web: Web, target: Path) -> None:
    web.statuses = [503, 429]
    download(Source(web.url + "/w"), target, WHOLE, pauses=(0, 0))
    assert target.read_bytes() == CONTENT


def test_no_connection(target: Path) -> None:
    with socket.socket() as taken:  # bound and never listening: refused, and no other test's server gets the port
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="cannot be reached"):
            download(Source(url + "/w"), target, WHOLE, pauses=(60,))  # would be noticed: nothing came, nothing waits
    with pytest.raises(UnavailableError, match=r"no http"):
        download(Source("file:///etc/passwd"), target, Expected())


def test_a_web_page_instead_of_the_file(web: Web, target: Path) -> None:
    web.pages["/w"] = "<!DOCTYPE html><title>Quota exceeded</title><p>Too many people"
    with pytest.raises(UnavailableError, match=r"web page \('Quota exceeded'\)"):
        download(Source(web.url + "/w"), target, Expected())
    web.content = b"  <html>served as if it were the file</html>"
    with pytest.raises(UnavailableError, match="web page"):
        download(Source(web.url + "/raw"), target, Expected())
    assert left(target) == []


def test_the_form_of_a_drive_is_confirmed(web: Web, target: Path) -> None:
    web.pages["/download?id=1"] = (
        '<html><title>Virus scan warning</title><form action="/confirmed"><input type="hidden" name="id" value="1">'
        '<input name="uuid" value="a b&amp;c"><input type="submit" value="Download anyway"></form></html>'
    )
    download(Source(web.url + "/download?id=1", confirm=True), target, WHOLE)
    assert target.read_bytes() == CONTENT
    assert web.asked[-1][0] == "/confirmed?id=1&uuid=a+b%26c"


def test_a_drive_that_has_no_form_to_confirm(web: Web, target: Path) -> None:
    web.pages["/d"] = "<html><title>Sign in</title></html>"
    with pytest.raises(UnavailableError, match="Sign in"):
        download(Source(web.url + "/d", confirm=True), target, Expected())


def test_a_slow_server_shows_progress(
    web: Web, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
    web.pause = 0.03
    download(Source(web.url + "/w"), target, WHOLE)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["w.pth (MiB): 0 of 3", "w.pth (MiB): 1 of 3", "w.pth (MiB): done (3)"]


def test_the_token_goes_to_the_named_host_alone(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url + "/")
    monkeypatch.setenv("HF_TOKEN", "secret")
    source = huggingface("owner/repo", "sub dir/w.pth", "abc/1")
    path = "/owner/repo/resolve/abc%2F1/sub%20dir/w.pth"
    web.redirects[path] = web.url + "/elsewhere"
    download(source, target, WHOLE)
    assert [asked for asked, _ in web.asked] == [path, "/elsewhere"]
    assert [headers.get("Authorization") for _, headers in web.asked] == ["Bearer secret", None]


def test_addresses_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert huggingface("a/b", "w.pt") == Source("https://huggingface.co/a/b/resolve/main/w.pt")
    assert zenodo("123", "w.pt").url == "https://zenodo.org/records/123/files/w.pt?download=1"
    assert zenodo("https://zenodo.org/x", None).url == "https://zenodo.org/x"
    drive = google_drive("abc")
    assert drive.confirm
    assert "id=abc" in drive.url


def test_the_proxy_of_the_environment_is_used(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.setenv("no_proxy", "")
    download(Source("http://nowhere.invalid/w"), target, WHOLE)
    assert web.asked[0][0] == "http://nowhere.invalid/w"


def test_what_the_hub_library_brings_is_checked_and_moved(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bring(repository: str, path: str, *, revision: str | None, local_dir: Path, token: str | None) -> str:
        """Stand in for the library, an optional extra: a file in a folder, or an error of its own."""
        if repository == "absent/repo":
            raise RuntimeError("no such\n  repository")
        (local_dir / ".cache").mkdir(parents=True)
        (local_dir / path).write_bytes(CONTENT)
        return str(local_dir / path)

    library = types.ModuleType("huggingface_hub")
    library.hf_hub_download = bring  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    with pytest.raises(UnavailableError, match=r"does not give w\.pt of absent/repo: no such repository"):
        download_with_hub("absent/repo", "w.pt", None, target, WHOLE)
    with pytest.raises(UnavailableError, match="hashes to"):
        download_with_hub("a/b", "w.pt", None, target, Expected(None, "0" * 64))
    assert left(target) == []
    assert download_with_hub("a/b", "w.pt", None, target, WHOLE)
    assert not download_with_hub("a/b", "w.pt", None, target, WHOLE)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir() if path.is_dir()] == []


CHILD = """
import sys
from pathlib import Path
from harness.checkpoints.fetch import download
from harness.checkpoints.fetch_check import Expected
from harness.checkpoints.fetch_http import Source
from harness.errors import HarnessError
try:
    print(download(Source(sys.argv[1]), Path(sys.argv[2]), Expected(None, sys.argv[3]), pauses=(0,)))
except HarnessError as error:
    print(error)
"""


def child(web: Web, target: Path, *, largest_file: int | None = None) -> subprocess.Popen[str]:
    def limit() -> None:
        assert largest_file is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.Popen(
        [sys.executable, "-c", CHILD, web.url + "/w", str(target), sha256_hex(CONTENT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=limit if largest_file is not None else None,
    )


def test_a_full_disk_keeps_the_part_and_says_so(web: Web, target: Path) -> None:
    said, _ = child(web, target, largest_file=1_500_000).communicate()
    assert f"beyond byte 1500000: {os.strerror(errno.EFBIG)}" in said
    assert left(target) == ["w.pth.part", "w.pth.part.json"]
    download(Source(web.url + "/w"), target, WHOLE)
    assert web.from_bytes == [None, "bytes=1500000-"]
    assert target.read_bytes() == CONTENT


def test_too_little_space_is_said_before(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage)
    with pytest.raises(HarnessError, match=r"needs 2,560,000 more bytes and .* has 5 free"):
        download(Source(web.url + "/w"), target, WHOLE)


class Usage:
    free = 5


def test_of_two_processes_one_downloads(web: Web, target: Path) -> None:
    web.gate.clear()
    first = child(web, target)
    while not web.asked:
        time.sleep(0.01)
    second = child(web, target)
    assert second.stderr is not None
    assert second.stderr.readline() == "another process is fetching w.pth: waiting for it\n"
    web.gate.set()
    assert [process.communicate()[0].strip() for process in (first, second)] == ["True", "False"]
    assert len(web.asked) == 1
    assert target.read_bytes() == CONTENT
