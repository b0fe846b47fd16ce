"""The queue: cells without a valid record run, one that fails does not sink the others, an interrupted sweep goes on.

``<out>/.sweep/<cell>.json`` holds what was planned, ``.log`` what it printed. Everything else is in the run folders.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_json
from harness.progress import say
from harness.records.runfolder import planning_folder
from harness.sweep.cells import Cell
from harness.sweep.pools import Ended, Pool, make_pool
from harness.sweep.records import fault_of
from harness.training.interruption import REQUEUE, InterruptedRunError

__all__ = ["Report", "Row", "sweep"]

_LOOK_EVERY_SECONDS = 1.0  # at cells that another process works on


@dataclass(frozen=True)
class Row:
    """What became of one cell: ``complete`` (now or before), or how it stands and why. Seconds are of this sweep.

    ``interrupted`` is one that was asked to stop and saved its state; the next sweep goes on with it.
    """

    cell: str
    state: str
    seconds: float | None
    error: str | None
    where: str


@dataclass(frozen=True)
class Report:
    """What a sweep did; ``ran`` counts the cells that it started."""

    rows: tuple[Row, ...]
    ran: int

    @property
    def is_complete(self) -> bool:
        """Whether every cell has a valid record."""
        return all(row.state == "complete" for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 where all is complete, 75 where cells were asked to stop and nothing else is amiss, 1 otherwise."""
        left = {row.state for row in self.rows} - {"complete"}
        return 0 if not left else REQUEUE if left == {InterruptedRunError.run_state} else 1

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"ran": self.ran, "complete": self.is_complete, "cells": [asdict(row) for row in self.rows]}


def sweep(cells: Sequence[Cell], pool: Pool | None = None) -> Report:
    """Run every cell that has no valid record.

    Parameters
    ----------
    cells : sequence of Cell
        From `harness.sweep.expand`; they share one ``out`` and one executor.
    pool : Pool, optional
        Where they run; by default what the cells' executor says.

    Raises
    ------
    UserError
        There are no cells, or the executor's extra is not installed.
    KeyboardInterrupt
        Somebody stopped it. The same call goes on where it stopped.
    """
    if not cells:
        raise UserError("There is no cell to run. Name a model and a data set.")
    rows: dict[str, Row] = {}
    waiting: deque[Cell] = deque()
    for cell in cells:
        if cell.folder.is_complete:
            rows[cell.name] = _checked(cell, None)
        else:
            waiting.append(cell)
    if waiting:
        ran = _run(waiting, rows, pool)
    else:
        ran = 0
        say(f"nothing to do: all {len(cells)} cells are complete" if _all_fine(rows) else "nothing to run")
    return Report(tuple(rows[cell.name] for cell in cells), ran)


def _run(waiting: deque[Cell], rows: dict[str, Row], pool: Pool | None) -> int:
    first = waiting[0].config
    planned = planning_folder(first.out)
    say(f"{len(waiting)} cells to run on executor={first.executor.name}; {len(rows)} have a record already")
    pool = pool or make_pool(first.executor, planned)
    files = {cell.name: planned / f"{cell.name}.json" for cell in waiting}
    for cell in waiting:
        write_json(files[cell.name], cell.config.model_dump(mode="json"))
    began: dict[str, float] = {}
    elsewhere: list[Cell] = []
    try:
        with _stoppable():
            while waiting or elsewhere or len(began) > sum(name in rows for name in began):
                while waiting and pool.has_room():
                    cell = waiting.popleft()
                    if cell.folder.is_complete:
                        rows[cell.name] = _checked(cell, None)
                    elif cell.folder.is_held:
                        say(f"{cell.name}: another process works on it; waiting for that")
                        elsewhere.append(cell)
                    else:
                        began[cell.name] = time.monotonic()
                        pool.start(cell, files[cell.name])
                for ended in pool.ended():
                    row = _row(ended, time.monotonic() - began[ended.cell.name])
                    rows[row.cell] = row
                    say(f"{row.state}: {row.cell} ({row.seconds:.0f} s){f': {row.error}' if row.error else ''}")
                if elsewhere:
                    free = [cell for cell in elsewhere if not cell.folder.is_held]
                    elsewhere = [cell for cell in elsewhere if cell not in free]
                    waiting.extend(free)
                    if not free:
                        time.sleep(_LOOK_EVERY_SECONDS)
    except KeyboardInterrupt:
        pool.stop()
        raise
    finally:
        pool.close()
    return len(began)


def _row(ended: Ended, seconds: float) -> Row:
    """Say how a cell ended. Its folder knows, unless its process died before it could write."""
    cell = ended.cell
    if cell.folder.is_complete:
        return _checked(cell, seconds)
    if ended.asked_to_stop:
        why = cell.folder.error or "it was asked to stop; the same command goes on from here"
        return Row(cell.name, InterruptedRunError.run_state, seconds, why, str(cell.folder.path))
    if cell.folder.state in ("interrupted", "planned"):
        said = _last_line(ended.log)
        why = f"{ended.why or 'it left no record'}{f'; it said: {said}' if said else ''}"
        # a folder that the process could not even make stays absent; the report alone tells then
        if cell.folder.path.is_dir():
            cell.folder.end("failed", why)
        return Row(cell.name, "failed", seconds, why, str(cell.folder.path))
    return Row(cell.name, cell.folder.state, seconds, cell.folder.error, str(cell.folder.path))


def _checked(cell: Cell, seconds: float | None) -> Row:
    fault = fault_of(cell)
    if fault is None:
        return Row(cell.name, "complete", seconds, None, str(cell.folder.path))
    why = f"its record is not valid: {fault}. Delete {cell.folder.record} to make it again."
    return Row(cell.name, "damaged", seconds, why, str(cell.folder.path))


def _all_fine(rows: dict[str, Row]) -> bool:
    return all(row.state == "complete" for row in rows.values())


def _last_line(log: Path | None) -> str:
    if log is None or not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:500]


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the sweep as Ctrl-C does, so that cells can save; only the main thread can arrange that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
