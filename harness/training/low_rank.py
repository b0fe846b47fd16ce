"""Low-rank updates of frozen weights, as torch parametrizations: any layer keeps its own forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.adapters.parts import Parts
from harness.errors import UserError
from harness.training.finetuning import LowRank

__all__ = ["LowRankUpdate", "install", "merge"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class LowRankUpdate(nn.Module):
    """``W + alpha / rank * (up @ down)``, where ``W`` is read as a matrix of its first axis by all others.

    Parameters
    ----------
    weight : Tensor
        The frozen weight; gives shape, device and type.
    rank : int
        At most the smaller side of the matrix is used.
    alpha : float
        Scale of the update, divided by the rank asked for.

    Notes
    -----
    ``up`` starts at zero, so that the layer starts as it was; ``down`` is drawn from torch's global generator.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows = weight.shape[0]
        columns = weight.numel() // rows
        rank_here = min(rank, rows, columns)
        self.scale = alpha / rank
        self.up = nn.Parameter(weight.new_zeros(rows, rank_here))
        self.down = nn.Parameter(torch.empty(rank_here, columns, dtype=weight.dtype, device=weight.device))
        nn.init.uniform_(self.down, -1 / math.sqrt(columns), 1 / math.sqrt(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, always in full precision: merged weights must be the ones that were trained."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.up @ self.down).view(weight.shape)


def install(network: nn.Module, settings: LowRank, parts: Parts) -> None:
    """Give every chosen layer of the encoder a low-rank update and freeze what it updates.

    Raises
    ------
    UserError
        The encoder has no such layer.
    """
    chosen = list(_layers(network, settings, parts))
    if not chosen:
        raise UserError(
            f"The encoder of this network has no layer of the kinds {', '.join(settings.on)}, so that low-rank updates "
            "have nothing to act on. Change training.finetuning.lora.on, or use another mode."
        )
    for layer in chosen:
        weight = layer.get_parameter("weight").requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", LowRankUpdate(weight, settings.rank, settings.alpha))


def merge(network: nn.Module) -> None:
    """Write every low-rank update into its weight: the network has its own names and layers again."""
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _layers(network: nn.Module, settings: LowRank, parts: Parts) -> Iterator[nn.Module]:
    for path, layer in network.named_modules():
        name = f"{path}.weight"
        if not parts.in_encoder(name) or parts.reinitialised(name):
            continue
        parent = network.get_submodule(path.rpartition(".")[0])
        if isinstance(layer, _CONVOLUTIONS):
            wanted = "convolution" in settings.on
        elif isinstance(layer, nn.Linear) and "attention" in type(parent).__name__.lower():
            wanted = "attention" in settings.on
        else:
            wanted = False
        if wanted:
            yield layer
