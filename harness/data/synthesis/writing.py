"""Tiny made-up volumes as a public data set would lie on disk, whole or not at all, and marked as made up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from harness.cards.dataset import DatasetCard
from harness.data.folders import new_folder
from harness.data.roots import SYNTHETIC_MARK
from harness.data.synthesis.anatomy import SCENES, Coordinates, draw
from harness.data.synthesis.faults import EVERYWHERE, in_files, in_scans
from harness.data.synthesis.formats import Recipe, Scan, Written
from harness.data.synthesis.official import RECIPES
from harness.errors import UserError, unknown_name
from harness.files import write_json, write_text
from harness.progress import track

__all__ = ["GENERIC", "faults_of", "synthesize"]

GENERIC = "nnunet"  # the layout of anybody's own data; it comes with a card of its own
_WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def faults_of(dataset: str) -> tuple[str, ...]:
    """Return the faults that a data set can be written with.

    Raises
    ------
    UserError
        No such data set can be written.
    """
    recipe = _recipe(dataset)
    if dataset == "pddca":  # one mask a structure: whatever is not 0 is the structure, so no value is unknown
        return (*recipe.faults, *(fault for fault in EVERYWHERE if fault != "unknown-label"))
    return (*recipe.faults, *EVERYWHERE)


def synthesize(
    dataset: str,
    out: Path,
    *,
    ids: Sequence[str] = (),
    cases: int = 6,
    fault: str | None = None,
    seed: int = 0,
    shape: Sequence[int] | None = None,
) -> list[str]:
    """Write a data set in its official layout.

    The folder holds ``harness-synthetic.json``; whatever is made from data in or below a folder with this file is
    marked as synthetic. The same arguments give the same voxels.

    Parameters
    ----------
    dataset : str
        Id of the card, or ``nnunet`` for a generic nnU-Net folder with a card of its own (``synthetic_nnunet``).
    out : Path
        New or empty folder.
    ids : sequence of str
        All ids of the set, for sets whose ids follow no rule: those of the card's splits.
    cases : int
        How many, evenly picked from all ids so that every part of a split has some; 2 or more.
    fault : str, optional
        One of `faults_of`.
    seed : int
        Of everything random.
    shape : sequence of 3 int, optional
        Voxels per axis; small by default.

    Returns
    -------
    list of str
        The ids that were written.

    Raises
    ------
    UserError
        The data set or the fault is unknown, there are not so many ids, or the folder is not empty.
    """
    recipe = _recipe(dataset)
    if fault is not None and fault not in faults_of(dataset):
        raise unknown_name("fault", fault, faults_of(dataset), f"{dataset} can be written with these.")
    chosen = _choose(recipe.ids or tuple(sorted(ids)), cases, dataset, fault)
    size = tuple(shape) if shape is not None else recipe.shape
    if len(size) != 3 or min(size) < 8:
        raise UserError(f"A scene needs three sides of 8 voxels or more; found {size}.")
    with new_folder(out) as folder:
        written: list[Written] = []
        for number, case in enumerate(track(chosen, f"synthesize {dataset}")):
            scan = _scan(recipe, case, number, size, np.random.default_rng([seed, number]))
            if fault is not None:
                in_scans(fault, recipe, scan)
            written.append(recipe.write(folder, recipe, scan))
        if recipe.finish is not None:
            recipe.finish(folder, recipe, chosen)
        if fault is not None:
            in_files(fault, written)
        if dataset == GENERIC:
            write_text(folder / "card.yaml", yaml.safe_dump(_generic_card(recipe, len(chosen)), sort_keys=False))
            write_text(folder / "splits.yaml", yaml.safe_dump(_generic_splits(len(chosen)), sort_keys=False))
        about = {"dataset": dataset, "cases": len(chosen), "fault": fault, "seed": seed, "shape": list(size)}
        write_json(folder / SYNTHETIC_MARK, {"synthetic": True, "made_by": "harness data synthesize", **about})
    return chosen


def _recipe(dataset: str) -> Recipe:
    if dataset not in RECIPES:
        raise unknown_name("synthetic data set", dataset, RECIPES, "These layouts can be written.")
    return RECIPES[dataset]


def _choose(ids: tuple[str, ...], cases: int, dataset: str, fault: str | None) -> list[str]:
    if not 2 <= cases <= len(ids):
        raise UserError(f"{dataset} can be written with 2 to {len(ids)} cases; found cases={cases}.")
    chosen = [ids[number * len(ids) // cases] for number in range(cases)]
    if fault == "identity-affine" and "28" not in chosen:
        chosen[1] = "28"  # only 28 to 47 have it
    return chosen


def _scan(recipe: Recipe, case: str, number: int, size: Sequence[int], rng: np.random.Generator) -> Scan:
    spread = rng.integers(-np.array(recipe.spread), np.array(recipe.spread) + 1)
    shape = [int(n + more) for n, more in zip(size, spread, strict=True)]
    plane = rng.uniform(*recipe.spacing[0])
    spacing = (plane, plane, rng.uniform(*recipe.spacing[2]))
    axes = recipe.axes[number % len(recipe.axes)]
    affine = _affine(axes, shape, spacing, recipe.origin)
    images, labels = draw(SCENES[recipe.scene], recipe.channels, recipe.numbers, _coordinates(axes, shape), rng)
    return Scan(case, number, dict(images), labels, affine, affine.copy())


def _coordinates(axes: str, shape: Sequence[int]) -> Coordinates:
    """Return R, A and S from -1 to 1, each varying along the array axis that runs that way."""
    found: dict[int, NDArray[np.float32]] = {}
    for axis, letter in enumerate(axes):
        world, sign = _WORLD[letter]
        steps = sign * ((2 * np.arange(shape[axis]) + 1) / shape[axis] - 1)
        found[world] = steps.astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    return found[0], found[1], found[2]


def _affine(
    axes: str, shape: Sequence[int], spacing: Sequence[float], origin: Sequence[float] | None
) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(axes):
        world, sign = _WORLD[letter]
        affine[world, axis] = sign * spacing[axis]
    centre = affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    affine[:3, 3] = -centre if origin is None else origin
    return affine.astype(np.float32).astype(np.float64)  # as files keep it


def _generic_card(recipe: Recipe, cases: int) -> dict[str, Any]:
    card = {
        "id": "synthetic_nnunet",
        "title": "Synthetic CT in the layout of nnU-Net",
        "version": "1.0",
        "task": "segmentation",
        "modality": ["CT"],
        "body": "none",
        "channels": list(recipe.channels),
        "labels": {0: "background", **{value: name for name, value in recipe.numbers.items()}},
        "layout": {"kind": "nnunet"},
        "num_cases": cases,
        "evidence": ["synthetic_data"],
        "bundled": True,
        "terms": {
            "licence": "Apache-2.0",
            "attribution": "none",
            "how_to_get": "Write it again with `harness data synthesize nnunet`.",
            "redistribution": True,
        },
        "citation": "none",
    }
    DatasetCard.model_validate(card)
    return card


def _generic_splits(cases: int) -> list[dict[str, Any]]:
    return [
        {
            "id": "made",
            "source": "made from the ids on disk",
            "made": {"folds": min(5, cases), "seed": 0},
        }
    ]
