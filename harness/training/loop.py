"""The loop. Plain torch, one screen, nothing hidden: a batch is a function of the step, so resuming is exact."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from harness.adapters.parts import Parts
from harness.progress import track
from harness.training.activations import recomputed
from harness.training.device import Numerics
from harness.training.distributed import World, current, naming_lost_ranks
from harness.training.guard import DivergedError, FiniteGuard, diverged, naming_compiler, naming_memory_knobs
from harness.training.interruption import InterruptedRunError, Interruption
from harness.training.log import CurveLog
from harness.training.profiling import profiling, span
from harness.training.session import Outcome, Session
from harness.training.settings import Training

__all__ = ["DivergedError", "Outcome", "Trainable", "fit"]

Batches = Iterator[Mapping[str, Tensor]]


class Trainable(Protocol):
    """What the loop can train: a fine-tuning task or a pretext task."""

    def batches(self, start: int, stop: int) -> Batches:
        """Yield the batch of every step in ``range(start, stop)``; the same step always gives the same batch."""

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of one batch."""

    def validate(self, network: nn.Module) -> float:
        """Return the score that selection maximises; every rank gets the same."""


@runtime_checkable
class GivesParts(Protocol):
    """A task that can make one rank's part of a batch without making the rest."""

    def batches_of(self, world: World, start: int, stop: int) -> Batches:
        """Yield this rank's part of every batch in ``range(start, stop)``."""


def fit(
    network: nn.Module,
    task: Trainable,
    settings: Training,
    folder: Path,
    log: Path,
    numerics: Numerics,
    parts: Parts | None = None,
    *,
    profile: int = 0,
) -> Outcome:
    """Train ``network`` to the end of its budget, from the newest checkpoint in ``folder`` if there is one.

    Parameters
    ----------
    network : nn.Module
        Changed in place; at the end it holds the selected weights.
    task : Trainable
        Where batches and losses come from.
    settings : Training
        Budget, optimiser, schedule, selection.
    folder : Path
        Where checkpoints are kept.
    log : Path
        The curve, one JSON object a line.
    numerics : Numerics
        Device, precision, memory format.
    parts : Parts, optional
        What is encoder and output, which every fine-tuning mode but the full one needs.
    profile : int
        How many steps to profile, into ``profile/`` beside the log.

    Raises
    ------
    UserError
        The fine-tuning mode does not suit the network.
    DivergedError
        A loss was not finite, seen at the next log line or checkpoint. The last checkpoint stays, the batch is kept.
    InterruptedRunError
        SIGTERM or SIGUSR1 came; the state after the step that was under way is saved.
    OutOfMemoryError
        A step needs more memory than there is.
    HarnessError
        A checkpoint cannot be written, another rank is gone, or torch.compile failed.
    """
    with naming_lost_ranks():
        run = Session(network, settings, folder, numerics, current(), parts)
        run.resume()
        curve = CurveLog(log, keep_until=run.step, silent=not run.world.is_main)
        network.train()
        with (
            naming_memory_knobs(settings),
            naming_compiler(settings.compile),
            recomputed(network, settings.activation_checkpointing),
            profiling(log.parent / "profile" if run.world.is_main else None, profile, numerics.device) as step_ends,
        ):
            run.prepare()
            _train(run, task, curve, step_ends)
        return run.finish()


def _train(run: Session, task: Trainable, curve: CurveLog, step_ends: Callable[[], None]) -> None:
    """Do the steps that are left."""
    guard = FiniteGuard()
    batches = _batches(task, run.world, run.step, run.end)
    clock = time.perf_counter
    with Interruption() as interruption:
        mark = clock()
        for _ in _counted(run):
            waited = clock()
            with span("data"):
                batch = run.numerics.move(next(batches))
            run.wait_seconds += clock() - waited

            loss = run.update(task, batch)
            guard.saw(loss, run.step)

            asked = run.world.any(interruption.signal is not None)
            with span("keeping"):
                # before every checkpoint as well, so that no checkpoint holds weights that have already diverged
                if run.log_due() or run.checkpoint_due():
                    mark = _log_loss(curve, run, loss, mark)
                if run.log_due() or run.checkpoint_due() or asked:
                    _stop_if_diverged(guard, run, task)
                if run.validation_due():
                    run.seconds["train"] += clock() - mark
                    run.select(task, curve)
                    mark = clock()
                if run.checkpoint_due() or run.stopped or asked:
                    run.seconds["train"] += clock() - mark
                    run.save()
                    mark = clock()
            step_ends()
            if asked and run.step < run.end:
                raise InterruptedRunError(
                    f"Asked to stop ({interruption.signal or 'a signal to another rank'}) at step {run.step} of "
                    f"{run.settings.steps}. The state is saved; the same command goes on from here."
                )
            if run.stopped:
                break


def _batches(task: Trainable, world: World, start: int, stop: int) -> Batches:
    """Yield this rank's part of every batch."""
    if world.size == 1:
        return iter(task.batches(start, stop))
    if isinstance(task, GivesParts):
        return task.batches_of(world, start, stop)
    return (world.part(batch) for batch in task.batches(start, stop))


def _counted(run: Session) -> Iterator[int]:
    steps = range(run.step, run.end)
    if not run.world.is_main:
        return iter(steps)
    return track(steps, "training", total=run.settings.steps, start=run.step)


def _log_loss(curve: CurveLog, run: Session, loss: Tensor, mark: float) -> float:
    """Write one line of the curve. Reading the loss waits for the device, so it happens only every few steps."""
    value = sum(run.world.gather(loss.item())) / run.world.size
    now = time.perf_counter()
    run.seconds["train"] += now - mark
    curve.write(
        step=run.step,
        loss=value if math.isfinite(value) else None,
        lr=run.lr,
        seconds=run.seconds["train"],
        samples=run.samples,
    )
    return now


def _stop_if_diverged(guard: FiniteGuard, run: Session, task: Trainable) -> None:
    first = min((step for step in run.world.gather(guard.first_bad_step()) if step), default=0)
    if first:
        # a batch is a function of its step, so the one that broke the run can be made again
        raise diverged(run.folder, first, next(iter(task.batches(first - 1, first))))
