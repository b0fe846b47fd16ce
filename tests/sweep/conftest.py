"""A sweep of tiny cells, and a pool that runs them in this process, since starting Python with torch takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.sweep import Cell
from harness.sweep.pools import Ended
from harness.sweep.worker import Work
from harness.training.interruption import InterruptedRunError


class InProcess:
    """Runs every cell at once; ``before`` may raise in its place."""

    def __init__(self, before: Callable[[Cell], None] = lambda cell: None) -> None:
        self.started: list[str] = []
        self.stopped = self.closed = False
        self._before, self._over = before, list[Ended]()

    def has_room(self) -> bool:
        return not self._over

    def start(self, cell: Cell, file: Path) -> None:
        self.started.append(cell.name)
        why, asked = None, False
        try:
            self._before(cell)
            Work()(str(file))
        except HarnessError as error:
            why, asked = str(error), isinstance(error, InterruptedRunError)
        self._over.append(Ended(cell, why, asked_to_stop=asked))

    def ended(self) -> list[Ended]:
        over, self._over = self._over, []
        return over

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def in_process() -> type[InProcess]:
    return InProcess
