"""Processes that share the work on many records: started where it pays, kept until the last of the work is done."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Final, TypeVar

__all__ = ["Crew"]

_LARGEST_CHUNK: Final = 50
T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """A pool that starts with the first work that is worth it; a context manager.

    Parameters
    ----------
    workers : int
        Processes; with one, everything is done in this process.
    worth : int
        With fewer items than this, starting interpreters costs more than it saves.
    """

    def __init__(self, workers: int, worth: int) -> None:
        self._workers, self._worth = workers, worth
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=kind is not None)

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Yield the results in the order of the items. What goes to the processes and back must be picklable."""
        if self._workers < 2 or (self._pool is None and len(items) < self._worth):
            return map(work, items)
        if self._pool is None:
            # A fresh interpreter per worker: forking a process that has threads (NumPy, progress bars) may deadlock.
            self._pool = ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn"), _unhurried_collector)
        chunk = max(1, min(_LARGEST_CHUNK, len(items) // (4 * self._workers)))
        return self._pool.map(work, items, chunksize=chunk)


def _unhurried_collector() -> None:
    """Look for cyclic garbage rarely: records are trees, freed as soon as they are let go."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
