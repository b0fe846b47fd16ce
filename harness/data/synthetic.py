"""Tiny volumes made from a seed: an organ, a vessel, a lesion in the organ, with texture, on awkward grids.

Shapes are defined in millimetres in space and then looked up at the centres of the voxels, so the same scene can lie
on any grid: anisotropic, oblique, with axes in any order. The same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from harness.cards.base import parse
from harness.cards.dataset import DatasetCard, ids_sha256
from harness.data.nifti_writing import write_volume
from harness.errors import UserError
from harness.files import write_text
from harness.grid import Grid

__all__ = ["LABELS", "paint", "place_grid", "write"]

LABELS = {0: "background", 1: "organ", 2: "vessel", 3: "lesion"}
_AXES = ("LPS", "RAS", "PIR", "SAL")
_FLIPS_AND_ORDER = {"LPS": "-x -y z", "RAS": "x y z", "PIR": "-y -z x", "SAL": "z y -x"}
_AIR = {"CT": -1000.0, "MR": 0.0}


def write(
    folder: Path,
    *,
    cases: int = 6,
    channels: int = 1,
    seed: int = 0,
    labelled: bool = True,
    shape: Sequence[int] = (32, 36, 24),
    spacing: Sequence[float] = (2.0, 2.0, 3.0),
    name: str = "synthetic",
) -> DatasetCard:
    """Write a data set in the layout ``pairs`` with its card; results on it carry the mark ``synthetic_data``.

    Parameters
    ----------
    folder : Path
        Gets ``card.yaml``, ``splits.yaml``, ``images`` and ``labels``.
    cases : int
        How many; three or more give a train, a val and a test part.
    channels : int
        1 makes CT-like values, more make MR-like channels c0, c1, … with different contrasts.
    seed : int
        Of everything random.
    labelled : bool
        False: no labels and no split, in the layout ``unlabelled``, for self-supervised pretraining.
    shape : sequence of 3 int
        Voxels of the first case; the others differ by up to two per axis.
    spacing : sequence of 3 float
        Nominal mm per axis.
    name : str
        Id of the data set.

    Returns
    -------
    DatasetCard
        As written.

    Raises
    ------
    UserError
        Fewer cases than the parts of a split need, or no channel.
    HarnessError
        The folder cannot be written.
    """
    if cases < (3 if labelled else 1) or channels < 1:
        raise UserError(
            "A synthetic data set needs 3 cases or more (1 without labels) and 1 channel or more; found "
            f"cases={cases}, channels={channels}."
        )
    modality = "CT" if channels == 1 else "MR"
    names = ["CT"] if channels == 1 else [f"c{number}" for number in range(channels)]
    ids = [f"case{number:03d}" for number in range(cases)]
    for number, case in enumerate(ids):
        rng = np.random.default_rng([seed, number])
        more = rng.integers(-2, 3, 3) if number else np.zeros(3, dtype=int)
        voxels = [int(n + d) for n, d in zip(shape, more, strict=True)]
        grid = place_grid(voxels, spacing, _AXES[number % len(_AXES)], rng, oblique=number % 2 == 1)
        images, labels = paint(grid, rng, channels=channels, modality=modality)
        for channel, image in zip(names, images, strict=True):
            ending = "" if channels == 1 else f"_{channel}"
            write_volume(folder / "images" / f"{case}{ending}.nii.gz", image, grid)
        if labelled:
            write_volume(folder / "labels" / f"{case}.nii.gz", labels, grid)
    image_pattern = "images/{case}.nii.gz" if channels == 1 else "images/{case}_{channel}.nii.gz"
    card: dict[str, Any] = {
        "id": name,
        "title": f"Synthetic {modality} volumes: organ, vessel and lesion (seed {seed})",
        "version": "1.0",
        "task": "segmentation" if labelled else "unlabelled",
        "modality": [modality],
        "body": "none",
        "channels": names,
        "labels": LABELS if labelled else {},
        "layout": {"kind": "unlabelled", "options": {"image": image_pattern}},
        "num_cases": cases,
        "evidence": ["synthetic_data"],
        "bundled": True,
        "terms": {
            "licence": "Apache-2.0",
            "attribution": "none",
            "how_to_get": "Write it again with harness.data.synthetic.write.",
            "redistribution": True,
        },
        "citation": "none",
    }
    splits = []
    if labelled:
        card["layout"] = {"kind": "pairs", "options": {"image": image_pattern, "label": "labels/{case}.nii.gz"}}
        splits = [_split(ids)]
        write_text(folder / "splits.yaml", yaml.safe_dump(splits, sort_keys=False))
    write_text(folder / "card.yaml", yaml.safe_dump(card, sort_keys=False))
    return parse(DatasetCard, {**card, "splits": splits}, folder / "card.yaml")


def _split(ids: list[str]) -> dict[str, Any]:
    """Give every fifth case to test, every fifth to val (one of each at least), the rest to train."""
    share = max(1, len(ids) // 5)
    parts = {"train": ids[: -2 * share], "val": ids[-2 * share : -share], "test": ids[-share:]}
    hashes = {part: ids_sha256(tuple(cases)) for part, cases in parts.items()}
    return {"id": "fixed", "source": "the order in which they were made", "parts": parts, "sha256": hashes}


def place_grid(
    shape: Sequence[int], spacing: Sequence[float], axcodes: str, rng: np.random.Generator, *, oblique: bool
) -> Grid:
    """Return a grid centred near the origin, with axes in the order of ``axcodes``, tilted by up to 20 degrees."""
    columns = np.zeros((3, 3))
    for axis, term in enumerate(_FLIPS_AND_ORDER[axcodes].split()):
        columns["xyz".index(term[-1]), axis] = -1.0 if term.startswith("-") else 1.0
    if oblique:
        first, second = rng.uniform(0.1, 0.35, 2)
        about_x = np.array([[1, 0, 0], [0, np.cos(first), -np.sin(first)], [0, np.sin(first), np.cos(first)]])
        about_z = np.array([[np.cos(second), -np.sin(second), 0], [np.sin(second), np.cos(second), 0], [0, 0, 1]])
        columns = about_x @ about_z @ columns
    affine = np.eye(4)
    affine[:3, :3] = columns * np.asarray(spacing, dtype=float)
    affine[:3, 3] = rng.uniform(-3, 3, 3) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    # NIfTI keeps affines in 32 bits; rounding here makes what is returned equal to what is read back.
    rows = affine.astype(np.float32).astype(float).tolist()
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), tuple(tuple(row) for row in rows))


def paint(
    grid: Grid, rng: np.random.Generator, *, channels: int, modality: str
) -> tuple[list[NDArray[np.int16]], NDArray[np.uint8]]:
    """Draw one scene on a grid.

    Returns
    -------
    list of ndarray of shape grid.shape, int16
        One image per channel.
    ndarray of shape grid.shape, uint8
        Labels as in `LABELS`.
    """
    points = _centres(grid)
    extent = np.array(grid.shape) * np.array(grid.spacing)
    size = float(np.sort(extent)[0])  # the shortest side: the scene fits in whatever way the axes lie
    organ_centre = rng.uniform(-0.08, 0.08, 3) * size
    organ_radii = rng.uniform(0.24, 0.32, 3) * size
    body = _ellipsoid(points, organ_centre / 2, np.full(3, 0.48 * size))
    organ = _ellipsoid(points, organ_centre, organ_radii)
    lesion = _ellipsoid(
        points, organ_centre + rng.uniform(-0.08, 0.08, 3) * size, np.full(3, rng.uniform(0.07, 0.11) * size)
    )
    vessel = _tube(points, organ_centre, 0.75 * size, max(0.06 * size, 1.2 * max(grid.spacing)), rng)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[organ] = 1
    labels[vessel] = 2
    labels[lesion] = 3

    images = []
    for channel in range(channels):
        levels = _levels(modality, channel, rng)
        image = np.full(grid.shape, _AIR[modality])
        image[body] = levels[0]
        for value in (1, 2, 3):
            image[labels == value] = levels[value]
        inside = body | (labels > 0)
        image[inside] += 30 * _texture(points, size, rng)[inside]
        image += rng.normal(0, 12, grid.shape)
        images.append(np.rint(image.clip(-1024 if modality == "CT" else 0, 3071)).astype(np.int16))
    return images, labels


def _levels(modality: str, channel: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the mean value of body, organ, vessel and lesion; MR channels order them differently."""
    if modality == "CT":
        return np.array([0.0, 110.0, 260.0, -80.0]) + rng.normal(0, 8, 4)
    contrasts = np.array([[250, 420, 150, 560], [300, 180, 520, 430], [220, 330, 470, 120]], dtype=float)
    return np.asarray(contrasts[channel % 3] * rng.uniform(0.9, 1.1), dtype=np.float64)


def _centres(grid: Grid) -> NDArray[np.float64]:
    """Return the RAS+ mm of every voxel centre, as an array of shape (3, a, b, c)."""
    index = np.indices(grid.shape, dtype=np.float64)
    turned = np.tensordot(grid.matrix[:3, :3], index, axes=1)
    return np.asarray(turned + grid.matrix[:3, 3].reshape(3, 1, 1, 1), dtype=np.float64)


def _ellipsoid(points: NDArray[np.float64], centre: Any, radii: Any) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (((points.T - centre) / radii) ** 2).sum(axis=-1).T <= 1
    return inside


def _tube(
    points: NDArray[np.float64], centre: Any, length: float, radius: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a gently bent tube that runs about from foot to head past the centre."""
    bend, phase = rng.uniform(0.05, 0.1) * length, rng.uniform(0, 2 * np.pi)
    aside = rng.uniform(0.12, 0.2) * length
    x, y, z = (points.T - centre).T
    along = z / length
    distance = np.hypot(x - aside - bend * np.sin(4 * along + phase), y - bend * np.cos(3 * along + phase))
    inside: NDArray[np.bool_] = (distance <= radius) & (np.abs(along) <= 0.5)
    return inside


def _texture(points: NDArray[np.float64], size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth random field of about unit spread: six plane waves in random directions."""
    field = np.zeros(points.shape[1:])
    for _ in range(6):
        wave = rng.normal(size=3)
        wave *= 2 * np.pi * rng.uniform(2, 6) / (size * np.linalg.norm(wave))
        field += np.cos(np.tensordot(wave, points, axes=1) + rng.uniform(0, 2 * np.pi))
    return np.asarray(field / np.sqrt(3), dtype=np.float64)
