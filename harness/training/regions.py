"""Overlapping targets: label numbers to one mask per region for the loss, and masks back to one label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import UserError

__all__ = ["Regions"]


@dataclass(frozen=True)
class Regions:
    """Which labels make up which region, and which label a region paints.

    Attributes
    ----------
    members : tuple of tuple of int
        Label values of every region, in the order of the network's channels.
    label_values : tuple of int
        Label value of every class number in a batch (``Cache.label_values``).
    """

    members: tuple[tuple[int, ...], ...]
    label_values: tuple[int, ...]

    @classmethod
    def of(cls, classes: Mapping[str, Sequence[int]], label_values: Sequence[int]) -> Regions:
        """Take the scored classes of a data set, in their order."""
        return cls(tuple(tuple(values) for values in classes.values()), tuple(label_values))

    def target(self, label: Tensor) -> Tensor:
        """Return masks of shape (batch, region, a, b, c), 0 and 1, for class numbers of shape (batch, 1, a, b, c)."""
        inside = [[value in members for members in self.members] for value in self.label_values]
        table = torch.tensor(inside, dtype=torch.float32, device=label.device)
        return table[label[:, 0].long()].movedim(-1, 1)

    def drawn(self, classes: Tensor) -> Tensor:
        """Return which regions were drawn, (batch, region), where ``classes`` says so of the classes, (batch, class).

        A region with an undrawn part is not drawn, since nobody knows where it ends.
        """
        numbers = [[self.label_values.index(value) for value in members] for members in self.members]
        return torch.stack([classes[:, part].all(dim=1) for part in numbers], dim=1)

    def paint(self, masks: NDArray[Any]) -> NDArray[np.integer[Any]]:
        """Return one label map for masks of shape (region, a, b, c): large regions first, those inside them later.

        A region that holds others paints the label that is in none of them: the whole tumour {1, 2, 4} around the core
        {1, 4} around the enhancing part {4} paints 2, the core 1, the enhancing part 4.

        Raises
        ------
        UserError
            A region has no such label, or several.
        """
        painted = np.zeros(masks.shape[1:], np.uint16 if max(self.label_values) > 255 else np.uint8)
        order = sorted(range(len(self.members)), key=lambda number: -len(self.members[number]))
        for number in order:
            painted[masks[number] > 0] = self._own_label(number)
        return painted

    def _own_label(self, number: int) -> int:
        whole = set(self.members[number])
        inner = [set(other) for other in self.members if set(other) < whole]
        left = whole.difference(*inner)
        if len(left) != 1:
            raise UserError(
                f"The region of the labels {sorted(whole)} would be painted as one of {sorted(left) or 'none'}: "
                "only regions that lie inside each other make one label map. Use activation: softmax for these labels."
            )
        return left.pop()
