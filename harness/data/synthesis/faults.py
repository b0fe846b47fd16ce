"""Faults that downloaded folders really have, put into synthetic cases on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from harness.data.synthesis.formats import Recipe, Scan, Written

__all__ = ["EVERYWHERE", "FAULTS", "in_files", "in_scans"]

Change: TypeAlias = Callable[[Recipe, Scan], None]
_IRCAD = range(28, 48)  # the cases of LiTS that are 3D-IRCADb


def _moved_heart(recipe: Recipe, scan: Scan) -> None:
    """Turn the heart by 27 degrees about voxel (275, 200) of 512 and shift it by (50, 40, 15) of about 512 x 512 x 200.

    Both are scaled to the tiny volume.
    """
    heart = np.argwhere(scan.labels == recipe.numbers["heart"]).astype(float)
    scale = np.array(scan.labels.shape) / (512, 512, 200)
    angle = np.deg2rad(27)
    middle = np.array((275, 200)) * scale[:2]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    heart[:, :2] = (heart[:, :2] - middle) @ turn.T + middle
    moved = np.rint(heart + np.array((50, 40, 15)) * scale).astype(int)
    moved = moved[((moved >= 0) & (moved < scan.labels.shape)).all(axis=1)]
    scan.labels[scan.labels == recipe.numbers["heart"]] = 0
    scan.labels[tuple(moved.T)] = recipe.numbers["heart"]


def _flipped_label(recipe: Recipe, scan: Scan) -> None:
    """Mirror the labels in the array along the axis between left and right, and leave the image."""
    del recipe
    sideways = int(np.argmax(np.abs(scan.affine[0, :3])))
    scan.labels = np.flip(scan.labels, sideways).copy()


def _exchange(*pairs: tuple[str, str]) -> Change:
    def change(recipe: Recipe, scan: Scan) -> None:
        for one, other in pairs:
            if one in recipe.numbers:
                first, second = (scan.labels == recipe.numbers[name] for name in (one, other))
                scan.labels[first], scan.labels[second] = recipe.numbers[other], recipe.numbers[one]

    return change


def _renumber(old: int, new: int) -> Change:
    def change(recipe: Recipe, scan: Scan) -> None:
        del recipe
        scan.labels[scan.labels == old] = new

    return change


def _identity_affine(recipe: Recipe, scan: Scan) -> None:
    del recipe
    if int(scan.case) in _IRCAD:
        scan.affine, scan.label_affine = np.eye(4), np.eye(4)


def _missing_structure(recipe: Recipe, scan: Scan) -> None:
    del recipe
    scan.undrawn |= {"mandible", "right_submandibular"}


def _missing_channel(recipe: Recipe, scan: Scan) -> None:
    del scan.images[recipe.channels[-1]]


def _other_shape(recipe: Recipe, scan: Scan) -> None:
    del recipe
    scan.labels = scan.labels[:-1].copy()


def _other_place(recipe: Recipe, scan: Scan) -> None:
    del recipe
    scan.label_affine = scan.label_affine.copy()
    scan.label_affine[0, 3] += 5


def _constant_image(recipe: Recipe, scan: Scan) -> None:
    scan.images[recipe.channels[0]][:] = 0
    if len(recipe.channels) > 1:
        for image in scan.images.values():
            image[:] = 0


def _not_a_number(recipe: Recipe, scan: Scan) -> None:
    scan.images = {name: image.astype(np.float32) for name, image in scan.images.items()}
    scan.images[recipe.channels[0]][2, 3, 4] = np.nan


def _unknown_label(recipe: Recipe, scan: Scan) -> None:
    del recipe
    scan.labels[0, 0, :3] = 99


# name: (what changes a scan or None, whether every case has it; else the second one)
FAULTS: dict[str, tuple[Change | None, bool]] = {
    "moved-heart": (_moved_heart, True),
    "flipped-label": (_flipped_label, False),
    "swapped-sides": (_exchange(("left_kidney", "right_kidney"), ("left_parotid", "right_parotid")), False),
    "swapped-ends": (_exchange(("anterior_hippocampus", "posterior_hippocampus")), False),
    "brats-2023-labels": (_renumber(4, 3), True),
    "brats-labels": (_renumber(3, 4), True),
    "raw-label-value": (_renumber(1, 255), True),
    "identity-affine": (_identity_affine, True),
    "missing-structure": (_missing_structure, False),
    "missing-channel": (_missing_channel, False),
    "label-of-other-shape": (_other_shape, False),
    "label-of-other-place": (_other_place, False),
    "constant-image": (_constant_image, False),
    "not-a-number": (_not_a_number, False),
    "unknown-label": (_unknown_label, False),
    "missing-label": (None, False),
    "missing-image": (None, False),
    "cut-file": (None, False),
    "doubled-case": (None, False),
}
EVERYWHERE = (
    *("missing-label", "missing-image", "cut-file", "doubled-case", "label-of-other-shape", "label-of-other-place"),
    *("constant-image", "not-a-number", "unknown-label"),
)


def in_scans(fault: str, recipe: Recipe, scan: Scan) -> None:
    """Put a fault into a scan before it is written, if it is one that it shall have."""
    change, everywhere = FAULTS[fault]
    if change is not None and (everywhere or scan.number == 1):
        change(recipe, scan)


def in_files(fault: str, written: Sequence[Written]) -> None:
    """Put a fault into the files of the second case after they were written."""
    first, second = written[:2]
    if fault == "missing-label":
        for path in second.labels:
            path.unlink()
    elif fault == "missing-image":
        second.images[0].unlink()
    elif fault == "cut-file":
        content = second.images[0].read_bytes()
        second.images[0].write_bytes(content[: len(content) // 2])
    elif fault == "doubled-case":
        for one, other in zip(first.images + first.labels, second.images + second.labels, strict=True):
            other.write_bytes(one.read_bytes())
