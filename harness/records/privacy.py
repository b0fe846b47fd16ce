"""What must never enter a record: absolute paths, names of machines and of the people logged in to them."""

from __future__ import annotations

import contextlib
import functools
import getpass
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError

__all__ = ["Leak", "leaks", "may_leak", "redact", "refuse_leaks"]

# A path counts as absolute where a top-level folder of some system starts it, so that "1/2" and "mm/s" stay words.
_ROOTS = (
    "Applications|Users|Volumes|afs|bin|boot|cluster|data\\d*|dev|etc|export|fs\\d*|gpfs\\w*|home\\d*|lib|local|lustre|"
    "media|mnt|net|nfs\\w*|opt|private|proc|project[s]?|raid\\d*|root|run|scratch\\w*|share[d]?|srv|ssd\\w*|storage|"
    "sw|sys|tmp|usr|var|work\\w*|workspace"
)
_PATTERNS = (
    ("an absolute path", re.compile(rf"(?<![\w./:-])/(?:{_ROOTS})(?:/|$|(?=[\s'\",;:)\]]))[^\s'\",;)\]]*")),
    ("an absolute path", re.compile(r"(?<![\w./:-])(?:/[\w.+@-]+){3,}/?")),
    ("an absolute path", re.compile(r"(?<![A-Za-z])[A-Za-z]:[\\/][^\s'\",;)\]]*")),
    ("an absolute path", re.compile(r"(?<!\w)\\\\[\w.-]+\\[^\s'\",;)\]]+")),
    ("an absolute path", re.compile(r"file://[^\s'\",;)\]]*")),
    ("a path to a home folder", re.compile(r"(?<![\w~])~[\w.-]*/[^\s'\",;)\]]*")),
    ("a user and host name", re.compile(r"(?<![\w.@/-])[\w.-]+@[A-Za-z][\w-]*(?:\.[\w-]+)*(?![\w/@])")),
    (
        "a host name",
        re.compile(
            r"(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.(?:local|localdomain|lan|internal|intranet|intra|corp|cluster|hpc|home)"
            r"(?:\.[\w-]+)*(?![\w-])",
            re.IGNORECASE,
        ),
    ),
    ("a host name", re.compile(r"\bhost(?:name)?\s*[:=]\s*[\w.-]+", re.IGNORECASE)),
)
_COMMON = frozenset(
    ("admin", "default", "docker", "harness", "jovyan", "localhost", "nobody", "runner", "runneradmin", "ubuntu")
)
# Every pattern needs one of these. Looking for single words first is many times faster than searching a pattern.
_SIGNS = ("\\", "~", "host", "file:", ".local", ".lan", ".intern", ".intra", ".corp", ".cluster", ".hpc", ".home")
_REMEMBERED = 500  # characters


@dataclass(frozen=True)
class Leak:
    """Something private at a dotted ``place``: what kind of thing, and the text itself."""

    place: str
    what: str
    text: str


def leaks(value: Any, place: str = "") -> Iterator[Leak]:
    """Find paths, host names and user names in JSON-ready data or in plain text.

    Names of machines in general cannot be told from other words. This machine's own are looked for, and those with
    the endings of private networks; on a submitter's own machine the check is therefore the stricter one.
    """
    if isinstance(value, str):
        yield from _in_text(value, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _in_text(str(key), place or "the whole")
            if isinstance(item, str | dict | list | tuple):
                yield from leaks(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaks(item, f"{place}[{number}]")


def may_leak(text: str) -> bool:
    """Whether a text, such as a whole JSON file, could hold anything private; `leaks` says what and where."""
    lowered = text.lower()
    if any(sign in lowered for sign in _SIGNS) or any(name in text for name in _machine_names()):
        return True
    return any(_starts_path(text, place) for place in _places(text, "/")) or any(
        text[place + 1 : place + 2].isalpha() for place in _places(text, "@")
    )


def _places(text: str, sign: str) -> Iterator[int]:
    place = text.find(sign)
    while place >= 0:
        yield place
        place = text.find(sign, place + 1)


def _starts_path(text: str, place: int) -> bool:
    """Whether a slash has nothing before it that it could divide, or a drive letter and a colon."""
    before = text[max(0, place - 3) : place]
    if before.endswith(":"):
        return before[-2:-1].isalpha() and not before[-3:-2].isalpha()
    return not before or not (before[-1].isalnum() or before[-1] in "_./-")


def refuse_leaks(value: Any, place: str = "") -> None:
    """Raise a UserError that names everything private in ``value``."""
    found = list(leaks(value, place))
    if found:
        listing = "; ".join(f"{leak.place or 'text'}: {leak.what} ({leak.text!r:.120})" for leak in found[:5])
        raise UserError(
            f"A record would give away {len(found)} private fact(s): {listing}. Records are published, and paths and "
            "names of machines and users are nobody's business: use relative paths, or leave them out."
        )


def redact(text: str) -> str:
    """Replace paths, host names and user names, such as in an error message that a record quotes.

    >>> redact("No space left: /home/ada/runs/cell/model.pt")
    'No space left: <path>'
    """
    for what, pattern in _patterns():
        text = pattern.sub("<path>" if "path" in what else "<name>", text)
    return text


def _in_text(text: str, place: str) -> Iterator[Leak]:
    if may_leak(text):
        for what, match in _found(text) if len(text) < _REMEMBERED else _search(text):
            yield Leak(place, what, match)


@functools.lru_cache(maxsize=4096)
def _found(text: str) -> tuple[tuple[str, str], ...]:
    """Remember short texts: records repeat each other's."""
    return _search(text)


def _search(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((what, match.group()) for what, pattern in _patterns() for match in pattern.finditer(text))


def _patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    yield from _PATTERNS
    names = _this_machine()
    if names:
        yield "the name of this machine or its user", names


@functools.cache
def _machine_names() -> tuple[str, ...]:
    """Return the names of this machine and its user, unless they are too short or too common to tell."""
    names = {socket.gethostname(), socket.gethostname().split(".")[0]}
    with contextlib.suppress(KeyError, OSError):  # some containers have no entry for their user, and so no name
        names.add(getpass.getuser())
    return tuple(sorted(name for name in names if len(name) >= 5 and name.lower() not in _COMMON))


@functools.cache
def _this_machine() -> re.Pattern[str] | None:
    """Match those names as whole words."""
    names = _machine_names()
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, names))})(?![\w-])") if names else None
