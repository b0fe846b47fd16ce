"""Time of preparing a case beside the MONAI chain that does the same: `python benchmarks/preprocessing.py`.

A synthetic CT of 512x512x150 voxels (0.78x0.78x3 mm, LPS) with labels is read from .nii.gz, brought to RAS and
1.5x1.5x2 mm, windowed to [0, 1], and the voxels of each class are indexed. Ours also writes the cache and waits for the
disk; MONAI's result stays in memory. Both run in turn in one process with one thread; medians are printed, and the
results are compared: both interpolate linearly, but MONAI aligns the first voxel centres where we align the extent.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import monai.transforms as mt
import nibabel
import numpy as np
import torch
from scipy.ndimage import zoom

from harness.data.layouts import Case
from harness.data.preprocessing import prepare
from harness.data.settings import IntensityRule, Preprocessing

SHAPE, SPACING, AFFINE = (512, 512, 150), (1.5, 1.5, 2.0), np.diag([-0.78, -0.78, 3.0, 1.0])


def write_case(folder: Path) -> Case:
    rng = np.random.default_rng(0)
    smooth = zoom(rng.normal(size=(17, 17, 16)), [n / m for n, m in zip(SHAPE, (17, 17, 16), strict=True)], order=1)
    image = (smooth * 300 + rng.normal(0, 15, SHAPE)).astype(np.int16)
    label = np.digitize(smooth, [0.5, 1.0, 1.5]).astype(np.uint8)
    for name, data in (("image", image), ("label", label)):
        nibabel.save(nibabel.Nifti1Image(data, AFFINE), folder / f"{name}.nii.gz")
    return Case("case", (folder / "image.nii.gz",), folder / "label.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    both = ["image", "label"]
    chain = mt.Compose(
        [
            mt.LoadImaged(both),
            mt.EnsureChannelFirstd(both),
            mt.Orientationd(both, "RAS", labels=None),
            mt.Spacingd(both, SPACING, mode=("bilinear", "nearest")),
            mt.ScaleIntensityRanged("image", -1000, 1000, 0, 1, clip=True),
            mt.FgBgToIndicesd("label"),
        ]
    )
    settings = Preprocessing(spacing=SPACING, intensity=IntensityRule(rule="window", window=(-1000, 1000), to=(0, 1)))
    card: Any = SimpleNamespace(labels=dict.fromkeys(range(4), ""), channels=("CT",))
    facts: Any = SimpleNamespace(shape=SHAPE, spacing=(0.78, 0.78, 3.0), image_sha256="a", label_sha256="b")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = write_case(folder)

        def ours(turn: int) -> Any:
            return prepare(card, {"case": case}, {"case": facts}, settings, folder / f"cache{turn}").case("case")

        def monai(turn: int) -> Any:
            del turn
            return chain({"image": str(case.images[0]), "label": str(case.label)})

        seconds: dict[str, list[tuple[float, float]]] = {"harness": [], "monai": []}
        sources: dict[str, Callable[[int], Any]] = {"harness": ours, "monai": monai}
        made = {}
        for turn in range(options.repeats):
            for source, make in sources.items():
                wall, cpu = time.perf_counter(), time.process_time()
                made[source] = make(turn)
                seconds[source].append((time.perf_counter() - wall, time.process_time() - cpu))
        medians = {
            source: [statistics.median(column) for column in zip(*rows, strict=True)]
            for source, rows in seconds.items()
        }
        for source, (wall, cpu) in medians.items():
            print(f"{source:8s} wall {wall:6.2f} s   CPU {cpu:6.2f} s")
        ratios = [theirs / mine for theirs, mine in zip(medians["monai"], medians["harness"], strict=True)]
        print(f"1/{ratios[0]:.1f} of MONAI's time, 1/{ratios[1]:.1f} of its CPU")
        shapes = made["harness"].image.shape, tuple(made["monai"]["image"].shape)
        print(f"shapes {shapes[0]} and {shapes[1]}")


if __name__ == "__main__":
    main()
