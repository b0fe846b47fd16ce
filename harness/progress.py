"""Progress of long work: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

__all__ = ["say", "track"]

T = TypeVar("T")
_LOG_EVERY_SECONDS = 15.0


def say(message: str) -> None:
    """Print one line for the person who waits, on standard error so that output stays parseable."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def track(items: Iterable[T], what: str, total: int | None = None, start: int = 0) -> Iterator[T]:
    """Yield ``items`` while showing how far the work has come.

    Parameters
    ----------
    items : iterable
        What is worked through.
    what : str
        A few words that name the work.
    total : int, optional
        How many items there are in all; the length of ``items`` by default.
    start : int
        How many were done before (a resumed run).
    """
    if total is None and isinstance(items, Sized):
        total = start + len(items)
    if sys.stderr.isatty():
        from tqdm import tqdm  # only a terminal needs it

        yield from tqdm(items, desc=what, total=total, initial=start, leave=False, dynamic_ncols=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=start):
        if time.monotonic() - last > _LOG_EVERY_SECONDS:
            last = time.monotonic()
            say(f"{what}: {done}{f' of {total}' if total else ''}")
        yield item
    say(f"{what}: done{f' ({total})' if total else ''}")
