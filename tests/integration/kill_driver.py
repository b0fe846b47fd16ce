"""Runs one cell in forked processes that are killed at named points, then once undisturbed. Used by test_kill.py.

Importing torch and MONAI takes longer than the cell itself, so they are imported once, here, and every attempt is a
fork: a real process, killed by a real SIGKILL.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness.records.store
import harness.run
import harness.training.evaluation
import harness.training.state
from harness.cli import main

for slow in ("torch._inductor", "scipy.stats", "harness.config", "harness.records.verify"):
    importlib.import_module(slow)  # what a run imports on its way, once instead of in every fork


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(calls: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function: it works ``calls`` times, the next call dies instead."""
    left = [calls]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if left[0] == 0:
            die()
        left[0] -= 1
        return original(*arguments, **options)

    return wrapped


def in_step(number: int) -> None:
    task = harness.run.SegmentationTask
    task.loss = after(number, task.loss)  # type: ignore[method-assign]


def in_checkpoint_write(number: int) -> None:
    original = harness.training.state.write_state

    def torn(path: Path, state: dict[str, Any]) -> None:
        original(path, state)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        die()

    left = [number]

    def write(path: Path, state: dict[str, Any]) -> None:
        left[0] -= 1
        (torn if left[0] < 0 else original)(path, state)

    harness.training.state.write_state = write


def between_renames(number: int) -> None:
    """Die when the old checkpoint has become the previous one and the new one is not in its place yet."""
    original, left = Path.replace, [number]

    def replace(path: Path, target: Path) -> Path:
        moved = original(path, target)
        if Path(target).name == "state.previous.pt":
            if left[0] == 0:
                die()
            left[0] -= 1
        return moved

    Path.replace = replace  # type: ignore[method-assign, assignment]


def in_prediction(number: int) -> None:
    module = harness.training.evaluation
    module.write_labels = after(number, module.write_labels)


def in_record(number: int) -> None:
    module = harness.records.store
    module.write_text = after(number, module.write_text)


POINTS = {
    function.__name__: function
    for function in (in_step, in_checkpoint_write, between_renames, in_prediction, in_record)
}


def attempt(arguments: list[str], point: str | None = None, number: int = 0) -> int:
    """Run the command in a forked process; return its exit code, negative where a signal ended it."""
    pid = os.fork()
    if pid == 0:
        if point is not None:
            POINTS[point](number)
        os._exit(main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    plan = json.loads(sys.stdin.read())
    codes = [[attempt(job["arguments"], *kill) for kill in job["kills"]] for job in plan]
    sys.stdout.write(json.dumps(codes))
