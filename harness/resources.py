"""Where the shipped data lie: configs, data sets, model cards, claims. One function, for a checkout and for a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["Kind", "shipped"]

Kind = Literal["configs", "datasets", "model_cards", "claims"]

_PACKAGE = Path(__file__).parent
_IN_CHECKOUT: dict[Kind, Path] = {
    "configs": _PACKAGE.parent / "configs",
    "datasets": _PACKAGE.parent / "datasets",
    "model_cards": _PACKAGE / "adapters" / "cards",
    "claims": _PACKAGE.parent / "results" / "claims",
}


def shipped(kind: Kind) -> Path:
    """Return the folder with the shipped ``kind`` of data.

    A wheel carries them in ``harness/_data``; in a checkout they lie at the top of the repository.
    """
    packed = _PACKAGE / "_data" / kind
    return packed if packed.is_dir() else _IN_CHECKOUT[kind]
