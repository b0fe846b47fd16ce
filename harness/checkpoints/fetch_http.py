"""One answer of one web server: asked for the rest of a file, told apart from a web page, its faults named.

Proxies come from the usual environment variables (``http_proxy``, ``https_proxy``, ``no_proxy``).
"""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

from harness.errors import HarnessError

__all__ = [
    "Answer",
    "CutError",
    "OutOfRangeError",
    "Source",
    "UnavailableError",
    "UnreachableError",
    "looks_like_page",
    "open_source",
]

_TIMEOUT_SECONDS = 30.0
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_FORM = 1 << 20


class UnavailableError(HarnessError):
    """A place does not give the file; another one may."""


class UnreachableError(UnavailableError):
    """No connection to this place: no network, no such host, a proxy or a firewall in between."""


class CutError(Exception):
    """The transfer ended early; asking again may go on where it stopped."""


class OutOfRangeError(CutError):
    """The file does not reach to the offset asked for: what is here is not the beginning of it."""


@dataclass(frozen=True)
class Source:
    """Where a file is served.

    Attributes
    ----------
    url : str
        http or https.
    token : str or None
        Sent to the first host as a bearer token, never to one that it redirects to.
    confirm : bool
        The host may answer with a form that has to be confirmed (Google Drive does for large files).
    """

    url: str
    token: str | None = None
    confirm: bool = False


@dataclass(frozen=True)
class Answer:
    """The open body: ``start`` is the offset of its first byte, ``total`` the size of the whole file if stated.

    ``validator`` is a strong ETag or a date with which the rest of the same file can be asked for later.
    """

    body: http.client.HTTPResponse
    start: int
    total: int | None
    validator: str | None


@contextlib.contextmanager
def open_source(source: Source, offset: int = 0, validator: str | None = None) -> Iterator[Answer]:
    """Ask for a file from ``offset`` on; yields the answer, whose body may begin earlier than asked.

    Raises
    ------
    UnavailableError
        The server has no such file, wants other credentials, or sends a web page.
    UnreachableError
        There is no connection.
    CutError
        The server is busy, or the connection broke; `OutOfRangeError` where the rest asked for does not exist.
    """
    if urllib.parse.urlsplit(source.url).scheme not in ("http", "https"):
        raise UnavailableError(f"{source.url} is no http(s) address; correct it in the model card.")
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    response = _ask(opener, source.url, source.token, offset, validator)
    try:
        if _is_page(response) and source.confirm:
            page = _Page(response.read(_LONGEST_FORM).decode("utf-8", "replace"))
            if page.action is not None:
                response.close()
                answer_to = urllib.parse.urljoin(response.url, page.action)
                address = f"{answer_to}?{urllib.parse.urlencode(page.fields)}"
                response = _ask(opener, address, None, offset, validator)
            else:
                raise _page_instead(source.url, page.title)
        if _is_page(response):
            raise _page_instead(source.url, _Page(response.read(_LONGEST_FORM).decode("utf-8", "replace")).title)
        yield _answer(response)
    except (http.client.HTTPException, OSError) as error:
        raise CutError(str(error) or type(error).__name__) from error
    finally:
        response.close()


def _ask(
    opener: urllib.request.OpenerDirector, url: str, token: str | None, offset: int, validator: str | None
) -> http.client.HTTPResponse:
    # compressed in transit, offsets would no longer be those of the file
    request = urllib.request.Request(url, headers={"User-Agent": "voxharness", "Accept-Encoding": "identity"})  # noqa: S310 - the scheme is checked
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if validator is not None:
            request.add_header("If-Range", validator)
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _TRANSIENT or error.code == 416:
            kind = OutOfRangeError if error.code == 416 else CutError
            raise kind(f"{url} answers {error.code} {error.reason}") from error
        hint = " A file behind a login needs a token: set HF_TOKEN." if error.code in (401, 403) else ""
        raise UnavailableError(f"{url} answers {error.code} {error.reason}.{hint}") from error
    except urllib.error.URLError as error:
        raise UnreachableError(f"{url} cannot be reached: {error.reason}.") from error
    except (http.client.HTTPException, OSError) as error:
        raise CutError(f"{url}: {error or type(error).__name__}") from error
    return response


def _answer(response: http.client.HTTPResponse) -> Answer:
    start, total = 0, None
    if response.status == 206:  # Content-Range: bytes 100-199/200
        span, _, whole = (response.headers.get("Content-Range") or "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        if not first.isdigit():
            raise CutError(f"{response.url} sends a part of the file without saying which")
        start, total = int(first), int(whole) if whole.isdigit() else None
    elif (length := response.headers.get("Content-Length") or "").isdigit():
        total = int(length)
    etag = response.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    return Answer(response, start, total, strong or response.headers.get("Last-Modified"))


def looks_like_page(head: bytes) -> bool:
    """Tell whether the first bytes of a file are those of a web page."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def _is_page(response: http.client.HTTPResponse) -> bool:
    return response.headers.get_content_type() == "text/html" or looks_like_page(response.peek(64))


def _page_instead(url: str, title: str) -> UnavailableError:
    return UnavailableError(
        f"{url} sends a web page{f' ({title!r})' if title else ''} instead of the file: a login, a quota or a notice."
    )


class _Page(HTMLParser):
    """Title, and action and fields of the first form, of a page that came instead of a file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what a person would submit."""
        values = {name: value or "" for name, value in attrs}
        self._inside = tag
        if tag == "form" and self.action is None:
            self.action = values.get("action", "")
        elif tag == "input" and self.action is not None and values.get("name"):
            self.fields[values["name"]] = values.get("value", "")

    def handle_data(self, data: str) -> None:
        """Collect the title."""
        if self._inside == "title" and not self.title:
            self.title = " ".join(data.split())[:80]
