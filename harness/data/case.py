"""The files of one case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """The files of one case; `harness.data.reference.read_reference` makes its labels of them.

    Attributes
    ----------
    id : str
        As in the splits.
    images : tuple of Path
        One per channel in the order of the card, or one file whose last axis holds the channels. A channel that is
        not there is listed all the same, at the place where it should be.
    label : Path or None
        The label map, or the folder of the structures; None where there is none.
    structures : tuple of (int, Path)
        Per label value the file with its mask, in the order in which they are painted: where two overlap the later
        one wins. Empty for a case with a label map. A file that is not there means: nobody drew this structure.
    remap : tuple of (int, int)
        Stored label values and what they become; empty: they stay.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    structures: tuple[tuple[int, Path], ...] = ()
    remap: tuple[tuple[int, int], ...] = ()
