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

__all__ = ["Leak", "leaks", "redact", "refuse_leaks"]

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
# Every pattern needs one of these; most texts have none, and a record has hundreds of texts.
_QUICK = re.compile(r"[/\\@~]|host|\.(?:local|lan|in|corp|cluster|hpc|home)", re.IGNORECASE)


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
    names = _this_machine()
    if not _QUICK.search(text) and not (names and names.search(text)):
        return
    for what, pattern in _patterns():
        for match in pattern.finditer(text):
            yield Leak(place, what, match.group())


def _patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    yield from _PATTERNS
    names = _this_machine()
    if names:
        yield "the name of this machine or its user", names


@functools.cache
def _this_machine() -> re.Pattern[str] | None:
    """Match this machine's and user's names as whole words, unless they are too short or too common to tell."""
    names = {socket.gethostname(), socket.gethostname().split(".")[0]}
    with contextlib.suppress(KeyError, OSError):  # some containers have no entry for their user, and so no name
        names.add(getpass.getuser())
    telling = sorted(name for name in names if len(name) >= 5 and name.lower() not in _COMMON)
    if not telling:
        return None
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, telling))})(?![\w-])")
