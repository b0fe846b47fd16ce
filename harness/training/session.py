"""Everything that changes while training, and so everything that a checkpoint holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from harness.adapters.parts import Parts
from harness.progress import say
from harness.training.averaging import WeightAverage
from harness.training.device import Numerics, rng_state, set_rng_state
from harness.training.distributed import World
from harness.training.log import CurveLog
from harness.training.optim import Plateau, make_optimizer, make_scheduler
from harness.training.profiling import span
from harness.training.settings import Training
from harness.training.state import load_latest, save_state
from harness.training.tuning import Tuning
from harness.training.usage import Usage

__all__ = ["Outcome", "Session"]


class _Task(Protocol):
    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor: ...

    def validate(self, network: nn.Module) -> float: ...


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
    samples : int
        Training samples that all updates of all ranks used.
    stopped_early : bool
        Whether validation scores ended the run before its budget.
    ranks : int
        Processes that trained together at the end.
    trainable : int or None
        Parameters that learnt at some step, low-rank updates included.
    usage : mapping of str to float or None
        As `harness.training.usage.Usage.over` gives it, for training and its validations.
    """

    steps: int
    selected_step: int
    best_score: float | None
    seconds: dict[str, float]
    wait_seconds: float
    resumed: int
    samples: int = 0
    stopped_early: bool = False
    ranks: int = 1
    trainable: int | None = None
    usage: Mapping[str, float | None] = field(default_factory=dict)


class Session:
    """One network on its way through one budget.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    settings : Training
        Budget, optimiser, schedule, selection.
    folder : Path
        Where checkpoints are kept.
    numerics : Numerics
        Device, precision, memory format.
    world : World
        The processes that train together.
    parts : Parts
        What is encoder and output, which every fine-tuning mode but the full one needs.

    Raises
    ------
    UserError
        The fine-tuning mode does not suit the network.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: Training,
        folder: Path,
        numerics: Numerics,
        world: World | None = None,
        parts: Parts | None = None,
    ) -> None:
        self.tuning = Tuning(network, settings.finetuning, parts)
        self.network, self.settings, self.folder, self.numerics = numerics.place(network), settings, folder, numerics
        self.world = world or World()
        self.optimizer = make_optimizer(settings.optimizer, network, self.tuning.groups(settings.optimizer.lr))
        self.plateau = Plateau(settings.schedule)
        self.scheduler = make_scheduler(
            settings.schedule, self.optimizer, settings.steps, self.plateau, self.tuning.lead
        )
        self.average = WeightAverage(network, settings.ema) if settings.ema is not None else None
        self.step = self.samples = self.resumed = 0
        self.best: dict[str, Any] | None = None
        self.without_better = 0
        self.seconds = {"train": 0.0, "validate": 0.0}
        self.usage = Usage(numerics.device)
        self.wait_seconds = 0.0
        self._parallel, self._forward = network, network
        self._unreported = False

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def stopped(self) -> bool:
        """Whether validation has not found a better score for as long as the settings wait."""
        patience = self.settings.selection.patience
        return patience is not None and self.without_better >= patience

    @property
    def end(self) -> int:
        """The step at which the run is over."""
        return self.step if self.stopped else self.settings.steps

    def prepare(self) -> None:
        """Build what an update calls: the network itself, over all ranks, compiled."""
        if self.world.rank and not self.step:
            torch.manual_seed(torch.initial_seed() + self.world.rank)  # ranks drop out different units
        self._parallel = self.world.wrap(self.network, synchronise_batch_norm=self.settings.sync_batch_norm)
        self._forward = self._parallel
        if self.settings.compile:
            self._forward = cast(nn.Module, torch.compile(self._parallel))
            self._unreported = self.world.is_main
            _forget_graph_breaks()

    def update(self, task: _Task, batch: Mapping[str, Tensor]) -> Tensor:
        """Do one optimiser update and return the loss, still on the device."""
        scaler, count = self.numerics.scaler, self.settings.accumulate
        parts = World.parts(batch, count) if count > 1 else [batch]
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        for number, part in enumerate(parts, start=1):
            # ranks exchange gradients once, with those of the last part
            with self._alone() if number < count else contextlib.nullcontext():
                with span("forward"), self.numerics.autocast():
                    loss = task.loss(self._forward, part)
                    loss = loss / count if count > 1 else loss
                with span("backward"):
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
        with span("update"):
            if self.settings.clip_norm is not None:
                scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
            scaler.step(self.optimizer)
            scaler.update()
            self.scheduler.step()
            if self.average is not None:
                self.average.update()
        self.step += 1
        if self._unreported:
            self._unreported = False
            _report_graph_breaks()
        if self.tuning.enter(self.step):
            self.prepare()  # ranks share the gradients of what could learn when they were joined
        self.samples += len(next(iter(batch.values()))) * self.world.size
        assert total is not None
        return total

    def log_due(self) -> bool:
        """Tell whether this step ends with a line of the curve."""
        return self.step % self.settings.log_every == 0

    def validation_due(self) -> bool:
        """Tell whether this step ends with a validation; the last one always does."""
        selection = self.settings.selection
        return selection.rule == "best_val" and (self.step % selection.every == 0 or self.step == self.settings.steps)

    def checkpoint_due(self) -> bool:
        """Tell whether this step ends with a checkpoint; the last one always does."""
        return self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps

    def select(self, task: _Task, curve: CurveLog) -> None:
        """Validate, and keep the weights if they are the best so far (the earlier one wins a tie)."""
        begin = time.perf_counter()
        self.world.spread(self.network)
        with self._scored_weights():
            score = task.validate(self.network)
            self.network.train()
            self.without_better += 1
            if self.best is None or score > self.best["score"]:
                weights = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
                self.best, self.without_better = {"score": score, "step": self.step, "network": weights}, 0
        self.seconds["validate"] += time.perf_counter() - begin
        curve.write(step=self.step, metric=score, role="val", seconds=self.seconds["train"], samples=self.samples)
        self.plateau.saw(score)
        scheduler = self.scheduler
        for group, base, factor in zip(
            self.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(scheduler.last_epoch)

    def save(self) -> None:
        """Write a resumable checkpoint."""
        generators = self.world.gather(rng_state())
        if not self.world.is_main:
            return
        save_state(
            self.folder,
            {
                "step": self.step,
                "samples": self.samples,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "plateau": self.plateau.state_dict(),
                "average": self.average.state_dict() if self.average is not None else None,
                "scaler": self.numerics.scaler.state_dict(),
                "rng": generators,
                "best": self.best,
                "without_better": self.without_better,
                "seconds": self.seconds,
                "wait_seconds": self.wait_seconds,
                "usage": self.usage.state_dict(),
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
        self.plateau.load_state_dict(state["plateau"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.numerics.scaler.load_state_dict(state["scaler"])
        self._resume_generators(state["rng"])
        self.step, self.samples, self.best = int(state["step"]), int(state["samples"]), state["best"]
        self.tuning.enter(self.step)
        self.without_better = int(state["without_better"])
        self.seconds, self.wait_seconds = state["seconds"], float(state["wait_seconds"])
        self.usage.load_state_dict(state["usage"])
        self.resumed = int(state["resumed"]) + 1
        if self.step < self.end and self.world.is_main:
            say(f"resuming at step {self.step} of {self.settings.steps}")

    def finish(self) -> Outcome:
        """Put the selected weights in place and sum up."""
        chosen = self.best if self.settings.selection.rule == "best_val" else None
        if chosen is not None:
            self.network.load_state_dict(chosen["network"])
        elif self.average is not None:
            self.average.apply()
        self.world.spread(self.network)
        self.network.eval()
        trainable = self.tuning.trainable
        self.tuning.finish()
        return Outcome(
            steps=self.step,
            selected_step=chosen["step"] if chosen else self.step,
            best_score=chosen["score"] if chosen else None,
            seconds=self.seconds,
            wait_seconds=self.wait_seconds,
            resumed=self.resumed,
            samples=self.samples,
            stopped_early=self.step < self.settings.steps,
            ranks=self.world.size,
            trainable=trainable,
            usage=self.usage.over(self.world),
        )

    def _alone(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a backward pass is not yet shared with other ranks."""
        parallel = self._parallel
        if isinstance(parallel, nn.parallel.DistributedDataParallel):
            return cast(contextlib.AbstractContextManager[Any], parallel.no_sync())
        return contextlib.nullcontext()

    def _scored_weights(self) -> contextlib.AbstractContextManager[None]:
        return self.average.applied() if self.average is not None else contextlib.nullcontext()

    def _resume_generators(self, states: list[dict[str, Any]]) -> None:
        if len(states) == self.world.size:
            set_rng_state(states[self.world.rank])
        elif self.world.is_main:
            say(
                f"resuming on {self.world.size} ranks what ran on {len(states)}: the data are the same, random layers "
                "such as dropout draw other numbers"
            )


def _forget_graph_breaks() -> None:
    """Let the report be about this network alone: torch counts over all that a process ever compiled."""
    from torch._dynamo.utils import counters

    counters.clear()


def _report_graph_breaks() -> None:
    """Say into how many pieces the first step of this process was compiled, and why: every break costs time."""
    from torch._dynamo.utils import counters

    reasons = counters["graph_break"]
    found = f"{sum(reasons.values())} graph breaks" if reasons else "no graph break"
    why = "; ".join(f"{count} x {reason.splitlines()[0]}" for reason, count in reasons.most_common(3))
    say(f"torch.compile: {counters['stats']['unique_graphs']} graphs, {found}{f' ({why})' if why else ''}")
