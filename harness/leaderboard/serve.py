"""Serving a board on this machine, built anew whenever a record arrives: the page reloads itself while a sweep runs."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from markupsafe import escape

from harness.errors import HarnessError
from harness.leaderboard.gather import signature
from harness.leaderboard.render import CSP, VIEWER_CSP
from harness.leaderboard.site import build
from harness.progress import say

__all__ = ["LiveBoard", "serve"]

_HEARTBEAT: Final = 10.0
_MAY_LISTEN: Final = "; connect-src 'self'"
_LIVE_SCRIPT: Final = '<script src="/static/live.js" data-built="{}" defer></script>\n</head>'
_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")


def serve(
    runs: Sequence[Path], out: Path, port: int = 8000, cards: Sequence[Path] = (), *, viewer: bool = False
) -> None:
    """Build the board, serve it on this machine alone, and rebuild it as records arrive, until interrupted.

    Parameters
    ----------
    runs : sequence of Path
        Folders that are searched for records.
    out : Path
        The board's folder.
    port : int
        TCP port on the loopback address; 0 takes any free one.
    cards : sequence of Path
        Folders of the user's own cards, as they are when this starts.
    viewer : bool
        Also pages that show the volumes of runs, as for `harness.leaderboard.build`.

    Raises
    ------
    HarnessError
        The port is taken, or the first board cannot be built.
    """
    with LiveBoard(runs, out, port, cards=cards, viewer=viewer) as live:
        say(f"The board is at {live.address} and follows {', '.join(str(run) for run in runs)}. Stop with Ctrl+C.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("Stopped.")


class LiveBoard:
    """A running server with its watcher; a context manager.

    Parameters
    ----------
    runs, out, port, cards, viewer
        As for `serve`.
    every : float
        Seconds between two looks at the folders of runs.
    """

    def __init__(
        self,
        runs: Sequence[Path],
        out: Path,
        port: int = 8000,
        every: float = 1.0,
        cards: Sequence[Path] = (),
        *,
        viewer: bool = False,
    ) -> None:
        self.runs, self.out, self.every, self.cards = list(runs), out, every, tuple(cards)
        self.viewer = viewer
        self.built = 0  # how often; a page that saw fewer reloads
        self.stopped = threading.Event()
        self.news = threading.Condition()
        self._seen = signature(self.runs)
        build(self.runs, out, cards=self.cards, viewer=viewer)
        try:
            self._server = _Server(("127.0.0.1", port), self)
        except OSError as error:
            raise HarnessError(
                f"Cannot serve on port {port}: {error.strerror}. Another program may hold it; name one with --port."
            ) from error
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve, self._watch)]

    @property
    def address(self) -> str:
        """Where to open it."""
        return f"http://127.0.0.1:{self._server.server_port}/index.html"

    def __enter__(self) -> LiveBoard:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        with self.news:
            self.news.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=10)

    def newer(self, seen: int) -> tuple[bool, int]:
        """Wait for a board newer than ``seen``, not for ever; return whether there is one, and how many there were."""
        with self.news:
            self.news.wait_for(lambda: self.built != seen or self.stopped.is_set(), timeout=_HEARTBEAT)
            return self.built != seen, self.built

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.2)

    def _watch(self) -> None:
        while not self.stopped.wait(self.every):
            now = signature(self.runs)
            if now == self._seen:
                continue
            self._seen = now
            try:
                build(self.runs, self.out, cards=self.cards, viewer=self.viewer)
            except HarnessError as error:
                say(f"The board was not rebuilt: {error}")
                continue
            with self.news:
                self.built += 1
                self.news.notify_all()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], live: LiveBoard) -> None:
        self.live = live
        super().__init__(address, _Handler)


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a page, a file, or the stream of events."""
        if not self._is_local():
            self.send_error(HTTPStatus.FORBIDDEN)
        elif re.fullmatch(r"/events(\?[0-9]{1,9})?", self.path):
            self._send_events()
        elif (page := self._page()) is not None:
            script = _LIVE_SCRIPT.format(self.server.live.built)
            text = page.read_text(encoding="utf-8")
            for policy in (CSP, VIEWER_CSP):
                text = text.replace(f'"{escape(policy)}"', f'"{escape(policy + _MAY_LISTEN)}"', 1)
            self._send(text.replace("</head>", script, 1).encode(), "text/html; charset=utf-8")
        else:
            super().do_GET()

    def _is_local(self) -> bool:
        """Refuse names that a foreign page made point here: they would let it read what is served."""
        host = self.headers.get("Host", "")
        return host.rsplit(":", 1)[0] in _HOSTS or host in _HOSTS

    def _page(self) -> Path | None:
        path = unquote(urlsplit(self.path).path)
        target = Path(self.translate_path(path + "index.html" if path.endswith("/") else path))
        return target if target.suffix == ".html" and target.is_file() else None

    def translate_path(self, path: str) -> str:
        """Look below the board; the folder is replaced at every build, so it is asked for each time."""
        self.directory = str(self.server.live.out)
        return super().translate_path(path)

    def list_directory(self, path: object) -> None:
        """Never list a folder."""
        del path
        self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def _send_events(self) -> None:
        live = self.server.live
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        seen = int(urlsplit(self.path).query or live.built)
        try:
            while not live.stopped.is_set():
                fresh, seen = live.newer(seen)
                self.wfile.write(b"event: built\ndata: 1\n\n" if fresh else b": still here\n\n")
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            return  # the page was closed

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing; the terminal is for what the person needs to know."""
