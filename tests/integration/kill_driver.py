"""Runs one cell in forked processes that are killed at named points or random moments. Used by test_kill.py.

Importing torch and MONAI takes longer than the cell itself, so they are imported once, here, and every attempt is a
fork: a real process, killed by a real SIGKILL.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness.records.store
import harness.run
import harness.training.evaluation
import harness.training.state
from harness.cli import main
from harness.config import run_config

for slow in ("torch._inductor", "scipy.stats", "harness.records.verify"):
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


def at_random(folders: list[list[str]], kills: int, seed: int) -> list[list[int]]:
    """Start the cell of each folder until it is whole, killing at random moments until so many kills have happened.

    The folder after the last kill ends undisturbed, those after it are not begun. The first one measures, without a
    kill, how long a run takes.
    """
    rng, codes, left = random.Random(seed), [], kills
    typical = 0.0
    for overrides in folders:
        config, found = run_config(overrides), []
        while not found or found[-1] != 0:
            begin = time.monotonic()
            pid = os.fork()
            if pid == 0:
                harness.run.run(config)
                os._exit(0)
            if typical and left:
                # a run that was resumed is shorter, so most moments lie within it, whatever it is doing then
                time.sleep(rng.uniform(0, typical))
                os.kill(pid, signal.SIGKILL)
            found.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            left -= found[-1] == -signal.SIGKILL
            typical = typical or time.monotonic() - begin
            if found[-1] not in (0, -signal.SIGKILL):
                return [*codes, found]
        codes.append(found)
        if not left:
            break
    return codes


if __name__ == "__main__":
    plan = json.loads(sys.stdin.read())
    if isinstance(plan, dict):
        answer = at_random(**plan)
    else:
        answer = [[attempt(job["arguments"], *kill) for kill in job["kills"]] for job in plan]
    sys.stdout.write(json.dumps(answer))
