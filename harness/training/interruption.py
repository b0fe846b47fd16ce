"""Being asked to stop: a signal is noted, the step is finished, the state is saved, the process leaves.

Slurm sends SIGTERM before it takes a node away, or the signal that ``sbatch --signal=USR1@120`` names.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from harness.errors import HarnessError

__all__ = ["REQUEUE", "InterruptedRunError", "Interruption"]

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, the same command later goes on


class InterruptedRunError(HarnessError):
    """The run was asked to stop and saved its state."""

    exit_code = REQUEUE
    run_state = "interrupted"


class Interruption:
    """Notes SIGTERM and SIGUSR1 while the block runs, however often they come; SIGKILL is what does not wait."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # Python takes handlers nowhere else
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = signal.Signals(number).name
