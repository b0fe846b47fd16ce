"""Cells as tasks of a Ray cluster, of one that runs or one started here for the sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UserError
from harness.executors import RayExecutor
from harness.progress import say
from harness.sweep.cells import Cell
from harness.sweep.pools import Ended
from harness.sweep.worker import Work
from harness.training.interruption import InterruptedRunError

__all__ = ["RayPool"]

_WAIT_SECONDS = 1.0
_TRIES = 10  # of a cell that is asked to stop again and again, as on a cluster that shrinks


@dataclass(frozen=True)
class _Sent:
    """A cell that Ray has, the file with its configuration, and how often it was sent."""

    cell: Cell
    file: str
    tries: int


class RayPool:
    """Sends every cell to Ray, which keeps the queue and deals out cores and GPUs.

    Parameters
    ----------
    executor : RayExecutor
        Which cluster, and the resources of one cell.

    Raises
    ------
    UserError
        ray is not installed.
    HarnessError
        The cluster cannot be reached.
    """

    def __init__(self, executor: RayExecutor) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("executor=ray needs ray, which is not installed: pip install 'voxharness[ray]'.") from error
        self._ray: Any = ray
        self._own = executor.address is None and not ray.is_initialized()
        if not ray.is_initialized():
            try:
                ray.init(address=executor.address, include_dashboard=False, log_to_driver=False)
            except (ConnectionError, RuntimeError, OSError) as error:
                raise HarnessError(
                    f"No Ray cluster answers at {executor.address}: {error}. `ray status` shows whether one runs; "
                    "without executor.address one is started here."
                ) from error
        total = ray.cluster_resources()
        for name, wanted in (("CPU", executor.cpus), ("GPU", executor.gpus)):
            if wanted > total.get(name, 0):
                raise UserError(
                    f"A cell asks for {wanted:g} {name}, the Ray cluster has {total.get(name, 0):g}. It would wait for "
                    f"ever: lower executor.{name.lower()}s or add nodes."
                )
        # a cell that fails is a result of the sweep; Ray must not try it again by itself
        remote = ray.remote(num_cpus=executor.cpus, num_gpus=executor.gpus, max_retries=0, max_calls=1)
        self._task: Any = remote(_execute)
        self._cells: dict[Any, _Sent] = {}

    def has_room(self) -> bool:
        """Return True: Ray keeps the queue."""
        return True

    def start(self, cell: Cell, file: Path) -> None:
        """Send a cell."""
        self._send(_Sent(cell, str(file.resolve()), 1))

    def ended(self) -> list[Ended]:
        """Return the cells whose tasks are over."""
        if not self._cells:
            return []
        done, _ = self._ray.wait(list(self._cells), num_returns=1, timeout=_WAIT_SECONDS)
        over = []
        for reference in done:
            sent = self._cells.pop(reference)
            why, asked_to_stop = self._end_of(reference)
            if asked_to_stop and sent.tries < _TRIES:
                say(f"{sent.cell.name}: was asked to stop and is sent again")
                self._send(_Sent(sent.cell, sent.file, sent.tries + 1))
            else:
                over.append(Ended(sent.cell, why, asked_to_stop=asked_to_stop))
        return over

    def _send(self, sent: _Sent) -> None:
        self._cells[self._task.remote(sent.file)] = sent

    def _end_of(self, reference: Any) -> tuple[str | None, bool]:
        """Return what ended a task, and whether it was asked to stop."""
        try:
            why, asked_to_stop = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return f"its Ray task died: {' '.join(str(error).split())[:500]}", False
        return why, asked_to_stop

    def stop(self) -> None:
        """Cancel every task; a cell goes on from its checkpoint next time."""
        for reference in self._cells:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Shut down the cluster if it was started here."""
        if self._own:
            self._ray.shutdown()


def _execute(file: str) -> tuple[str | None, bool]:
    """Execute a cell in a Ray worker; return what was wrong, since our errors need not be known to the driver.

    The second value tells whether the cell was asked to stop and saved its state.
    """
    try:
        Work()(file)
    except HarnessError as error:
        return str(error), isinstance(error, InterruptedRunError)
    return None, False
