"""Checking a built board: links resolve, nothing comes from outside, pages have names and headings, sizes are sane."""

from __future__ import annotations

import gzip
import itertools
import os
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from harness.errors import UserError
from harness.leaderboard.folder import MARKER
from harness.leaderboard.render import CSP, VIEWER_CSP
from harness.leaderboard.text import safe_url

__all__ = ["Fault", "check", "check_page"]

_FRONT_LIMIT: Final = 300 * 1024  # bytes after gzip
_PAGE_LIMIT: Final = 8 << 20
_LOADING: Final = {"script": "src", "img": "src", "iframe": "src", "object": "data", "embed": "src", "source": "src"}
_FORBIDDEN: Final = {"iframe", "object", "embed", "style", "base", "foreignobject"}
_HEADINGS: Final = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a page, with the page's path inside the board."""

    page: str
    what: str


def check(out: Path) -> list[Fault]:
    """Check every page of a board.

    Parameters
    ----------
    out : Path
        The board's folder.

    Returns
    -------
    list of Fault
        Empty where all is well: every local link and anchor resolves; no page loads anything from outside, has an
        inline script, style or handler, or lacks the content security policy; every page has a language, a title, one
        main heading and no skipped level; every picture and plot has a name; every form field a label; no id twice.

    Raises
    ------
    UserError
        There is no board at ``out``.
    """
    if not (out / MARKER).is_file():
        raise UserError(f"There is no board at {out}. Build one with `harness leaderboard build --out DIR`.")
    pages: dict[Path, _Page] = {}
    faults = []
    for path in sorted(out.rglob("*.html")):
        name = path.relative_to(out).as_posix()
        faults += [Fault(name, what) for what in check_page(out, name, pages)]
    for style in sorted(out.rglob("*.css")):
        if "url(" in (text := style.read_text(encoding="utf-8")) or "@import" in text:
            faults.append(Fault(style.relative_to(out).as_posix(), "a style sheet must not load anything"))
    return faults


def check_page(out: Path, name: str, pages: dict[Path, _Page] | None = None) -> list[str]:
    """Check one page; see `check`.

    Parameters
    ----------
    out : Path
        The board's folder.
    name : str
        The page, relative to the board.
    pages : dict, optional
        Pages that were parsed already; filled on the way, because pages link to each other.
    """
    known = {} if pages is None else pages
    page = _parsed(out / name, known)
    found = page.faults(VIEWER_CSP if Path(name).name == "viewer.html" else CSP) + _broken_links(
        out, out / name, page, known
    )
    size = (out / name).stat().st_size
    if size > _PAGE_LIMIT:
        found.append(f"has {size:,} bytes, more than {_PAGE_LIMIT:,}")
    if name == "index.html":
        packed = len(gzip.compress((out / name).read_bytes(), mtime=0))
        if packed > _FRONT_LIMIT:
            found.append(f"has {packed:,} bytes when compressed, more than {_FRONT_LIMIT:,}")
    return found


def _parsed(path: Path, pages: dict[Path, _Page]) -> _Page:
    if path not in pages:
        pages[path] = _Page.read(path)
    return pages[path]


def _broken_links(out: Path, path: Path, page: _Page, pages: dict[Path, _Page]) -> list[str]:
    found = []
    for link in dict.fromkeys(page.links):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            if safe_url(link) is None:
                found.append(f"links to {link[:80]!r}, which is not on the list of known hosts")
            continue
        target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
        if not target.is_relative_to(out) or not target.is_file():
            found.append(f"links to {link!r}, which does not exist on this board")
        elif parts.fragment and "=" not in parts.fragment and parts.fragment not in _parsed(target, pages).ids:
            found.append(f"links to {link!r}, but there is no such place on that page")
    return found


class _Page(HTMLParser):
    """What a page loads, links to and names."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.wrong: list[str] = []
        self.title = ""
        self.language = self.policy = ""
        self._open: list[str] = []
        self._labels = 0

    @classmethod
    def read(cls, path: Path) -> _Page:
        """Parse one file."""
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        given = {name: value or "" for name, value in attrs}
        if tag not in _VOID:
            self._open.append(tag)
        self._labels += tag == "label"
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "html":
            self.language = given.get("lang", "")
        if tag == "meta" and given.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = given.get("content", "")
        if tag in _HEADINGS:
            self.headings.append(tag)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self._check_loads(tag, given)
        self._check_names(tag, given)

    def _check_loads(self, tag: str, given: dict[str, str]) -> None:
        if tag in _FORBIDDEN:
            self.wrong.append(f"has a <{tag}> element")
        if tag == "script" and not given.get("src"):
            self.wrong.append("has an inline script")
        for name in given:
            if name.startswith("on") or name == "style":
                self.wrong.append(f"has an inline {name} attribute on <{tag}>")
        address = given.get(_LOADING.get(tag, ""), "") or (
            given.get("href", "") if tag in {"link", "use", "image"} else ""
        )
        if urlsplit(address).scheme or address.startswith("//"):
            self.wrong.append(f"loads {address[:80]!r} from outside")
        elif address and not address.startswith("#"):
            self.links.append(address)

    def _check_names(self, tag: str, given: dict[str, str]) -> None:
        if tag == "img" and not given.get("alt"):
            self.wrong.append(f"has a picture without a description: {given.get('src', '')}")
        if tag == "svg" and given.get("aria-hidden") != "true" and not given.get("aria-labelledby"):
            self.wrong.append("has a plot without a name")
        if tag in {"input", "select", "textarea"} and "label" not in self._open and not given.get("aria-label"):
            self.wrong.append(f"has a field without a label: {given.get('name', '')}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element that closes itself, as in SVG."""
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close the element; one that was never opened, or out of turn, is a fault."""
        if tag in _VOID:
            return
        if not self._open or self._open[-1] != tag:
            self.wrong.append(f"closes </{tag}> out of turn")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        """Collect the title of the page."""
        if self._open[-1:] == ["title"] and "svg" not in self._open:
            self.title += data

    def faults(self, policy: str) -> list[str]:
        """Return everything that is wrong with the page by itself; ``policy`` is what it must declare."""
        found = list(dict.fromkeys(self.wrong))
        if self.policy != policy:
            found.append("lacks the content security policy")
        if not self.language or not self.title.strip():
            found.append("lacks a language or a title")
        if self.headings.count("h1") != 1:
            found.append(f"has {self.headings.count('h1')} main headings instead of one")
        levels = [int(heading[1]) for heading in self.headings]
        if any(after > before + 1 for before, after in itertools.pairwise(levels)):
            found.append("skips a level of headings")
        doubled = sorted({name for name in self.ids if self.ids.count(name) > 1})
        if doubled:
            found.append(f"uses an id twice: {', '.join(doubled[:5])}")
        if self._open:
            found.append(f"leaves <{self._open[-1]}> open")
        return found


_VOID: Final = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
