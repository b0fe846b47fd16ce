"""Cells as tasks of a Ray cluster, of one that runs or one started here for the sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UserError
from harness.executors import RayExecutor
from harness.sweep.cells import Cell
from harness.sweep.pools import Ended
from harness.sweep.worker import Work

__all__ = ["RayPool"]

_WAIT_SECONDS = 1.0


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
        self._cells: dict[Any, Cell] = {}

    def has_room(self) -> bool:
        """Return True: Ray keeps the queue."""
        return True

    def start(self, cell: Cell, file: Path) -> None:
        """Send a cell."""
        self._cells[self._task.remote(str(file.resolve()))] = cell

    def ended(self) -> list[Ended]:
        """Return the cells whose tasks are over."""
        if not self._cells:
            return []
        done, _ = self._ray.wait(list(self._cells), num_returns=1, timeout=_WAIT_SECONDS)
        return [Ended(self._cells.pop(reference), self._why(reference)) for reference in done]

    def _why(self, reference: Any) -> str | None:
        try:
            said: str | None = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return f"its Ray task died: {' '.join(str(error).split())[:500]}"
        return said

    def stop(self) -> None:
        """Cancel every task; a cell goes on from its checkpoint next time."""
        for reference in self._cells:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Shut down the cluster if it was started here."""
        if self._own:
            self._ray.shutdown()


def _execute(file: str) -> str | None:
    """Execute a cell in a Ray worker; return what was wrong, since our errors need not be known to the driver."""
    try:
        Work()(file)
    except HarnessError as error:
        return str(error)
    return None
