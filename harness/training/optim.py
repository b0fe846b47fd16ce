"""Optimisers and learning-rate schedules, by name."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from harness.training.settings import Optimizer, Schedule

__all__ = ["lr_factor", "make_optimizer", "make_scheduler"]


def make_optimizer(settings: Optimizer, network: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser over every parameter that takes part in training."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
        )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def lr_factor(settings: Schedule, step: int, steps: int) -> float:
    """Return the share of the base learning rate that the update number ``step`` (from 0) of ``steps`` uses.

    >>> [round(lr_factor(Schedule(name="cosine", warmup_steps=2), s, 6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.name == "constant":
        return 1.0
    done = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    shape = (1 + math.cos(math.pi * done)) / 2 if settings.name == "cosine" else (1 - done) ** settings.power
    return settings.final_fraction + (1 - settings.final_fraction) * shape


def make_scheduler(settings: Schedule, optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """Build the scheduler that applies `lr_factor` after every update."""
    return LambdaLR(optimizer, lambda step: lr_factor(settings, step, steps))
