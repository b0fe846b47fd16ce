"""The cards of the lesion-wise rules. What the rules do is in `lesions.py`."""

from __future__ import annotations

from harness.scoring.definitions import Definition

__all__ = ["LESION_CARDS"]

LESION_CARDS: list[Definition] = []
