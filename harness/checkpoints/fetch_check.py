"""Whether a file is the expected one: by published size and hash, else by the hash noted when it was first used."""

from __future__ import annotations

import contextlib
import datetime
import json
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, UserError
from harness.files import file_sha256, write_json

__all__ = ["Expected", "Noted", "first_use", "mismatch", "note_first_use", "note_path"]


@dataclass(frozen=True)
class Expected:
    """Size in bytes and SHA-256 (64 hexadecimal digits) of a file, as far as they are published."""

    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Noted:
    """What was noted of a file whose hash is not published, when it was first used here."""

    bytes: int
    sha256: str
    date: str
    origin: str


def mismatch(path: Path, expected: Expected) -> str | None:
    """Say in what a file differs from what is expected; None where it agrees. The hash is taken last: it reads all."""
    size = path.stat().st_size
    if expected.bytes is not None and size != expected.bytes:
        return f"has {size} bytes, the card of this file says {expected.bytes}"
    if expected.sha256 is not None and (found := file_sha256(path)) != expected.sha256:
        return f"hashes to {found}, the card says {expected.sha256}"
    return None


def note_path(path: Path) -> Path:
    """Return where the note of a file lies: ``<file>.sha256.json`` beside it."""
    return path.with_name(path.name + ".sha256.json")


def first_use(path: Path) -> Noted | None:
    """Read the note of a file; None where there is none.

    Raises
    ------
    UserError
        The note cannot be understood.
    """
    note = note_path(path)
    if not note.exists():
        return None
    try:
        return Noted(**json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{note} cannot be read as the note of a first use: {error}. Delete it if you know that {path.name} is "
            "the file you mean; it is written anew at the next use."
        ) from error


def note_first_use(path: Path, origin: str) -> Noted:
    """Note size and hash of a file beside it, for comparison at every later use.

    A folder that cannot be written to (a shared store) is left as it is.
    """
    noted = Noted(path.stat().st_size, file_sha256(path), datetime.date.today().isoformat(), origin)  # noqa: DTZ011
    with contextlib.suppress(HarnessError):
        write_json(note_path(path), vars(noted))
    return noted
