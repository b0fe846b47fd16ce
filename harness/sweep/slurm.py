"""Cells as jobs of one Slurm array, submitted through submitit. Jobs outlive the sweep; a second one attaches to them.

Which jobs are still there is asked of ``squeue``, since accounting (``sacct``) is not switched on everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
from harness.training.interruption import REQUEUE, InterruptedRunError

__all__ = ["SlurmPool", "requeue_this_job"]

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
                # its folder holds an error beside that word only where the process itself could note it
                asked = cell.folder.state == InterruptedRunError.run_state and cell.folder.error is not None
                over.append(Ended(cell, f"its Slurm job {job} ended without a record", log, asked))
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


def requeue_this_job(most: int) -> None:
    """End this process and put its job back into Slurm's queue, from where it goes on with its cell.

    Parameters
    ----------
    most : int
        How often a job may be queued again. Beyond, and where Slurm is ending the job already (it was cancelled, or is
        being preempted, after which Slurm itself queues it again), this returns and does nothing.
    """
    environment = os.environ
    if int(environment.get("SLURM_RESTART_COUNT", "0")) >= most:
        return
    task = environment.get("SLURM_ARRAY_TASK_ID")
    job = f"{environment['SLURM_ARRAY_JOB_ID']}_{task}" if task else environment["SLURM_JOB_ID"]
    if _answer("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip() != "RUNNING":
        return
    _answer("scontrol", "requeue", job)
    say(f"asked to stop: job {job} is queued again and will go on from its checkpoint")
    sys.exit(REQUEUE)


def _answer(*command: str) -> str:
    """Return what a command of Slurm says, asking again while the controller is restarting."""
    for attempt in range(5):
        try:
            found = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=60)  # noqa: S603
            return found.stdout
        except (OSError, subprocess.SubprocessError) as error:
            problem = str(getattr(error, "stderr", None) or error).strip()
            time.sleep(_LOOK_EVERY_SECONDS * attempt)
    raise HarnessError(f"`{command[0]}` does not answer: {problem}. The jobs stay; run the same command again later.")


def _noted(path: Path) -> str | None:
    return str(json.loads(path.read_text(encoding="utf-8"))["job"]) if path.is_file() else None


def _listed() -> set[str]:
    """Return the ids of all jobs that are pending, running or being requeued."""
    said = _answer("squeue", "--noheader", "--array", "--format=%i")
    return {line.strip() for line in said.splitlines() if line.strip()}
