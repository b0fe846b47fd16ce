"""Cells as jobs of one Slurm array, submitted through submitit. Jobs outlive the sweep; a second one attaches to them.

Which jobs are still there is asked of ``squeue``, since accounting (``sacct``) is not switched on everywhere.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UserError
from harness.executors import SlurmExecutor
from harness.files import write_json
from harness.progress import say
from harness.sweep.cells import Cell
from harness.sweep.pools import Ended
from harness.sweep.worker import Work

__all__ = ["SlurmPool"]

_LOOK_EVERY_SECONDS = 2.0
_ABSENT_LOOKS = 2  # a job that was submitted a moment ago may not be listed yet


class SlurmPool:
    """Submits cells to Slurm, all that are started between two looks as one array.

    Parameters
    ----------
    executor : SlurmExecutor
        Resources of one cell, and how many run at a time.
    folder : Path
        For submitit's files, and ``<cell>.job`` with the id of every job.

    Raises
    ------
    UserError
        submitit is not installed, or this machine has no Slurm.
    """

    def __init__(self, executor: SlurmExecutor, folder: Path) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                "executor=slurm needs submitit, which is not installed: pip install 'voxharness[slurm]'."
            ) from error
        self._folder = folder
        self._submitit = submitit.AutoExecutor(
            folder=folder / "slurm", cluster="slurm", slurm_max_num_timeout=executor.requeues
        )
        options: dict[str, Any] = {
            "slurm_partition": executor.partition,
            "slurm_account": executor.account,
            "slurm_qos": executor.qos,
            "slurm_setup": list(executor.setup) or None,
            "slurm_additional_parameters": dict(executor.extra) or None,
            "slurm_gpus_per_node": executor.gpus or None,
        }
        self._submitit.update_parameters(
            name="voxharness",
            timeout_min=executor.minutes,
            cpus_per_task=executor.cpus,
            mem_gb=executor.memory_gb,
            slurm_array_parallelism=executor.jobs,
            **{name: value for name, value in options.items() if value is not None},
        )
        self._waiting: list[tuple[Cell, Path]] = []
        self._jobs: dict[str, tuple[Cell, int]] = {}  # job id to its cell and how often it was not listed

    def has_room(self) -> bool:
        """Return True: Slurm keeps the queue."""
        return True

    def start(self, cell: Cell, file: Path) -> None:
        """Attach to the job of a cell where one is queued, else submit it at the next look."""
        noted = _noted(self._note(cell))
        if noted is not None and noted in _listed():
            say(f"{cell.name}: is job {noted} of Slurm already")
            self._jobs[noted] = (cell, 0)
        else:
            self._waiting.append((cell, file))

    def ended(self) -> list[Ended]:
        """Return the cells whose jobs have left Slurm's queue."""
        self._submit()
        time.sleep(_LOOK_EVERY_SECONDS)
        listed = _listed()
        over = []
        for job, (cell, absent) in list(self._jobs.items()):
            looks = 0 if job in listed else absent + 1
            self._jobs[job] = (cell, looks)
            if looks >= _ABSENT_LOOKS or (looks and cell.folder.is_complete):
                del self._jobs[job]
                log = self._folder / "slurm" / f"{job}_0_log.err"
                over.append(Ended(cell, f"its Slurm job {job} ended without a record", log))
        return over

    def stop(self) -> None:
        """Leave the jobs to Slurm, and say so."""
        if self._jobs:
            jobs = ",".join(self._jobs)
            say(
                f"{len(self._jobs)} jobs stay with Slurm; the same command attaches to them, `scancel {jobs}` ends them"
            )

    def close(self) -> None:
        """Nothing is held here."""

    def _submit(self) -> None:
        if not self._waiting:
            return
        cells = [cell for cell, _ in self._waiting]
        try:
            with self._submitit.batch():
                jobs = [self._submitit.submit(Work(), str(file.resolve())) for _, file in self._waiting]
        except Exception as error:  # submitit raises errors of its own and of subprocess
            raise HarnessError(
                f"Slurm did not take the jobs: {' '.join(str(error).split())}. Check executor.partition, account, "
                "cpus, gpus and memory_gb; `sinfo` shows what there is."
            ) from error
        self._waiting.clear()
        for cell, job in zip(cells, jobs, strict=True):
            write_json(self._note(cell), {"job": job.job_id})
            self._jobs[job.job_id] = (cell, 0)
        say(f"{len(jobs)} jobs submitted to Slurm: {jobs[0].job_id} … {jobs[-1].job_id}")

    def _note(self, cell: Cell) -> Path:
        return self._folder / f"{cell.name}.job"


def _noted(path: Path) -> str | None:
    return str(json.loads(path.read_text(encoding="utf-8"))["job"]) if path.is_file() else None


def _listed() -> set[str]:
    """Return the ids of all jobs that are pending, running or being requeued."""
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    for attempt in range(5):
        try:
            found = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=60)  # noqa: S603
            return {line.strip() for line in found.stdout.splitlines() if line.strip()}
        except (OSError, subprocess.SubprocessError) as error:
            problem = getattr(error, "stderr", None) or str(error)
            time.sleep(_LOOK_EVERY_SECONDS * attempt)  # the controller may be restarting
    raise HarnessError(f"`squeue` does not answer: {problem.strip()}. The jobs stay; run the same command again later.")
