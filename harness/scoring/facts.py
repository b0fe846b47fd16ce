"""Raw facts of one case and one class: counts and directed surface distances. Formulas are in `formulas.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Directed", "Facts", "State"]

State = Literal["both", "pred_empty", "ref_empty", "both_empty"]
Distances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Directed:
    """Distances in mm from each surface element of one mask to the nearest one of the other, both ways.

    Attributes
    ----------
    from_prediction, from_reference : ndarray of shape (n,)
        One distance per surface element; not sorted.
    area_prediction, area_reference : ndarray of shape (n,) or None
        The area in mm^2 of each element of an area-weighted surface.
    """

    from_prediction: Distances
    from_reference: Distances
    area_prediction: Distances | None = None
    area_reference: Distances | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was measured of one class in one case.

    Attributes
    ----------
    tp, fp, fn, tn : int
        Voxel counts.
    voxel_mm3 : float
        Volume of a voxel.
    voxel_surface, surfel_surface : Directed or None
        Distances between voxel surfaces and between area-weighted surfaces; None where no metric asked for them or
        a mask is empty.
    lesions : mapping of str to mapping of str to float
        Rule -> the rule's numbers by name, for the lesion-wise rules that were asked for.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    voxel_mm3: float
    voxel_surface: Directed | None = None
    surfel_surface: Directed | None = None
    lesions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def n_pred(self) -> int:
        """Voxels of the class in the prediction."""
        return self.tp + self.fp

    @property
    def n_ref(self) -> int:
        """Voxels of the class in the reference."""
        return self.tp + self.fn

    @property
    def state(self) -> State:
        """Which of the two masks has voxels."""
        if self.n_pred and self.n_ref:
            return "both"
        if self.n_ref:
            return "pred_empty"
        return "ref_empty" if self.n_pred else "both_empty"
