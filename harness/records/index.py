"""The index of a results repository: one line per record, only ever appended to, so that a deletion shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from harness.errors import HarnessError
from harness.records.verification import Finding

__all__ = ["INDEX", "append", "check_index", "entries", "hold"]

INDEX = "index.txt"
_LOCK = ".lock"


def hold(root: Path) -> FileLock:
    """Return the lock that whoever changes a repository holds; a context manager."""
    return FileLock(root / _LOCK, poll_interval=0.01)


def entries(root: Path) -> list[str]:
    """Return the relative POSIX path of every record ever added, in that order.

    A last line without its end is what a kill left of an append; it does not count, and `append` removes it.
    """
    path = root / INDEX
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [line for line in text.split("\n")[:-1] if line]


def append(root: Path, place: str) -> None:
    """Add a record's path, unless it is there. The caller holds the lock.

    Raises
    ------
    HarnessError
        The index cannot be written; it is as it was.
    """
    path = root / INDEX
    try:
        with path.open("ab+") as stream:
            stream.seek(0)
            content = stream.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                stream.truncate(whole)
            if f"\n{place}\n".encode() in b"\n" + content[:whole]:
                return
            stream.write(f"{place}\n".encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise HarnessError(
            f"Could not write {path}: {error.strerror}. Free some space and add the record again."
        ) from error


def check_index(root: Path, present: set[str | None]) -> Iterator[tuple[Path, str, Finding]]:
    """Check 10: every record that was ever added is still there, and none came in around the index.

    Parameters
    ----------
    root : Path
        A folder; without an index it is no repository and there is nothing to check.
    present : set of str
        Run ids of the records that were found below it.

    Yields
    ------
    tuple of Path, str and Finding
        Where the record should be, its run id, and what is wrong.
    """
    if not (root / INDEX).is_file():
        return
    listed = entries(root)
    for place in listed:
        run_id = place.rpartition("/")[2]
        if run_id not in present or not (root / place / "record.json").is_file():
            yield (
                root / place,
                run_id,
                Finding(10, "error", INDEX, f"names {place}, but there is no such record: deleted"),
            )
    known = set(listed)
    for path in sorted(root.glob("*/*/*/*/*/*/record.json")):
        place = path.parent.relative_to(root).as_posix()
        if place not in known:
            message = f"does not name {place}, so the record was not added but copied in; add it again"
            yield path.parent, path.parent.name, Finding(10, "error", INDEX, message)
