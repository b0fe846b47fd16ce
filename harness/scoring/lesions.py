"""Lesion-wise rules: connected components of one mask matched with those of the other, as each challenge does it.

Every rule takes two boolean masks and the spacing and returns its numbers by name; the ids in
`harness.scoring.definitions` are ``<name>.<rule>``, such as ``lesion_f1.atlas2``. A rule's answer for empty masks is
part of the rule, so policies leave these values alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.scoring.facts import Directed
from harness.scoring.formulas import hd95_pooled, hd95_surfel, nsd_directed_mean
from harness.scoring.measure import measure_classes

__all__ = ["RULES", "Brats2023", "lesion_values"]

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]
Spacing = Sequence[float]
Values = Mapping[str, float]

FACES, FACES_EDGES, FACES_EDGES_CORNERS = 1, 2, 3  # 6, 18 and 26 neighbours, in SciPy's words


def lesion_values(rule: str, prediction: Mask, reference: Mask, spacing: Spacing) -> Values:
    """Compute all numbers of one rule.

    Parameters
    ----------
    rule : str
        A key of `RULES`.
    prediction, reference : bool arrays of shape (S, R, C)
        Masks of one class.
    spacing : sequence of 3 floats
        mm per array axis.
    """
    box = _box_around(prediction, reference)
    ours, theirs = (np.ascontiguousarray(mask[box]) for mask in (prediction, reference))
    return RULES[rule](ours, theirs, spacing)


def _box_around(first: Mask, second: Mask) -> tuple[slice, ...]:
    """Return the smallest box around both masks; one voxel if both are empty.

    No rule needs a margin: whatever dilation adds or joins outside the box, it also adds or joins at its wall.
    """
    box = []
    for axis in range(first.ndim):
        others = tuple(other for other in range(first.ndim) if other != axis)
        used = np.flatnonzero(first.any(axis=others) | second.any(axis=others))
        box.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1))
    return tuple(box)


def _components(mask: Mask, connectivity: int) -> tuple[Labels, int]:
    from scipy import ndimage

    labels = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, ndimage.generate_binary_structure(3, connectivity), output=labels)
    return labels, int(count)


def _overlaps(reference: Labels, n_ref: int, prediction: Labels, n_pred: int) -> npt.NDArray[np.int64]:
    """Return how many voxels each pair of components shares, shape (n_ref + 1, n_pred + 1); index 0 is background."""
    pairs = reference.ravel().astype(np.int64) * (n_pred + 1) + prediction.ravel()
    return np.bincount(pairs, minlength=(n_ref + 1) * (n_pred + 1)).reshape(n_ref + 1, n_pred + 1)


def _distances(prediction: Mask, reference: Mask, spacing: Spacing, *, surfels: bool) -> Directed:
    """Return the surface distances of two masks that are not empty."""
    asked = ("lesion",)
    ((_, facts),) = measure_classes(
        prediction,
        reference,
        spacing,
        {"lesion": (1,)},
        voxels=() if surfels else asked,
        surfels=asked if surfels else (),
        threads=1,
    )
    found = facts.surfel_surface if surfels else facts.voxel_surface
    assert found is not None
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _detection(prediction: Mask, reference: Mask, spacing: Spacing, *, connectivity: int) -> Values:  # noqa: ARG001
    """ATLAS v2 and ISLES'22: any shared voxel makes a reference lesion found; many to many."""
    ref_labels, n_ref = _components(reference, connectivity)
    pred_labels, n_pred = _components(prediction, connectivity)
    shared = _overlaps(ref_labels, n_ref, pred_labels, n_pred)[1:, 1:] > 0
    tp = int(np.count_nonzero(shared.any(axis=1)))
    fp = n_pred - int(np.count_nonzero(shared.any(axis=0)))
    fn = n_ref - tp
    return {
        "lesion_f1": tp / (tp + (fp + fn) / 2) if n_ref or n_pred else 1.0,
        "lesion_count_difference": float(abs(n_ref - n_pred)),
        "lesion_tp": float(tp),
        "lesion_fp": float(fp),
        "lesion_fn": float(fn),
    }


@dataclass(frozen=True)
class Brats2023:
    """BraTS 2023: lesions nearer than a few voxels are one; whatever touches the dilated lesion belongs to it.

    Attributes
    ----------
    dilation : int
        Steps of dilation by the 18 neighbours.
    smallest_mm3 : float
        Reference lesions up to this volume leave the sums; predicted components are never left out by size.
    """

    dilation: int
    smallest_mm3: float
    penalty_mm: float = 374.0

    def __call__(self, prediction: Mask, reference: Mask, spacing: Spacing) -> Values:
        """Return lesion-wise Dice and HD95 and the counts behind them."""
        from scipy import ndimage

        neighbours = ndimage.generate_binary_structure(3, FACES_EDGES)
        reach = ndimage.binary_dilation(reference, neighbours, iterations=self.dilation)
        groups, n_ref = _components(reach, FACES_EDGES_CORNERS)
        pred_labels, n_pred = _components(prediction, FACES_EDGES_CORNERS)
        touching = _overlaps(groups, n_ref, pred_labels, n_pred)[:, 1:] > 0
        sizes = np.bincount(groups[reference], minlength=n_ref + 1)
        dice = hd95 = 0.0
        tp = fn = 0
        for lesion in range(1, n_ref + 1):
            if sizes[lesion] * math.prod(spacing) <= self.smallest_mm3:
                continue
            partners = np.flatnonzero(touching[lesion]) + 1
            if not partners.size:
                fn += 1
                hd95 += self.penalty_mm
                continue
            tp += 1
            ours, theirs = np.isin(pred_labels, partners), reference & (groups == lesion)
            dice += 2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + sizes[lesion])
            box = _box_around(ours, theirs)
            hd95 += hd95_surfel(_distances(ours[box], theirs[box], spacing, surfels=True))
        fp = n_pred - int(np.count_nonzero(touching[1:].any(axis=0)))
        scored = tp + fn + fp
        return {
            "lesion_dice": dice / scored if scored else 1.0,
            "lesion_hd95": (hd95 + self.penalty_mm * fp) / scored if scored else 0.0,
            "lesion_tp": float(tp),
            "lesion_fp": float(fp),
            "lesion_fn": float(fn),
        }


@dataclass(frozen=True)
class _Matched:
    """Components of both masks paired one to one."""

    pairs: list[tuple[int, int]]
    iou: list[float]
    dice: list[float]
    n_ref: int
    n_pred: int
    ref_labels: Labels
    pred_labels: Labels


def _match(prediction: Mask, reference: Mask, least: Callable[[npt.NDArray[np.float64]], Mask], by: str) -> _Matched:
    """Pair components one to one so that the summed overlap is largest among the pairs that are good enough."""
    from scipy.optimize import linear_sum_assignment

    ref_labels, n_ref = _components(reference, FACES_EDGES_CORNERS)
    pred_labels, n_pred = _components(prediction, FACES_EDGES_CORNERS)
    table = _overlaps(ref_labels, n_ref, pred_labels, n_pred)
    shared = table[1:, 1:].astype(np.float64)
    total = table.sum(axis=1)[1:, None] + table.sum(axis=0)[None, 1:]
    scores = {"iou": shared / (total - shared), "dice": 2 * shared / total}
    allowed = least(scores[by])
    rows, columns = linear_sum_assignment(np.where(allowed, scores[by], 0.0), maximize=True)
    kept = [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]
    return _Matched(
        pairs=[(r + 1, c + 1) for r, c in kept],
        iou=[float(scores["iou"][pair]) for pair in kept],
        dice=[float(scores["dice"][pair]) for pair in kept],
        n_ref=n_ref,
        n_pred=n_pred,
        ref_labels=ref_labels,
        pred_labels=pred_labels,
    )


def _counts(matched: _Matched) -> dict[str, float]:
    tp = len(matched.pairs)
    return {
        "lesion_tp": float(tp),
        "lesion_fp": float(matched.n_pred - tp),
        "lesion_fn": float(matched.n_ref - tp),
    }


def _panoptic(prediction: Mask, reference: Mask, spacing: Spacing) -> Values:  # noqa: ARG001
    """Panoptic quality over components with an IoU of at least one half."""
    matched = _match(prediction, reference, lambda iou: iou >= 0.5, "iou")
    counts = _counts(matched)
    tp = counts["lesion_tp"]
    quality = _ratio(tp, tp + (counts["lesion_fp"] + counts["lesion_fn"]) / 2)
    unmatched = math.nan if math.isnan(quality) else 0.0
    sq = float(np.mean(matched.iou)) if tp else unmatched
    return {
        "lesion_rq": quality,
        "lesion_sq": sq,
        "lesion_pq": sq * quality,
        "lesion_dice": float(np.mean(matched.dice)) if tp else unmatched,
        **counts,
    }


def _brats2024(prediction: Mask, reference: Mask, spacing: Spacing) -> Values:
    """brats-evaluation (2024 and later): one-to-one pairs that overlap at all; means over matched pairs."""
    matched = _match(prediction, reference, lambda dice: dice > 1e-6, "dice")
    counts = _counts(matched)
    tp, fp, fn = counts["lesion_tp"], counts["lesion_fp"], counts["lesion_fn"]
    hd95, nsd = [], []
    for ref, pred in matched.pairs:
        ours, theirs = matched.pred_labels == pred, matched.ref_labels == ref
        box = _box_around(ours, theirs)
        surface = _distances(ours[box], theirs[box], spacing, surfels=False)
        hd95.append(hd95_pooled(surface))
        nsd.append(nsd_directed_mean(surface, min(spacing)))
    if matched.pairs:
        dice_mean, hd95_mean, nsd_mean = (float(np.mean(values)) for values in (matched.dice, hd95, nsd))
    elif matched.n_ref or matched.n_pred:
        dice_mean, hd95_mean, nsd_mean = 0.0, math.inf, 0.0
    else:
        dice_mean = hd95_mean = nsd_mean = math.nan
    return {
        "lesion_dice": dice_mean,
        "lesion_hd95": hd95_mean,
        "lesion_nsd": nsd_mean,
        "lesion_precision": _ratio(tp, tp + fp),
        "lesion_recall": _ratio(tp, tp + fn),
        "lesion_f1": _ratio(2 * tp, 2 * tp + fp + fn),
        **counts,
    }


def _voronoi(prediction: Mask, reference: Mask, spacing: Spacing) -> Values:  # noqa: ARG001
    """MONAI per_component: Dice inside the Voronoi cell of each reference component, then the mean over cells."""
    from scipy import ndimage

    labels, n_ref = _components(reference, FACES_EDGES_CORNERS)
    if n_ref == 0:
        return {"lesion_dice": math.nan}
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    cells = labels[tuple(nearest)]
    shared = np.bincount(cells[prediction & reference], minlength=n_ref + 1)[1:]
    both = np.bincount(cells[prediction], minlength=n_ref + 1)[1:] + np.bincount(labels.ravel())[1:]
    return {"lesion_dice": float(np.mean(2 * shared / both))}


RULES: dict[str, Callable[[Mask, Mask, Spacing], Values]] = {
    "atlas2": functools.partial(_detection, connectivity=FACES),
    "isles22": functools.partial(_detection, connectivity=FACES_EDGES_CORNERS),
    "brats2023-gli": Brats2023(dilation=3, smallest_mm3=50),
    "brats2023-ssa": Brats2023(dilation=3, smallest_mm3=50),
    "brats2023-ped": Brats2023(dilation=3, smallest_mm3=50),
    "brats2023-men": Brats2023(dilation=1, smallest_mm3=50),
    "brats2023-met": Brats2023(dilation=1, smallest_mm3=2),
    "brats2024": _brats2024,
    "panoptic-iou50": _panoptic,
    "monai-component": _voronoi,
}
