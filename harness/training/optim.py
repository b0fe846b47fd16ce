"""Optimisers and learning-rate schedules, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from harness.training.settings import Optimizer, Schedule

__all__ = ["Plateau", "lr_factor", "make_optimizer", "make_scheduler"]


def make_optimizer(
    settings: Optimizer, network: nn.Module, groups: list[dict[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser over every parameter that takes part in training, with one fused kernel for all of them.

    ``groups`` (`harness.training.tuning.Tuning.groups`) says which those are where it is not all, and at which rates.
    """
    everything = [{"params": [parameter for parameter in network.parameters() if parameter.requires_grad]}]
    parameters = groups or everything
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=True,
        )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(
        parameters,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def lr_factor(settings: Schedule, step: int, steps: int) -> float:
    """Return the share of the base learning rate that the update number ``step`` (from 0) of ``steps`` uses.

    With ``hold`` the factor is that of a schedule counted in units of so many updates. ``plateau`` is 1 here, since it
    depends on scores: see `Plateau`.

    >>> [round(lr_factor(Schedule(name="cosine", warmup_steps=2), s, 6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    unit, units = step // settings.hold, math.ceil(steps / settings.hold)
    warmup = math.ceil(settings.warmup_steps / settings.hold)
    if unit < warmup:
        from_zero = settings.warmup_start == "zero" and warmup > 1
        return unit / (warmup - 1) if from_zero else (unit + 1) / warmup
    if settings.name in ("constant", "plateau"):
        return 1.0
    if settings.name == "step":
        drops = max(0, unit * settings.hold - settings.warmup_steps) // settings.step_size
        return float(max(settings.gamma**drops, settings.final_fraction))
    done = (unit - warmup) / max(1, units - warmup)
    shape = (1 + math.cos(math.pi * done)) / 2 if settings.name == "cosine" else (1 - done) ** settings.power
    return settings.final_fraction + (1 - settings.final_fraction) * shape


class Plateau:
    """How far the learning rate has dropped because validation scores stopped rising.

    Parameters
    ----------
    settings : Schedule
        ``gamma``, ``patience``, ``min_delta`` and ``final_fraction``; with another name than ``plateau`` nothing drops.
    """

    def __init__(self, settings: Schedule) -> None:
        self._settings = settings
        self.factor, self._best, self._waited = 1.0, -math.inf, 0

    def saw(self, score: float) -> None:
        """Take a validation score, higher is better, into account."""
        settings = self._settings
        if score > self._best + settings.min_delta:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if settings.name == "plateau" and self._waited >= settings.patience:
            self.factor, self._waited = max(self.factor * settings.gamma, settings.final_fraction), 0

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run needs."""
        return {"factor": self.factor, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on where `state_dict` was taken."""
        self.factor, self._best, self._waited = state["factor"], state["best"], int(state["waited"])


def make_scheduler(
    settings: Schedule, optimizer: torch.optim.Optimizer, steps: int, plateau: Plateau | None = None, lead: int = 0
) -> LambdaLR:
    """Build the scheduler that applies `lr_factor` after every update, times what ``plateau`` took off.

    For the first ``lead`` updates the rate rises linearly to the full one; then the schedule begins ("sawtooth").
    """

    def share(step: int) -> float:
        if step < lead:
            return (step + 1) / lead
        return lr_factor(settings, step - lead, steps - lead) * (plateau.factor if plateau is not None else 1.0)

    return LambdaLR(optimizer, share)
