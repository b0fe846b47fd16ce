"""Writers of the official layouts, file by file, through nibabel and SimpleITK alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PDDCA_FILES",
    "Recipe",
    "Scan",
    "Written",
    "atlas",
    "brats",
    "decathlon",
    "lits",
    "nnunet",
    "nnunet_json",
    "pair",
    "pddca",
]

Span = tuple[float, float]
_MARK = b"synthetic, no patient"


@dataclass
class Scan:
    """One case before it is written; faults change it."""

    case: str
    number: int
    images: dict[str, NDArray[Any]]
    labels: NDArray[Any]
    affine: NDArray[np.float64]
    label_affine: NDArray[np.float64]
    undrawn: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Written:
    """The files of one case."""

    images: list[Path]
    labels: list[Path]


@dataclass(frozen=True)
class Recipe:
    """One data set.

    Attributes
    ----------
    scene : str
        Key of `harness.data.synthesis.anatomy.SCENES`.
    numbers : mapping of str to int
        Structure of the scene to label value as stored in the files.
    channels : tuple of str
        Of the scene, in the order of the files or of the last axis.
    spacing : tuple of 3 (float, float)
        Lowest and highest mm along the stored axes; the first two are equal in each case.
    shape : tuple of 3 int
        Voxels of a tiny volume, about in the proportions of the real ones.
    write : callable
        Takes the root, this recipe and a scan.
    ids : tuple of str
        All cases; empty: those that the splits of the card name.
    axes : tuple of str
        Directions of the stored axes, from case to case in turn.
    origin : tuple of 3 float, optional
        Of the affine, for sets in a fixed space; else the volume is centred.
    spread : tuple of 3 int
        By how many voxels shapes differ, up and down.
    finish : callable, optional
        Writes what belongs to the set as a whole; takes the root, this recipe and the ids.
    faults : tuple of str
        Known faults of this set, beyond those that every set can have.
    """

    scene: str
    numbers: Mapping[str, int]
    channels: tuple[str, ...]
    spacing: tuple[Span, Span, Span]
    shape: tuple[int, int, int]
    write: Callable[[Path, Recipe, Scan], Written]
    ids: tuple[str, ...] = ()
    axes: tuple[str, ...] = ("LPS",)
    origin: tuple[float, float, float] | None = None
    spread: tuple[int, int, int] = (0, 0, 0)
    finish: Callable[[Path, Recipe, list[str]], None] | None = None
    faults: tuple[str, ...] = ()


def _nifti(path: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    import nibabel

    image = nibabel.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = _MARK
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def pair(image: str, label: str) -> Callable[[Path, Recipe, Scan], Written]:
    """Return a writer of one file of images (channels on its last axis) and one of labels; ``{}`` is the id."""

    def write(root: Path, recipe: Recipe, scan: Scan) -> Written:
        parts = [scan.images[channel] for channel in recipe.channels]
        data = parts[0] if len(parts) == 1 else np.stack(parts, axis=3)
        return Written(
            [_nifti(root / image.format(scan.case), data, scan.affine)],
            [_nifti(root / label.format(scan.case), scan.labels, scan.label_affine)],
        )

    return write


def brats(root: Path, recipe: Recipe, scan: Scan) -> Written:
    """Write a case of BraTS 2021: a folder with one file a channel, and ``seg``."""
    stem = f"BraTS2021_{scan.case}"
    folder = root / "RSNA_ASNR_MICCAI_BraTS2021_TrainingData" / stem
    images = [
        _nifti(folder / f"{stem}_{name}.nii.gz", scan.images[name], scan.affine)
        for name in recipe.channels
        if name in scan.images
    ]
    return Written(images, [_nifti(folder / f"{stem}_seg.nii.gz", scan.labels, scan.label_affine)])


def atlas(root: Path, recipe: Recipe, scan: Scan) -> Written:
    """Write a case of ATLAS v2.0 in its BIDS-like tree, with a hidden double beside it."""
    folder = root / "ATLAS_2" / "Training" / f"R{scan.case[5:8]}" / scan.case / "ses-1" / "anat"
    stem = f"{scan.case}_ses-1_space-MNI152NLin2009aSym_"
    image = _nifti(folder / f"{stem}T1w.nii.gz", scan.images[recipe.channels[0]], scan.affine)
    label = _nifti(folder / f"{stem}label-L_desc-T1lesion_mask.nii.gz", scan.labels, scan.label_affine)
    (folder / f"._{stem}T1w.nii.gz").write_bytes(b"hidden files are scattered through the official tree")
    return Written([image], [label])


def lits(root: Path, recipe: Recipe, scan: Scan) -> Written:
    """Write a case of LiTS: uncompressed, in the folder of its batch."""
    folder = root / f"Training Batch {1 if int(scan.case) <= 27 else 2}"
    return Written(
        [_nifti(folder / f"volume-{scan.case}.nii", scan.images[recipe.channels[0]], scan.affine)],
        [_nifti(folder / f"segmentation-{scan.case}.nii", scan.labels, scan.label_affine)],
    )


PDDCA_FILES = {
    "brainstem": "BrainStem",
    "chiasm": "Chiasm",
    "mandible": "Mandible",
    "left_optic_nerve": "OpticNerve_L",
    "right_optic_nerve": "OpticNerve_R",
    "left_parotid": "Parotid_L",
    "right_parotid": "Parotid_R",
    "left_submandibular": "Submandibular_L",
    "right_submandibular": "Submandibular_R",
}


def pddca(root: Path, recipe: Recipe, scan: Scan) -> Written:
    """Write a case of PDDCA: NRRD, one mask a structure, landmarks beside them."""
    folder = root / scan.case
    image = _nrrd(folder / "img.nrrd", scan.images[recipe.channels[0]], scan.affine)
    masks = [
        _nrrd(folder / "structures" / f"{file}.nrrd", scan.labels == recipe.numbers[name], scan.label_affine)
        for name, file in PDDCA_FILES.items()
        if name not in scan.undrawn
    ]
    (folder / f"{scan.case}.fcsv").write_text("# landmarks would be here\n", encoding="utf-8")
    return Written([image], masks)


def _nrrd(path: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    import SimpleITK as sitk  # noqa: N813

    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    stored = data.astype(np.uint8) if data.dtype == bool else data
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def decathlon(name: str, stem: str) -> dict[str, Any]:
    """Return what the tasks of the Decathlon share; ``stem`` begins the names of the files."""

    def finish(root: Path, recipe: Recipe, ids: list[str]) -> None:
        listed = [
            {"image": f"./imagesTr/{stem}_{case}.nii.gz", "label": f"./labelsTr/{stem}_{case}.nii.gz"} for case in ids
        ]
        numbers = {str(value): organ for organ, value in recipe.numbers.items()}
        content = {
            "name": name.partition("_")[2],
            "description": "synthetic",
            "modality": {str(number): channel for number, channel in enumerate(recipe.channels)},
            "labels": {"0": "background", **numbers},
            "numTraining": len(ids),
            "numTest": 0,
            "training": listed,
            "test": [],
        }
        _json(root / name / "dataset.json", content)
        (root / name / "imagesTr" / f"._{stem}_{ids[0]}.nii.gz").write_bytes(b"an AppleDouble, as in the archive")

    return {
        "write": pair(f"{name}/imagesTr/{stem}_{{}}.nii.gz", f"{name}/labelsTr/{stem}_{{}}.nii.gz"),
        "finish": finish,
    }


def nnunet(root: Path, recipe: Recipe, scan: Scan) -> Written:
    """Write a case as nnU-Net v2 wants it: one file a channel, numbered."""
    images = [
        _nifti(root / "imagesTr" / f"{scan.case}_{number:04d}.nii.gz", scan.images[channel], scan.affine)
        for number, channel in enumerate(recipe.channels)
        if channel in scan.images
    ]
    return Written(images, [_nifti(root / "labelsTr" / f"{scan.case}.nii.gz", scan.labels, scan.label_affine)])


def nnunet_json(root: Path, recipe: Recipe, ids: list[str]) -> None:
    """Write the ``dataset.json`` of nnU-Net v2."""
    content = {
        "channel_names": {str(number): channel for number, channel in enumerate(recipe.channels)},
        "labels": {"background": 0, **recipe.numbers},
        "numTraining": len(ids),
        "file_ending": ".nii.gz",
    }
    _json(root / "dataset.json", content)


def _json(path: Path, content: Any) -> None:
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
