"""Files written whole or not at all, and the hashes and canonical bytes that content addresses are made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

__all__ = [
    "TEMPORARY",
    "atomic_path",
    "canonical_json",
    "file_sha256",
    "read_text",
    "sha256_hex",
    "write_json",
    "write_text",
]


TEMPORARY = ".tmp-"  # what the name of a file starts with while it is being written


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that is renamed over it if the block succeeds.

    The temporary file keeps the suffixes of the target, because some writers choose a format by them.

    Raises
    ------
    HarnessError
        The folder cannot be written to or the disk is full; nothing is left behind.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY, suffix="".join(target.suffixes[-2:]))
        os.close(handle)
    except OSError as error:
        raise _cannot_write(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes a file for its owner alone; what we publish follows the umask like any other file.
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


_UMASK = _read_umask()  # read once at import: os.umask is process-wide, and flipping it later would race threads


def _cannot_write(target: Path, error: OSError) -> HarnessError:
    return HarnessError(
        f"Could not write {target}: {error.strerror or error}. Nothing was left half-written. "
        "Free some space or choose a folder you may write to, then run the same command again."
    )


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with LF line ends, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_text(path: Path) -> str:
    """Read UTF-8 text."""
    return path.read_text(encoding="utf-8")


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    r"""Serialise to the one spelling that is hashed: sorted keys, no NaN, shortest floats, LF at the end.

    Raises
    ------
    ValueError
        A number is NaN or infinite; say null and a reason instead.

    Examples
    --------
    >>> canonical_json({"b": 0.1, "a": [1, None]})
    '{"a":[1,null],"b":0.1}\n'
    """
    return _CANONICAL.encode(value) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON for people; content addresses are taken from `canonical_json`, not from these bytes."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n")


def sha256_hex(data: bytes | str) -> str:
    """Return the SHA-256 of bytes, or of text as UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
