"""Time of reading a CT and a label map from .nii.gz, beside nibabel, SimpleITK and MONAI.

    python benchmarks/reading.py [--repeats 7] [--shape 512 512 150]

The files are made from a seed: smooth anatomy with noise for the CT (int16), nested ellipsoids for the labels (uint8),
of about the packed size of real ones. All readers are interleaved in one process on one warm file; values and affine
are compared with nibabel's before anything is timed. Medians of CPU time decide, because they do not depend on what
else the machine does; all readers use one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.transforms import LoadImage
from scipy.ndimage import gaussian_filter

from harness.data.reading import read
from harness.grid import Grid

ASK = {"ct": 0.55, "labels": 0.25}  # of nibabel's time
ASK_MONAI = 0.2


def make(folder: Path, shape: tuple[int, int, int]) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    grid = Grid(shape, np.diag([-0.78, -0.78, 3.0, 1.0]))
    coarse = gaussian_filter(rng.normal(size=[n // 8 + 1 for n in shape]), 2)
    smooth = np.kron(coarse / coarse.std(), np.ones((8, 8, 8)))[: shape[0], : shape[1], : shape[2]]
    place = np.indices(shape, dtype=np.float32)
    radius = sum(((p - n / 2) / (n / 2)) ** 2 for p, n in zip(place, shape, strict=True))
    ct = np.where(radius < 0.8, 40 + 120 * smooth + rng.normal(0, 12, shape), -1000).astype(np.int16)
    labels = (radius < 0.6).astype(np.uint8) + (radius < 0.3) + (radius < 0.05) * 5
    paths = {"ct": folder / "ct.nii.gz", "labels": folder / "labels.nii.gz"}
    for name, data in (("ct", ct), ("labels", labels.astype(np.uint8))):
        image = nibabel.Nifti1Image(data, grid.matrix)  # gzip level 1 of nibabel, as most files in the wild
        nibabel.save(image, paths[name])
    return paths


READERS: dict[str, Any] = {
    "harness": lambda path: read(path).data,
    "nibabel": lambda path: np.asanyarray(nibabel.load(path).dataobj),
    "SimpleITK": lambda path: sitk.GetArrayFromImage(sitk.ReadImage(str(path))),
    "MONAI LoadImage": lambda path: LoadImage(image_only=True)(path),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--shape", type=int, nargs=3, default=(512, 512, 150))
    given = options.parse_args()
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in make(Path(folder), tuple(given.shape)).items():
            ours, theirs = read(path), nibabel.load(path)
            expected = np.asanyarray(theirs.dataobj)
            if not (np.array_equal(ours.data, expected) and ours.data.dtype == expected.dtype):
                raise SystemExit(f"{name}: the values differ from nibabel's")
            if not np.array_equal(ours.grid.matrix, theirs.affine):
                raise SystemExit(f"{name}: the affine differs from nibabel's")
            taken: dict[str, list[float]] = {reader: [] for reader in READERS}
            for _ in range(given.repeats):
                for reader, function in READERS.items():
                    start = time.process_time()
                    function(path)
                    taken[reader].append(time.process_time() - start)
            median = {reader: statistics.median(times) for reader, times in taken.items()}
            print(f"{name}: {expected.nbytes / 1e6:.1f} MB, {path.stat().st_size / 1e6:.1f} MB packed")
            for reader, seconds in median.items():
                print(f"  {reader:16s} {seconds:7.3f} s   {seconds / median['nibabel']:5.2f} of nibabel")
            for reader, ask in (("nibabel", ASK[name]), ("MONAI LoadImage", ASK_MONAI)):
                ratio = median["harness"] / median[reader]
                print(f"  harness / {reader}: {ratio:.2f}, asked {ask}: {'met' if ratio <= ask else 'MISSED'}")
                missed += [f"{name} against {reader}"] if ratio > ask else []
    if missed:
        raise SystemExit("missed: " + ", ".join(missed))


if __name__ == "__main__":
    main()
