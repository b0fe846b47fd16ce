"""Finding what the folders of runs hold: records that verify, records that do not, and runs that ended without one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, UserError
from harness.records.objections import OBJECTIONS

__all__ = ["Broken", "Found", "explain", "find", "signature"]

_SKIPPED = {"checkpoints", "predictions", "cache", "__pycache__"}


@dataclass(frozen=True)
class Found:
    """A folder with a record. ``place`` is its path below the folder that was searched, for people."""

    folder: Path
    place: str


@dataclass(frozen=True)
class Broken:
    """Something that is listed without any of its numbers: a refused record, or a run that left none."""

    place: str
    why: str


def find(runs: Sequence[Path]) -> tuple[list[Found], list[Broken]]:
    """Search folders for records and for runs that failed before they could write one.

    Parameters
    ----------
    runs : sequence of Path
        Folders; a record may lie at any depth. Links to folders are not followed.

    Returns
    -------
    list of Found
        Sorted by place, each folder once.
    list of Broken
        Runs whose ``run.json`` says that they failed and that have no record.

    Raises
    ------
    UserError
        A folder does not exist.
    """
    found: dict[Path, Found] = {}
    broken: dict[Path, Broken] = {}
    for top in runs:
        if not top.is_dir():
            raise UserError(f"There is no folder of runs at {top}. Check the path; `harness demo` makes one.")
        real = top.resolve()  # no link is followed below it, so that the rest of each path is real already
        for folder, names in _walk(top):
            if "record.json" in names:
                home = folder.parent if folder.name == "record" else folder
                name = top.name if home in (top, top.parent) else home.relative_to(top).as_posix()
                found.setdefault(real / folder.relative_to(top), Found(folder, name))
            elif "run.json" in names and not (folder / "record" / "record.json").is_file():
                why = _failure(folder / "run.json")
                if why:
                    place = folder.relative_to(top)
                    broken.setdefault(real / place, Broken(place.as_posix(), why))
    return sorted(found.values(), key=lambda f: (f.place, str(f.folder))), sorted(
        broken.values(), key=lambda b: b.place
    )


def _walk(top: Path) -> Iterator[tuple[Path, set[str]]]:
    for folder, below, names in os.walk(top):
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in _SKIPPED)
        yield Path(folder), set(names)


def _failure(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        state, error = content["state"], content.get("error")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its run.json cannot be read"
    return f"{state}: {error or 'no reason noted'}" if state in {"failed", "diverged"} else None


def explain(error: HarnessError, folder: Path) -> str:
    """Return an error's message without the path of this machine in it."""
    return str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the record")


def signature(runs: Sequence[Path]) -> frozenset[tuple[str, int, int]]:
    """Return path, time and size of every file that decides what the board shows; it changes when a board would."""
    seen = set()
    for top in runs:
        for folder, names in _walk(top):
            for name in names & {"record.json", "run.json", OBJECTIONS}:
                try:
                    facts = (folder / name).stat()
                except FileNotFoundError:
                    continue  # replaced or removed while we look; the next look sees it
                seen.add((str(folder / name), facts.st_mtime_ns, facts.st_size))
    return frozenset(seen)
