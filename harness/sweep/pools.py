"""Where the cells of a sweep run: processes on this machine here, Slurm and Ray beside this file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from harness.executors import Executor, LocalExecutor
from harness.machine import processors
from harness.sweep.cells import Cell
from harness.training.interruption import REQUEUE

__all__ = ["Ended", "LocalPool", "Pool", "make_pool", "visible_gpus"]

_GRACE_SECONDS = 30.0  # to write a last checkpoint, after SIGTERM


@dataclass(frozen=True)
class Ended:
    """A cell whose process is over.

    Attributes
    ----------
    cell : Cell
        Which one.
    why : str or None
        What ended it, where that is not in its folder.
    log : Path or None
        What it printed.
    asked_to_stop : bool
        It saved its state because somebody asked it to, and did not fail.
    """

    cell: Cell
    why: str | None
    log: Path | None = None
    asked_to_stop: bool = False


class Pool(Protocol):
    """Runs cells, several at a time."""

    def has_room(self) -> bool:
        """Tell whether another cell can be started now."""

    def start(self, cell: Cell, file: Path) -> None:
        """Start a cell whose configuration lies in ``file``."""

    def ended(self) -> Sequence[Ended]:
        """Return what ended since the last call; waits a little where nothing did."""

    def stop(self) -> None:
        """End or leave what runs, as this executor does; called when the sweep is interrupted."""

    def close(self) -> None:
        """Let go of what the pool holds; called at the end in any case."""


def make_pool(executor: Executor, folder: Path) -> Pool:
    """Return the pool of an executor; ``folder`` is for its own files.

    Raises
    ------
    UserError
        The extra that the executor needs is not installed.
    """
    if executor.name == "slurm":
        from harness.sweep.slurm import SlurmPool

        return SlurmPool(executor, folder)
    if executor.name == "ray":
        from harness.sweep.ray_cluster import RayPool

        return RayPool(executor)
    return LocalPool(executor)


def visible_gpus() -> tuple[str, ...]:
    """Return the devices this process may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip() and name.strip() != "-1")
    try:
        found = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607 - wherever the driver's installer put it
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(number) for number, line in enumerate(found.stdout.splitlines()) if line.startswith("GPU "))


@dataclass
class _Child:
    cell: Cell
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    slot: int


class LocalPool:
    """Each cell in a process of its own; GPUs are dealt out one per process, cores are shared evenly.

    Parameters
    ----------
    executor : LocalExecutor
        How many at a time, and which devices.
    """

    def __init__(self, executor: LocalExecutor) -> None:
        self.gpus = visible_gpus() if executor.gpus is None else executor.gpus
        self.jobs = executor.jobs or len(self.gpus) or 1
        self._children: list[_Child] = []

    def has_room(self) -> bool:
        """Tell whether fewer cells run than may."""
        return len(self._children) < self.jobs

    def start(self, cell: Cell, file: Path) -> None:
        """Start a process; what it prints goes beside the file."""
        taken = {child.slot for child in self._children}
        slot = next(number for number in range(self.jobs) if number not in taken)
        log = file.with_suffix(".log").open("ab")
        # a session of its own: Ctrl-C in the terminal reaches the sweep alone, which then asks every cell to save
        process = subprocess.Popen(  # noqa: S603 - our own interpreter on our own module
            [sys.executable, "-m", "harness.sweep.worker", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment(slot),
            start_new_session=True,
        )
        self._children.append(_Child(cell, process, log, slot))

    def environment(self, slot: int) -> dict[str, str]:
        """Return the environment of the process in a slot: its GPU, and its share of the cores."""
        environment = dict(os.environ)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        if self.jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, processors() // self.jobs)))
        return environment

    def ended(self) -> list[Ended]:
        """Return the cells whose process is over."""
        over = [child for child in self._children if child.process.poll() is not None]
        for child in over:
            child.log.close()
            self._children.remove(child)
        if not over:
            time.sleep(0.1)
        return [
            Ended(child.cell, _why(child.process.returncode), Path(child.log.name), child.process.returncode == REQUEUE)
            for child in over
        ]

    def stop(self) -> None:
        """Ask every process to save and end; kill what does not."""
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for child in self._children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.log.close()
        self._children.clear()

    def close(self) -> None:
        """Nothing is held once every process is over."""


def _why(code: int) -> str | None:
    """Put the end of a process into words; None where it went well."""
    if code == 0:
        return None
    if code > 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; the machine was probably out of memory" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
