"""What runs where a cell was sent: ``python -m harness.sweep.worker FILE`` executes the cell described there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from harness.config import RunConfig
from harness.errors import HarnessError
from harness.executors import SlurmExecutor
from harness.training.interruption import InterruptedRunError

__all__ = ["Work", "read_cell"]


def read_cell(file: Path) -> RunConfig:
    """Read the configuration of a cell as the queue wrote it."""
    return RunConfig.model_validate(json.loads(file.read_text(encoding="utf-8")))


class Work:
    """A cell as a call, for executors that send calls: Slurm through submitit, and Ray."""

    def __call__(self, file: str) -> str:
        """Execute the cell; return its record's folder, or raise what ended it.

        A job of Slurm that is asked to stop goes back into the queue.
        """
        from harness.run import run

        config = read_cell(Path(file))
        try:
            return str(run(config))
        except InterruptedRunError:
            if isinstance(config.executor, SlurmExecutor) and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
                from harness.sweep.slurm import requeue_this_job

                requeue_this_job(config.executor.requeues)
            raise

    def checkpoint(self, file: str) -> object:
        """Tell submitit how to go on after a time limit or pre-emption: the same call, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, file)


def main() -> int:
    """Execute the cell named on the command line."""
    try:
        Work()(sys.argv[1])
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
