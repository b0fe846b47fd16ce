"""Small scans written as real NIfTI files, prepared through the real code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.cards.dataset import DatasetCard
from harness.files import sha256_hex


@dataclass(frozen=True)
class Scan:
    """A case and its facts in one."""

    id: str
    images: tuple[Path, ...]
    label: Path | None
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    image_sha256: str
    label_sha256: str | None
    structures: tuple[tuple[int, Path], ...] = ()
    remap: tuple[tuple[int, int], ...] = ()


class Scans:
    """Writes scans into one folder and collects them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: dict[str, Scan] = {}

    def add(self, case, image, label=None, affine=None):
        """Write one scan: image (a, b, c) or (a, b, c, t), label (a, b, c) or none."""
        affine = np.diag([1.5, 1.0, 2.0, 1.0]) if affine is None else affine
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{case}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image, affine), path)
        label_path = None
        if label is not None:
            label_path = self.folder / f"{case}_label.nii.gz"
            nibabel.save(nibabel.Nifti1Image(label, affine), label_path)
        self.cases[case] = Scan(
            id=case,
            images=(path,),
            label=label_path,
            shape=image.shape,
            spacing=tuple(np.linalg.norm(affine[:3, :3], axis=0)),
            image_sha256=sha256_hex(image.tobytes()),
            label_sha256=None if label is None else sha256_hex(label.tobytes()),
        )
        return self.cases[case]


def make_card(labels):
    """Build a valid card of which only the labels matter here."""
    return DatasetCard(
        id="tiny",
        title="tiny",
        version="1",
        task="segmentation",
        modality=("CT",),
        body="none",
        channels=("CT",),
        labels=labels,
        layout={"kind": "pairs"},
        terms={"licence": "none", "attribution": "none", "how_to_get": "made by a test", "redistribution": True},
        citation="none",
    )


@pytest.fixture
def card():
    return make_card({0: "background", 1: "one", 2: "two", 3: "three"})


@pytest.fixture
def card_with():
    return make_card


@pytest.fixture
def scans(tmp_path):
    return Scans(tmp_path / "scans")


@pytest.fixture
def ct_scans(scans):
    """Five CT-like scans of unequal shape with a large, a small and a single-voxel class; the last has none."""
    rng = np.random.default_rng(7)
    for index, shape in enumerate([(30, 28, 20), (26, 30, 24), (34, 26, 18), (28, 28, 28), (24, 26, 22)]):
        image = rng.integers(-1100, 1400, shape).astype(np.int16)
        label = np.zeros(shape, np.uint8)
        if index < 4:
            label[4:16, 5:17, 3:12] = 1
            label[18:20, 18:20, 12:14] = 2
            label[20, 4, 5] = 3
        scans.add(f"case{index}", image, label)
    return scans
