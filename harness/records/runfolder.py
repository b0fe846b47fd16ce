"""The folder that executing a cell leaves behind: its parts, its state, and the lock of whoever works in it.

::

    <out>/<cell>/run.json       state and dates, for people and for `harness list runs`; never hashed
                 lock           held by the process that works here
                 checkpoints/   resumable state
                 predictions/   one label map per scored case, in the scan's own grid
                 record/        the record, complete once record.json is there
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import HarnessError
from harness.files import TEMPORARY, write_json

__all__ = ["RunFolder", "claim_folder", "planning_folder"]


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Attributes
    ----------
    path : Path
        The folder.
    follows : bool
        This process helps the one that holds the folder, and notes nothing there itself.
    """

    path: Path
    follows: bool = False

    @property
    def checkpoints(self) -> Path:
        """Where the loop keeps its state."""
        return self.path / "checkpoints"

    @property
    def predictions(self) -> Path:
        """Label maps, one NIfTI file per scored case."""
        return self.path / "predictions"

    @property
    def sums(self) -> Path:
        """Sums over probabilities, one JSON file per scored case, where the protocol keeps them."""
        return self.path / "sums"

    @property
    def record(self) -> Path:
        """The record's folder."""
        return self.path / "record"

    @property
    def log(self) -> Path:
        """The curve while it grows; the record holds a copy."""
        return self.path / "log.jsonl"

    @property
    def is_complete(self) -> bool:
        """Whether the record is there; it is written last."""
        return (self.record / "record.json").is_file()

    @property
    def resumes(self) -> int:
        """How often work here was taken up again after an interruption."""
        return int(self._read().get("resumes", 0))

    @property
    def is_held(self) -> bool:
        """Whether a process works here now."""
        if not (self.path / "lock").is_file():
            return False
        try:
            with FileLock(self.path / "lock", timeout=0):
                return False
        except (Timeout, OSError):
            return True

    @property
    def state(self) -> str:
        """One word: complete, running, interrupted (its process died), planned (nothing yet), failed, diverged."""
        if self.is_held:
            return "running"
        noted = str(self._read().get("state", "planned"))
        if noted == "running":
            return "complete" if self.is_complete else "interrupted"
        return noted

    @property
    def error(self) -> str | None:
        """What ended the work, as far as it could be noted."""
        return self._read().get("error")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Note that the block starts, or is taken up again, and how it ended, whatever ended it."""
        if self.follows:
            yield
            return
        self.begin()
        try:
            yield
        except HarnessError as error:
            self.end(error.run_state, str(error))
            raise
        except BaseException as error:
            self.end("failed", type(error).__name__)
            raise
        self.end("complete")

    def begin(self) -> None:
        """Note that work starts, or is taken up again."""
        known = self._read()
        self._write("running", None, known, resumes=int(known["resumes"]) + 1 if known else 0)

    def end(self, state: str, error: str | None = None) -> None:
        """Note how it ended."""
        known = self._read()
        self._write(state, error, known, resumes=int(known.get("resumes", 0)))

    def _write(self, state: str, error: str | None, known: dict[str, Any], resumes: int) -> None:
        content = {"state": state, "error": error, "started": known.get("started", _now()), "updated": _now()}
        write_json(self.path / "run.json", {**content, "resumes": resumes})

    def _read(self) -> dict[str, Any]:
        path = self.path / "run.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return content


def planning_folder(out: Path) -> Path:
    """Return where sweeps keep ``<cell>.json``, the configuration of every cell they planned, and what it printed."""
    return out / ".sweep"


@contextmanager
def claim_folder(path: Path, *, follow: bool = False) -> Iterator[RunFolder]:
    """Hold a run's folder alone; the operating system lets go of it when the process dies, however it dies.

    With ``follow`` another process of the same job holds it, and this one only joins in.

    Raises
    ------
    HarnessError
        Another process works in it, or it cannot be written to.
    """
    if follow:
        yield RunFolder(path, follows=True)
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / "lock")
        lock.acquire(timeout=1)  # whoever only looks whether the folder is held lets go at once
    except Timeout as error:
        raise HarnessError(
            f"Another process is executing this run ({path}). Wait for it, or stop it; the same command then goes on "
            "from its last checkpoint."
        ) from error
    except OSError as error:
        raise HarnessError(
            f"Cannot write to {path}: {error.strerror}. Choose another folder with out=DIR or fix its permissions."
        ) from error
    try:
        for torn in path.rglob(f"{TEMPORARY}*"):
            torn.unlink(missing_ok=True)  # a killed process could not tidy up, and we are alone here now
        yield RunFolder(path)
    finally:
        lock.release()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
