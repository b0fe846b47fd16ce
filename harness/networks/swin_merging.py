"""Patch merging of Swin UNETR in the three orders that MONAI has had under two names.

All three have the same tensor names and shapes, so weights of one load strictly into another and compute something
else. The order is therefore a property of the weights and is named here.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from harness.errors import UserError

__all__ = ["MERGING_ORDERS", "Merging", "merging_layer"]

Merging = Literal["legacy", "monai_1_5", "v2"]

Octant = tuple[int, int, int]

MERGING_ORDERS: dict[Merging, tuple[Octant, ...]] = {
    "legacy": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
    "monai_1_5": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
    "v2": ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)),
}
"""Offsets, on the three spatial axes, of the eight sub-lattices in the order in which their channels are joined.

``legacy`` is ``downsample="merging"`` of MONAI 0.9.0 to 1.4.0: two sub-lattices appear twice and two never. MONAI kept
it on purpose (its pull request 5106) and changed it in 1.5.0 (8285) to ``monai_1_5`` under the same name. ``v2`` is
``"mergingv2"`` of every version. BrainSegFounder and every Swin UNETR weight published before 2025 are ``legacy``.
"""


class _PatchMerging(nn.Module):
    """Halve the grid: join eight neighbours' channels in a named order, normalise, project to twice the width."""

    def __init__(self, dim: int, norm_layer: type[nn.LayerNorm] = nn.LayerNorm, spatial_dims: int = 3) -> None:
        super().__init__()
        if spatial_dims != 3:
            raise ValueError(f"The merging orders are those of volumes; spatial_dims is {spatial_dims}.")
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(8 * dim)

    order: tuple[Octant, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, d, h, w, dim)`` with even sides to ``(N, d/2, h/2, w/2, 2 * dim)``."""
        joined = torch.cat([x[:, i::2, j::2, k::2, :] for i, j, k in self.order], dim=-1)
        merged: Tensor = self.reduction(self.norm(joined))
        return merged


class _LegacyMerging(_PatchMerging):
    order = MERGING_ORDERS["legacy"]


class _Monai15Merging(_PatchMerging):
    order = MERGING_ORDERS["monai_1_5"]


class _MergingV2(_PatchMerging):
    order = MERGING_ORDERS["v2"]


_LAYERS: dict[str, type[nn.Module]] = {
    "legacy": _LegacyMerging,
    "monai_1_5": _Monai15Merging,
    "v2": _MergingV2,
}


def merging_layer(merging: Merging) -> type[nn.Module]:
    """Return the class for a named order, to be given to MONAI's Swin transformer as ``downsample``.

    Raises
    ------
    UserError
        There is no order of that name.
    """
    if merging not in _LAYERS:
        raise UserError(
            f"There is no patch merging order called {merging!r}; choose one of {', '.join(get_args(Merging))}. "
            "Weights published before MONAI 1.5 (January 2025) need 'legacy'."
        )
    return _LAYERS[merging]
