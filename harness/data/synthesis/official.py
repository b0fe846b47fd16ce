"""How each public data set lies on disk as downloaded, written down from its own documentation.

Nothing here is taken from the cards' layouts, and nothing of `harness.data` is used, so that a wrong card is found.
Where the documentation gives no orientation the axes are LPS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RECIPES", "Recipe", "Scan", "Written"]

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


def _pair(image: str, label: str) -> Callable[[Path, Recipe, Scan], Written]:
    """Return a writer of one file of images (channels on its last axis) and one of labels; ``{}`` is the id."""

    def write(root: Path, recipe: Recipe, scan: Scan) -> Written:
        parts = [scan.images[channel] for channel in recipe.channels]
        data = parts[0] if len(parts) == 1 else np.stack(parts, axis=3)
        return Written(
            [_nifti(root / image.format(scan.case), data, scan.affine)],
            [_nifti(root / label.format(scan.case), scan.labels, scan.label_affine)],
        )

    return write


def _brats(root: Path, recipe: Recipe, scan: Scan) -> Written:
    stem = f"BraTS2021_{scan.case}"
    folder = root / "RSNA_ASNR_MICCAI_BraTS2021_TrainingData" / stem
    images = [
        _nifti(folder / f"{stem}_{name}.nii.gz", scan.images[name], scan.affine)
        for name in recipe.channels
        if name in scan.images
    ]
    return Written(images, [_nifti(folder / f"{stem}_seg.nii.gz", scan.labels, scan.label_affine)])


def _atlas(root: Path, recipe: Recipe, scan: Scan) -> Written:
    folder = root / "ATLAS_2" / "Training" / f"R{scan.case[5:8]}" / scan.case / "ses-1" / "anat"
    stem = f"{scan.case}_ses-1_space-MNI152NLin2009aSym_"
    image = _nifti(folder / f"{stem}T1w.nii.gz", scan.images[recipe.channels[0]], scan.affine)
    label = _nifti(folder / f"{stem}label-L_desc-T1lesion_mask.nii.gz", scan.labels, scan.label_affine)
    (folder / f"._{stem}T1w.nii.gz").write_bytes(b"hidden files are scattered through the official tree")
    return Written([image], [label])


def _lits(root: Path, recipe: Recipe, scan: Scan) -> Written:
    folder = root / f"Training Batch {1 if int(scan.case) <= 27 else 2}"
    return Written(
        [_nifti(folder / f"volume-{scan.case}.nii", scan.images[recipe.channels[0]], scan.affine)],
        [_nifti(folder / f"segmentation-{scan.case}.nii", scan.labels, scan.label_affine)],
    )


_PDDCA_FILES = {
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


def _pddca(root: Path, recipe: Recipe, scan: Scan) -> Written:
    folder = root / scan.case
    image = _nrrd(folder / "img.nrrd", scan.images[recipe.channels[0]], scan.affine)
    masks = [
        _nrrd(folder / "structures" / f"{file}.nrrd", scan.labels == recipe.numbers[name], scan.label_affine)
        for name, file in _PDDCA_FILES.items()
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


def _decathlon(name: str, stem: str) -> dict[str, Any]:
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
        "write": _pair(f"{name}/imagesTr/{stem}_{{}}.nii.gz", f"{name}/labelsTr/{stem}_{{}}.nii.gz"),
        "finish": finish,
    }


def _nnunet(root: Path, recipe: Recipe, scan: Scan) -> Written:
    images = [
        _nifti(root / "imagesTr" / f"{scan.case}_{number:04d}.nii.gz", scan.images[channel], scan.affine)
        for number, channel in enumerate(recipe.channels)
        if channel in scan.images
    ]
    return Written(images, [_nifti(root / "labelsTr" / f"{scan.case}.nii.gz", scan.labels, scan.label_affine)])


def _nnunet_json(root: Path, recipe: Recipe, ids: list[str]) -> None:
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


def _numbered(pattern: str, *spans: tuple[int, int]) -> tuple[str, ...]:
    return tuple(pattern.format(number) for first, last in spans for number in range(first, last + 1))


_BTCV = (
    *("spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("inferior_vena_cava", "portal_and_splenic_veins", "pancreas", "right_adrenal_gland", "left_adrenal_gland"),
)
_BTCV_RECIPE = Recipe(
    scene="abdomen",
    numbers={name: value for value, name in enumerate(_BTCV, start=1)},
    channels=("CT",),
    spacing=((0.59, 0.98), (0.59, 0.98), (2.5, 5.0)),
    shape=(48, 48, 36),
    write=_pair("RawData/Training/img/img{}.nii.gz", "RawData/Training/label/label{}.nii.gz"),
    ids=_numbered("{:04d}", (1, 10), (21, 40)),
    spread=(0, 0, 4),
    faults=("flipped-label", "swapped-sides"),
)
_ONE_MM = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
_LIVER_SPACING = ((0.56, 1.0), (0.56, 1.0), (0.7, 5.0))

RECIPES: dict[str, Recipe] = {
    "btcv": _BTCV_RECIPE,
    "synapse8": _BTCV_RECIPE,
    "segthor": Recipe(
        scene="chest",
        numbers={"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4},
        channels=("CT",),
        spacing=((0.9, 1.37), (0.9, 1.37), (2.0, 3.7)),
        shape=(48, 48, 36),
        write=_pair("train/{0}/{0}.nii.gz", "train/{0}/GT.nii.gz"),
        ids=_numbered("Patient_{:02d}", (1, 40)),
        spread=(0, 0, 4),
        faults=("moved-heart", "flipped-label"),
    ),
    "pddca": Recipe(
        scene="head",
        numbers={name: value for value, name in enumerate(_PDDCA_FILES, start=1)},
        channels=("CT",),
        spacing=((0.76, 1.27), (0.76, 1.27), (1.25, 3.0)),
        shape=(48, 48, 40),
        write=_pddca,
        spread=(0, 0, 4),
        faults=("missing-structure", "swapped-sides", "flipped-label"),
    ),
    "brats2021": Recipe(
        scene="tumour_brain",
        numbers={"necrotic_core": 1, "edema": 2, "enhancing_tumour": 4},
        channels=("flair", "t1", "t1ce", "t2"),
        spacing=_ONE_MM,
        shape=(48, 48, 32),
        write=_brats,
        origin=(0, 239, 0),
        faults=("brats-2023-labels", "missing-channel"),
    ),
    "atlas_v2": Recipe(
        scene="stroke_brain",
        numbers={"lesion": 1},
        channels=("T1w",),
        spacing=_ONE_MM,
        shape=(40, 48, 38),
        write=_atlas,
        ids=tuple(f"sub-r{1 + n // 20:03d}s{1 + n % 20:03d}" for n in range(655)),
        axes=("RAS",),
        origin=(-98, -134, -72),
    ),
    "lits": Recipe(
        scene="abdomen",
        numbers={"liver": 1, "tumour": 2},
        channels=("CT",),
        spacing=_LIVER_SPACING,
        shape=(48, 48, 36),
        write=_lits,
        ids=_numbered("{}", (0, 130)),
        axes=("LPS", "LAS", "RAS"),
        spread=(0, 0, 6),
        faults=("identity-affine",),
    ),
    "atriaseg2018": Recipe(
        scene="atrium",
        numbers={"left_atrium": 1},
        channels=("LGE",),
        spacing=((0.625, 0.625), (0.625, 0.625), (0.625, 0.625)),
        shape=(32, 40, 48),
        write=_pair("{}.nii.gz", "{}_lab.nii.gz"),
        faults=("raw-label-value",),
    ),
    "msd_task01_brain": Recipe(
        scene="tumour_brain",
        numbers={"edema": 1, "necrotic_core": 2, "enhancing_tumour": 3},
        channels=("flair", "t1w", "t1gd", "t2w"),
        spacing=_ONE_MM,
        shape=(48, 48, 32),
        ids=_numbered("{:03d}", (1, 484)),
        faults=("brats-labels",),
        **_decathlon("Task01_BrainTumour", "BRATS"),
    ),
    "msd_task03_liver": Recipe(
        scene="abdomen",
        numbers={"liver": 1, "tumour": 2},
        channels=("CT",),
        spacing=_LIVER_SPACING,
        shape=(48, 48, 36),
        ids=_numbered("{}", (0, 130)),
        spread=(0, 0, 6),
        **_decathlon("Task03_Liver", "liver"),
    ),
    "msd_task04_hippocampus": Recipe(
        scene="hippocampus",
        numbers={"anterior_hippocampus": 1, "posterior_hippocampus": 2},
        channels=("T1",),
        spacing=_ONE_MM,
        shape=(36, 50, 36),
        axes=("RAS",),
        spread=(4, 8, 8),
        faults=("swapped-ends",),
        **_decathlon("Task04_Hippocampus", "hippocampus"),
    ),
    "msd_task06_lung": Recipe(
        scene="chest",
        numbers={"tumour": 1},
        channels=("CT",),
        spacing=((0.6, 0.98), (0.6, 0.98), (0.63, 2.5)),
        shape=(48, 48, 36),
        ids=_numbered("{:03d}", (1, 63)),
        **_decathlon("Task06_Lung", "lung"),
    ),
    "msd_task09_spleen": Recipe(
        scene="abdomen",
        numbers={"spleen": 1},
        channels=("CT",),
        spacing=((0.61, 0.98), (0.61, 0.98), (1.5, 8.0)),
        shape=(48, 48, 36),
        spread=(0, 0, 4),
        **_decathlon("Task09_Spleen", "spleen"),
    ),
    "nnunet": Recipe(
        scene="abdomen",
        numbers={"liver": 1, "spleen": 2, "aorta": 3},
        channels=("CT",),
        spacing=((0.6, 1.0), (0.6, 1.0), (2.0, 5.0)),
        shape=(48, 48, 36),
        write=_nnunet,
        ids=_numbered("case_{:03d}", (0, 99)),
        finish=_nnunet_json,
    ),
}
