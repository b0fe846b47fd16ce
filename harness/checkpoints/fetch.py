"""Downloading one file: resumed where it was cut, checked, renamed into place, by one process at a time.

While it comes it is called ``<name>.part``, with ``<name>.part.json`` saying of what. The name itself appears only
when the whole file is there and is the expected one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from harness.checkpoints.fetch_check import Expected, mismatch
from harness.checkpoints.fetch_http import (
    Answer,
    CutError,
    OutOfRangeError,
    Source,
    UnavailableError,
    UnreachableError,
    open_source,
)
from harness.errors import HarnessError
from harness.files import write_json
from harness.progress import say, track

__all__ = ["alone", "download"]

_PIECE = 1 << 20


def download(source: Source, target: Path, expected: Expected, pauses: Sequence[float] = (1.0, 4.0, 10.0)) -> bool:
    """Download a file, or go on with a download that was cut.

    Parameters
    ----------
    source : Source
        Where it is served.
    target : Path
        Where it will lie; the folder is made.
    expected : Expected
        Size and hash, as far as they are known.
    pauses : sequence of float
        Seconds to wait before asking again after a transfer ended early. Every byte that arrives starts the
        sequence anew; at its end the download fails, and the part stays for the next call.

    Returns
    -------
    bool
        False where the file was there already (another process may have fetched it meanwhile).

    Raises
    ------
    UnavailableError
        This place does not give the expected file: not found, a web page, of another size or hash. Nothing is left.
    HarnessError
        The connection was lost for good, or the disk is full; what arrived is kept in the part.
    """
    with alone(target):
        if target.exists():
            return False
        part = _Part(target)
        _complete(source, part, expected, pauses)
        if wrong := mismatch(part.path, expected):
            part.discard()
            raise UnavailableError(f"{source.url} gave another file than expected: it {wrong}. It was deleted.")
        part.publish()
    return True


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """Keep other processes from fetching ``target``; waits, and says so, while one does."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"another process is fetching {target.name}: waiting for it")
            lock.acquire()
    except OSError as error:
        raise HarnessError(
            f"Cannot write to {target.parent}: {error.strerror or error}. Choose a folder you may write to with "
            "HARNESS_WEIGHTS=DIR."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _complete(source: Source, part: _Part, expected: Expected, pauses: Sequence[float]) -> None:
    waits, arrived = iter(pauses), False
    while True:
        before = part.size
        try:
            _receive(source, part, expected)
        except (CutError, UnreachableError) as error:
            if isinstance(error, OutOfRangeError):
                part.discard()
            gained = part.size > before
            arrived = arrived or gained
            if isinstance(error, UnreachableError) and not arrived:
                raise  # never reached at all: asking again at once will not help
            waits = iter(pauses) if gained else waits
            if (wait := next(waits, None)) is None:
                raise HarnessError(
                    f"The download of {part.target.name} ended early at byte {part.size}: {error}. What arrived is "
                    f"kept in {part.path}; the same command goes on from there."
                ) from error
            time.sleep(wait)
        else:
            return


def _receive(source: Source, part: _Part, expected: Expected) -> None:
    offset, validator = part.resume_from(source.url, trusted=expected.sha256 is not None)
    if offset and offset == part.total:
        return
    with open_source(source, offset, validator) as answer:
        if expected.bytes is not None and answer.total not in (None, expected.bytes):
            part.discard()
            raise UnavailableError(
                f"{source.url} serves {answer.total} bytes, the published file has {expected.bytes}."
            )
        if answer.start == 0:
            part.begin(source.url, answer.validator, answer.total)
        elif answer.start != offset or answer.total != part.total:
            part.discard()
            raise CutError("the file on the server is another one than when the download began")
        _require_space(part, answer.total)
        total = None if answer.total is None else -(-answer.total // _PIECE)
        for _ in track(_pieces(answer, part), f"{part.target.name} (MiB)", total, part.size // _PIECE):
            pass


def _pieces(answer: Answer, part: _Part) -> Iterator[None]:
    """Append what arrives to the part; one step per mebibyte."""
    steps = part.size // _PIECE
    with part.appending() as append:
        while data := _arriving(answer.body):
            append(data)
            while part.size // _PIECE > steps:
                steps += 1
                yield
    if answer.total is not None and part.size < answer.total:
        raise CutError(f"the connection closed after {part.size} of {answer.total} bytes")


def _arriving(body: http.client.HTTPResponse) -> bytes:
    try:
        # what has arrived, not a full buffer: a connection that stalls must not take data with it
        return body.read1(_PIECE)
    except (http.client.HTTPException, OSError) as error:
        raise CutError(str(error) or type(error).__name__) from error


def _require_space(part: _Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        raise HarnessError(
            f"{part.target.name} needs {total - part.size:,} more bytes and {part.path.parent} has {free:,} free. "
            "Free some space, or choose another folder with HARNESS_WEIGHTS=DIR."
        )


class _Part:
    """The file while it comes, and what is known of it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._about = target.with_name(target.name + ".part.json")
        self.total: int | None = None

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def resume_from(self, url: str, *, trusted: bool) -> tuple[int, str | None]:
        """Return offset and validator to go on with; (0, None) where the part cannot be told to be of this file."""
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            same = about["url"] == url
            validator, self.total = about["validator"], about["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None
        # without a validator or a hash to compare with in the end, two versions could be joined unnoticed
        return (self.size, validator) if same and (validator or trusted) else (0, None)

    def begin(self, url: str, validator: str | None, total: int | None) -> None:
        self.total = total
        self.path.unlink(missing_ok=True)
        write_json(self._about, {"url": url, "validator": validator, "total": total})

    @contextlib.contextmanager
    def appending(self) -> Iterator[Callable[[bytes], None]]:
        """Yield a function that appends bytes, all of them or with an error."""

        def append(data: bytes) -> None:
            try:
                while data:  # a disk that fills up takes a part of them first
                    data = data[os.write(descriptor, data) :]
            except OSError as error:
                raise self._full(error) from error

        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._full(error) from error
        try:
            yield append
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Give the whole file its name."""
        with self.path.open("rb") as stream:
            os.fsync(stream.fileno())
        self.path.replace(self.target)
        self._about.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def _full(self, error: OSError) -> HarnessError:
        return HarnessError(
            f"Could not write {self.path} beyond byte {self.size}: {error.strerror or error}. Free some space or "
            "choose another folder with HARNESS_WEIGHTS=DIR; the same command goes on from there."
        )
