"""Several trained networks as one: the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError

__all__ = ["Ensemble"]


class Ensemble(nn.Module):
    """Answers with the logits of its members' mean probability, window by window.

    Used like any network by `harness.inference.sliding_window`: blending, flips and the way back to the scan's grid are
    those of one network, and no member's answer is held for the whole scan.

    Parameters
    ----------
    members : sequence of nn.Module
        Networks of one task, such as the folds of a cross-validation, on one device.
    activation : {"softmax", "sigmoid"}
        What makes probabilities of their logits.

    Raises
    ------
    UserError
        There are no members.
    """

    def __init__(self, members: Sequence[nn.Module], activation: Literal["softmax", "sigmoid"]) -> None:
        super().__init__()
        if not members:
            raise UserError("An ensemble needs at least one trained network, and none was given.")
        self.members, self.activation = nn.ModuleList(members), activation

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (batch, class, a, b, c) for a batch of windows (batch, channel, a, b, c).

        For softmax these are the logarithms of the mean probabilities; for sigmoid their log-odds.
        """
        present: Tensor | None = None
        absent: Tensor | None = None
        for member in self.members:
            answer = member(x)
            logits = (answer[0] if isinstance(answer, list | tuple) else answer).float()
            if present is not None and logits.shape != present.shape:
                raise UserError(
                    f"One network of the ensemble answers with {tuple(logits.shape)}, another with "
                    f"{tuple(present.shape)}. Put together only networks of one task."
                )
            if self.activation == "softmax":
                present = _add(present, logits.log_softmax(dim=1))
            else:
                present, absent = _add(present, F.logsigmoid(logits)), _add(absent, F.logsigmoid(-logits))
        assert present is not None
        # the number of members divides both sums, and so cancels in the odds
        return present - math.log(len(self.members)) if absent is None else present - absent


def _add(total: Tensor | None, logarithm: Tensor) -> Tensor:
    """Add probabilities given by their logarithms, where nothing underflows."""
    return logarithm if total is None else torch.logaddexp(total, logarithm)
