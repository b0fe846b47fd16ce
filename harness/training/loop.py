"""The loop. Plain torch, one screen, nothing hidden: a batch is a function of the step, so resuming is exact."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.progress import say, track
from harness.training.device import Numerics, rng_state, set_rng_state
from harness.training.log import CurveLog
from harness.training.optim import make_optimizer, make_scheduler
from harness.training.settings import Training
from harness.training.state import load_latest, save_state

__all__ = ["DivergedError", "Outcome", "Trainable", "fit"]


class Trainable(Protocol):
    """What the loop can train: a fine-tuning task or a pretext task."""

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        """Yield the batch of every step in ``range(start, stop)``; the same step always gives the same batch."""

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of one batch."""

    def validate(self, network: nn.Module) -> float:
        """Return the score that selection maximises."""


class DivergedError(HarnessError):
    """The loss is no longer a number."""

    run_state = "diverged"


@dataclass(frozen=True)
class Outcome:
    """What a training run ended with.

    Attributes
    ----------
    steps : int
        Updates done.
    selected_step : int
        The update whose weights the network now holds.
    best_score : float or None
        Its validation score, where one chose it.
    seconds : dict of str to float
        Wall time of ``train`` and ``validate``, summed over all resumes.
    wait_seconds : float
        Part of ``train`` spent waiting for batches.
    resumed : int
        How often the run was continued.
    """

    steps: int
    selected_step: int
    best_score: float | None
    seconds: dict[str, float]
    wait_seconds: float
    resumed: int


def fit(
    network: nn.Module, task: Trainable, settings: Training, folder: Path, log: Path, numerics: Numerics
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

    Raises
    ------
    DivergedError
        A logged loss is not finite. The last checkpoint stays.
    HarnessError
        A checkpoint cannot be written.
    """
    run = _Run(network, settings, folder, numerics)
    run.resume()
    curve = CurveLog(log, keep_until=run.step)
    forward = cast(nn.Module, torch.compile(network)) if settings.compile else network
    batches = task.batches(run.step, settings.steps)
    network.train()
    mark = time.perf_counter()
    for _ in track(range(run.step, settings.steps), "training", total=settings.steps, start=run.step):
        waited = time.perf_counter()
        batch = numerics.move(next(batches))
        run.wait_seconds += time.perf_counter() - waited

        with numerics.autocast():
            loss = task.loss(forward, batch)
        run.update(loss)

        # before every checkpoint as well, so that no checkpoint holds weights that have already diverged
        if run.step % settings.log_every == 0 or run.checkpoint_due():
            mark = _log_loss(curve, run, loss, mark)
        if settings.selection.rule == "best_val" and run.validation_due():
            run.seconds["train"] += time.perf_counter() - mark
            run.select(task, curve)
            mark = time.perf_counter()
        if run.checkpoint_due():
            run.seconds["train"] += time.perf_counter() - mark
            run.save()
            mark = time.perf_counter()
    return run.finish()


def _log_loss(curve: CurveLog, run: _Run, loss: Tensor, mark: float) -> float:
    """Write one line of the curve. Reading the loss waits for the device, so it happens only every few steps."""
    value = loss.item()
    now = time.perf_counter()
    run.seconds["train"] += now - mark
    curve.write(step=run.step, loss=value if math.isfinite(value) else None, lr=run.lr, seconds=run.seconds["train"])
    if not math.isfinite(value):
        raise DivergedError(
            f"The loss became {value} at step {run.step}. The run is marked as diverged. "
            "Lower protocol.training.optimizer.lr, set protocol.training.clip_norm, or turn AMP off."
        )
    return now


class _Run:
    """Everything that changes while training, and so everything that a checkpoint holds."""

    def __init__(self, network: nn.Module, settings: Training, folder: Path, numerics: Numerics) -> None:
        self.network, self.settings, self.folder, self.numerics = numerics.place(network), settings, folder, numerics
        self.optimizer = make_optimizer(settings.optimizer, network)
        self.scheduler = make_scheduler(settings.schedule, self.optimizer, settings.steps)
        self.step = 0
        self.best: dict[str, Any] | None = None
        self.seconds = {"train": 0.0, "validate": 0.0}
        self.wait_seconds = 0.0
        self.resumed = 0

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def update(self, loss: Tensor) -> None:
        """Do one optimiser update."""
        scaler = self.numerics.scaler
        self.optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.settings.clip_norm is not None:
            scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        scaler.step(self.optimizer)
        scaler.update()
        self.scheduler.step()
        self.step += 1

    def validation_due(self) -> bool:
        """Tell whether this step ends with a validation; the last one always does."""
        return self.step % self.settings.selection.every == 0 or self.step == self.settings.steps

    def checkpoint_due(self) -> bool:
        """Tell whether this step ends with a checkpoint; the last one always does."""
        return self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps

    def select(self, task: Trainable, curve: CurveLog) -> None:
        """Validate, and keep the weights if they are the best so far (the earlier one wins a tie)."""
        begin = time.perf_counter()
        score = task.validate(self.network)
        self.network.train()
        self.seconds["validate"] += time.perf_counter() - begin
        curve.write(step=self.step, metric=score, role="val")
        if self.best is None or score > self.best["score"]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
            self.best = {"score": score, "step": self.step, "network": weights}

    def save(self) -> None:
        """Write a resumable checkpoint."""
        save_state(
            self.folder,
            {
                "step": self.step,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.numerics.scaler.state_dict(),
                "rng": rng_state(),
                "best": self.best,
                "seconds": self.seconds,
                "wait_seconds": self.wait_seconds,
                "resumed": self.resumed,
            },
        )

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        state = load_latest(self.folder)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.numerics.scaler.load_state_dict(state["scaler"])
        set_rng_state(state["rng"])
        self.step, self.best = int(state["step"]), state["best"]
        self.seconds, self.wait_seconds = state["seconds"], float(state["wait_seconds"])
        self.resumed = int(state["resumed"]) + 1
        if self.step < self.settings.steps:
            say(f"resuming at step {self.step} of {self.settings.steps}")

    def finish(self) -> Outcome:
        """Put the selected weights in place and sum up."""
        chosen = self.best if self.settings.selection.rule == "best_val" else None
        if chosen is not None:
            self.network.load_state_dict(chosen["network"])
        self.network.eval()
        return Outcome(
            steps=self.step,
            selected_step=chosen["step"] if chosen else self.step,
            best_score=chosen["score"] if chosen else None,
            seconds=self.seconds,
            wait_seconds=self.wait_seconds,
            resumed=self.resumed,
        )
