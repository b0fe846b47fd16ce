"""The folder of the board: written aside, then put in place at once, so that nobody ever reads half a board."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError, UserError
from harness.leaderboard.render import STATIC

__all__ = ["MARKER", "new_board", "put", "put_bytes"]

MARKER = "board.json"  # a folder with this file was made by us and may be replaced


@contextlib.contextmanager
def new_board(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``out`` that takes its place if the block succeeds.

    Raises
    ------
    UserError
        ``out`` is a file, or a folder that holds something else than a board.
    HarnessError
        There is no permission to write there, or the disk is full; what was there before stays.
    """
    _refuse_foreign(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-new-"))
    except OSError as error:
        raise _cannot_write(out, error) from error
    try:
        fresh.chmod(0o755)  # mkdtemp makes a folder for its owner alone; a board is there to be read
        shutil.copytree(STATIC, fresh / "static")
        yield fresh
        _swap(fresh, out)
    except OSError as error:
        raise _cannot_write(out, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def put(path: Path, text: str) -> None:
    """Write one file of a board that is still aside; nobody reads it before it is whole, so no file needs a sync."""
    content = text.encode("utf-8")
    try:
        put_bytes(str(path), content)
    except FileNotFoundError:  # the first page of its folder
        path.parent.mkdir(parents=True, exist_ok=True)
        put_bytes(str(path), content)


def put_bytes(path: str, content: bytes) -> None:
    """Write one file as it is; a board has tens of thousands, so little stands between this and the system."""
    with open(path, "wb", buffering=0) as stream:  # noqa: PTH123 - no Path is made of each
        written = stream.write(content)
        while written < len(content):  # the system may take a part
            written += stream.write(content[written:])


def _refuse_foreign(out: Path) -> None:
    if out.is_dir():
        if any(out.iterdir()) and not (out / MARKER).is_file():
            raise UserError(
                f"{out} is not empty and is not a board (it has no {MARKER}), so replacing it could destroy files. "
                "Name another folder with --out, or empty this one."
            )
    elif out.exists() or out.is_symlink():
        raise UserError(f"{out} is not a folder. Name another place with --out.")


def _swap(fresh: Path, out: Path) -> None:
    """Put ``fresh`` in the place of ``out``. Between the two renames there is no board, but never half of one."""
    if not out.exists():
        fresh.rename(out)
        return
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-old-"))
    try:
        out.rename(aside / "board")
        try:
            fresh.rename(out)
        except OSError:
            (aside / "board").rename(out)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _cannot_write(out: Path, error: OSError) -> HarnessError:
    return HarnessError(
        f"Could not write the board to {out}: {error.strerror or error}. What was there before is unchanged. "
        "Free some space or name a folder you may write to with --out, then build it again."
    )
