"""The exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keeps ``average = d * average + (1 - d) * weight`` of every parameter; buffers stay the network's own.

    In the first updates ``d`` is ``(1 + n) / (10 + n)`` where that is less than the decay, so that the average does not
    hang on to the weights from before training.

    Parameters
    ----------
    network : nn.Module
        Whose parameters are averaged, from now on.
    decay : float
        Between 0 and 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._live = {name: tensor for name, tensor in network.named_parameters() if tensor.is_floating_point()}
        self._mean = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more update in."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(list(self._mean.values()), [t.detach() for t in self._live.values()], 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network hold the averages during the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def apply(self) -> None:
        """Let the network hold the averages for good."""
        torch._foreach_copy_([tensor.detach() for tensor in self._live.values()], list(self._mean.values()))

    def state_dict(self) -> dict[str, object]:
        """Return what a resumed run needs."""
        return {"updates": self._updates, "mean": self._mean}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on where `state_dict` was taken."""
        mean = state["mean"]
        assert isinstance(mean, dict)
        for name, tensor in self._mean.items():
            stored: Tensor = mean[name]
            tensor.copy_(stored)
        self._updates = int(str(state["updates"]))

    @torch.no_grad()
    def _swap(self) -> None:
        held = [tensor.detach().clone() for tensor in self._live.values()]
        self.apply()
        torch._foreach_copy_(list(self._mean.values()), held)
