"""CPU per training patch of nnU-Net's own loader, for `patches.py --nnunet PYTHON`: run by a Python that has nnunetv2.

    PYTHON benchmarks/patches_nnunet.py CASES.json --patches 60

``CASES.json`` lists the prepared volumes of `patches.py` ([image.npy, label.npy] per case), so that both sides read the
same voxels. nnU-Net's own writer stores them beside that file (blosc2, chunks for its patch), its own loader
(batches of 2, every second patch on foreground) reads patches of 96^3, and `nnUNetTrainer.get_training_transforms`
augments them, from the larger patch that its rotation asks for. One JSON line is printed: milliseconds of CPU per patch
plain and augmented (medians of blocks that take turns), and the bytes stored.

Install it apart, because it brings a torch of its own: ``python3.11 -m venv V; V/bin/pip install nnunetv2``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

SIZE, CLASSES, BATCH = (96, 96, 96), [1, 2, 3], 2
TURN = (-math.pi / 6, math.pi / 6)  # what its trainer takes for patches like these


def store(cases: list[list[str]], folder: Path) -> int:
    folder.mkdir()
    for number, (image, label) in enumerate(cases):
        data = np.load(image).astype(np.float32)
        seg = np.load(label)[None].astype(np.int16)
        properties = {"class_locations": DefaultPreprocessor._sample_foreground_locations(seg, CLASSES)}
        shapes: dict[str, Any] = {}
        for suffix, array in (("", data), ("_seg", seg)):
            blocks, chunks = comp_blosc2_params(array.shape, SIZE, array.itemsize)
            shapes |= {f"blocks{suffix}": blocks, f"chunks{suffix}": chunks}
        nnUNetDatasetBlosc2.save_case(data, seg, properties, str(folder / f"{number:03}"), **shapes)
    return sum(path.stat().st_size for path in folder.glob("*.b2nd"))


def loader(folder: Path, augment: bool) -> Any:
    labels = LabelManager({"background": 0, **{f"class {value}": value for value in CLASSES}}, None)
    transforms, first = None, SIZE
    if augment:
        first = tuple(int(n) for n in get_patch_size(SIZE, TURN, TURN, TURN, (0.85, 1.25)))
        transforms = nnUNetTrainer.get_training_transforms(SIZE, TURN, None, (0, 1, 2), False)
    dataset = nnUNetDatasetBlosc2(str(folder))
    return nnUNetDataLoader(dataset, BATCH, first, SIZE, labels, 0.5, transforms=transforms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--patches", type=int, default=60)
    parser.add_argument("--blocks", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002 - nnU-Net draws from the global generators
    torch.manual_seed(0)
    folder = options.cases.parent / "nnunet"
    stored = store(json.loads(options.cases.read_text(encoding="utf-8")), folder)
    loaders = {"plain": loader(folder, False), "augmented": loader(folder, True)}
    taken: dict[str, list[float]] = {name: [] for name in loaders}
    for batches in loaders.values():
        for _ in range(4):  # its blur chooses the faster of two ways while it runs
            batch = next(batches)
            assert tuple(batch["data"].shape) == (BATCH, 1, *SIZE)
    count = max(1, options.patches // options.blocks // BATCH)
    for _ in range(options.blocks):
        for name, batches in loaders.items():
            start = time.process_time()
            for _ in range(count):
                next(batches)
            taken[name].append((time.process_time() - start) / (count * BATCH) * 1e3)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    sys.stdout.write(json.dumps({**medians, "bytes": stored}) + "\n")


if __name__ == "__main__":
    main()
