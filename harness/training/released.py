"""Released weights, scored as they are: what the loop returns where nothing is trained."""

from __future__ import annotations

from torch import nn

from harness.training.device import Numerics
from harness.training.session import Outcome

__all__ = ["as_released"]


def as_released(network: nn.Module, numerics: Numerics) -> Outcome:
    """Put a network on the device to answer, and return the outcome of zero steps."""
    numerics.place(network).eval()
    return Outcome(
        steps=0,
        selected_step=0,
        best_score=None,
        seconds={"train": 0.0, "validate": 0.0},
        wait_seconds=0.0,
        resumed=0,
        trainable=0,
    )
