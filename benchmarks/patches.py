"""Training patches per second, CPU per patch and memory beside MONAI, with and without augmentation.

    python benchmarks/patches.py [--cases 30] [--patches 200] [--repeats 3]
    python benchmarks/patches.py --together [--nnunet PYTHON] [--cases 3] [--patches 60]

Synthetic cases of 256x256x100 voxels (0.9x0.9x2.5 mm, LPS) are prepared to RAS, 1.5x1.5x2 mm, window [0, 1]; patches
are 96^3, half of them on foreground. Every source runs in a process of its own with one torch thread, in turn with the
others; medians are printed. Growth is that of the resident size from the moment at which the source has given one
patch of a set of one case (so that libraries are loaded and code is compiled on all sides) to the end; for ours most
of it is page cache shared by all processes, so the anonymous part is printed as well. "bare copy" is the limit: torch
converts a random patch of the mapped files into ready buffers.

``--together`` compares CPU alone: the sources take turns in one process, block by block, so that a busy machine changes
them alike. ``--nnunet`` names a Python that has nnunetv2 (`patches_nnunet.py` says how); its loader then reads the same
voxels in a process of its own, started between two halves of ours. "harness, as nnU-Net" has the transforms of
nnU-Net's default augmentation with their probabilities: rotation and scaling drawn apart, two gammas, blur and low
resolution half as often as they are written there, since it draws twice; a shift stands for its contrast.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE, WINDOW = (96, 96, 96), (-1000, 1000)
SHAPE, AFFINE = (256, 256, 100), np.diag([-0.9, -0.9, 2.5, 1.0])
# The same transforms with the same probabilities for both.
P = {"flip": 0.5, "affine": 0.2, "scale": 0.15, "shift": 0.15, "noise": 0.1, "smooth": 0.2, "gamma": 0.3, "low": 0.25}


def write_cases(folder: Path, count: int) -> None:
    import nibabel

    rng = np.random.default_rng(0)
    place = np.indices(SHAPE, dtype=np.float32)
    for case in range(count):
        image = np.full(SHAPE, -1000, np.float32)
        label = np.zeros(SHAPE, np.uint8)
        for value, radius in ((0, 110), (1, 30), (2, 15), (3, 6)):
            centre = np.array(SHAPE) / 2 + rng.uniform(-20, 20, 3) * (value > 0)
            inside = sum(((p - c) * s) ** 2 for p, c, s in zip(place, centre, (1, 1, 2.5), strict=True)) < radius**2
            image[inside] = 40 + 60 * value
            label[inside] = value
        image += rng.normal(0, 15, SHAPE)
        for name, data in (("image", image.astype(np.int16)), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(data, AFFINE), folder / f"{case:03}_{name}.nii.gz")


# nnU-Net's default augmentation in our words.
LIKE_NNUNET: list[dict[str, Any]] = [
    {"name": "flip", "axes": [0, 1, 2], "probability": 0.5},
    {"name": "affine", "rotate": [30, 30, 30], "zoom": [1, 1], "probability": 0.2},
    {"name": "affine", "rotate": [0, 0, 0], "zoom": [0.7, 1.4], "probability": 0.2},
    {"name": "gaussian_noise", "probability": 0.1},
    {"name": "gaussian_smooth", "sigma": [0.5, 1.0], "probability": 0.1},
    {"name": "scale_intensity", "factors": [-0.25, 0.25], "probability": 0.15},
    {"name": "shift_intensity", "probability": 0.15},
    {"name": "low_resolution", "zoom": [0.5, 1], "probability": 0.125},
    {"name": "gamma", "gamma": [0.7, 1.5], "probability": 0.1},
    {"name": "gamma", "gamma": [0.7, 1.5], "probability": 0.3},
]


def ours(folder: Path, augment: bool, transforms: list[dict[str, Any]] | None = None) -> Callable[[int], Any]:
    from harness.data.patches import PatchSource
    from harness.data.settings import Augmentation, Patches

    transforms = transforms or [
        {"name": "flip", "axes": [0, 1, 2], "probability": P["flip"]},
        {"name": "affine", "rotate": [15, 15, 15], "zoom": [0.8, 1.25], "probability": P["affine"]},
        {"name": "scale_intensity", "probability": P["scale"]},
        {"name": "shift_intensity", "probability": P["shift"]},
        {"name": "gaussian_noise", "probability": P["noise"]},
        {"name": "gaussian_smooth", "sigma": [0.5, 1.0], "probability": P["smooth"]},
        {"name": "gamma", "probability": P["gamma"]},
        {"name": "low_resolution", "probability": P["low"]},
    ]
    cache = prepared(folder)
    augmentation = Augmentation.model_validate({"transforms": transforms if augment else []})
    return PatchSource(cache, list(cache), Patches(size=SIZE, batch=1), augmentation, 0).batch


def prepared(folder: Path) -> Any:
    from types import SimpleNamespace

    from harness.data.layouts import Case
    from harness.data.preprocessing import prepare
    from harness.data.settings import IntensityRule, Preprocessing

    names = sorted(path.name[:3] for path in folder.glob("*_image.nii.gz"))
    cases = {n: Case(n, (folder / f"{n}_image.nii.gz",), folder / f"{n}_label.nii.gz") for n in names}
    spacing = tuple(abs(AFFINE.diagonal()[:3]))
    facts: Any = {n: SimpleNamespace(shape=SHAPE, spacing=spacing, image_sha256=n, label_sha256=n) for n in names}
    card: Any = SimpleNamespace(labels=dict.fromkeys(range(4), ""), channels=("CT",))
    rule = IntensityRule(rule="window", window=WINDOW, to=(0, 1))
    settings = Preprocessing(spacing=(1.5, 1.5, 2.0), intensity=rule)
    return prepare(card, cases, facts, settings, folder / "cache")


def monai(folder: Path, augment: bool, indices: bool) -> Callable[[int], Any]:
    import monai.transforms as mt
    from monai.data import CacheDataset

    both = ["image", "label"]
    stored = {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"} if indices else {}
    random: list[Any] = [mt.RandCropByPosNegLabeld(both, "label", SIZE, pos=1, neg=1, num_samples=1, **stored)]
    if augment:
        random += [
            *(mt.RandFlipd(both, prob=P["flip"], spatial_axis=axis) for axis in range(3)),
            mt.RandAffined(
                both,
                prob=P["affine"],
                rotate_range=[0.26] * 3,
                scale_range=(-0.2, 0.25),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            mt.RandScaleIntensityd("image", 0.1, prob=P["scale"]),
            mt.RandShiftIntensityd("image", 0.1, prob=P["shift"]),
            mt.RandGaussianNoised("image", prob=P["noise"], std=0.1, sample_std=True),
            mt.RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), (0.5, 1), prob=P["smooth"]),
            mt.RandAdjustContrastd("image", prob=P["gamma"], gamma=(0.7, 1.5)),
            mt.RandSimulateLowResolutiond("image", prob=P["low"], zoom_range=(0.5, 1)),
        ]
    fixed: list[Any] = [
        mt.LoadImaged(both),
        mt.EnsureChannelFirstd(both),
        mt.Orientationd(both, "RAS", labels=None),
        mt.Spacingd(both, (1.5, 1.5, 2.0), mode=("bilinear", "nearest")),
        mt.ScaleIntensityRanged("image", *WINDOW, 0, 1, clip=True),
        *([mt.FgBgToIndicesd("label")] if indices else []),
    ]
    names = sorted(path.name[:3] for path in folder.glob("*_image.nii.gz"))
    files = [{key: str(folder / f"{name}_{key}.nii.gz") for key in both} for name in names]
    # copy_cache would copy a whole case for every patch; none of these transforms writes into what it is given
    data = CacheDataset(files, mt.Compose([*fixed, *random]), num_workers=1, progress=False, copy_cache=False)
    data.transform.set_random_state(0)
    order = np.random.default_rng(0)
    return lambda step: data[int(order.integers(len(data)))]


def bare_copy(folder: Path, augment: bool) -> Callable[[int], Any]:
    import torch

    cache, rng = prepared(folder), np.random.default_rng(0)
    images, labels = torch.empty(1, *SIZE), torch.empty(SIZE, dtype=torch.int64)
    names = list(cache)

    def copy(step: int) -> None:
        case = cache.case(names[int(rng.integers(len(names)))])
        at = [int(rng.integers(n - m + 1)) for n, m in zip(case.label.shape, SIZE, strict=True)]
        box = tuple(slice(a, a + n) for a, n in zip(at, SIZE, strict=True))
        images.copy_(torch.from_numpy(case.image[(slice(None), *box)]))
        labels.copy_(torch.from_numpy(case.label[box]))

    return copy


SOURCES: dict[str, Callable[[Path, bool], Callable[[int], Any]]] = {
    "harness": ours,
    "bare copy": bare_copy,
    "monai CacheDataset": lambda folder, augment: monai(folder, augment, indices=False),
    "monai, cached indices": lambda folder, augment: monai(folder, augment, indices=True),
}


def memory(field: str) -> float:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1e3


def child(options: argparse.Namespace) -> None:
    import monai.data  # noqa: F401 -- both sides pay for it before memory is looked at
    import torch

    torch.set_num_threads(1)
    warm = SOURCES[options.child](Path(options.folder, "one"), options.augment)
    for step in range(10):
        warm(step)
    del warm
    gc.collect()
    before = {field: memory(field) for field in ("Rss", "Anonymous")}
    begin = time.perf_counter()
    source = SOURCES[options.child](Path(options.folder), options.augment)
    source(0)
    first = time.perf_counter() - begin
    for step in range(1, 40):
        source(step)
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(40, 40 + options.patches):
        source(step)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = {"rate": options.patches / wall, "cpu": cpu / options.patches * 1e3, "first": first}
    sys.stdout.write(json.dumps(result | {field: memory(field) - before[field] for field in before}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--patches", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(SOURCES), help="leave the other sources out")
    parser.add_argument("--augment", action="store_true", help="only with augmentation (both by default)")
    parser.add_argument("--plain", action="store_true", help="only without augmentation")
    parser.add_argument("--together", action="store_true", help="CPU alone, in one process")
    parser.add_argument("--nnunet", metavar="PYTHON", help="a Python that has nnunetv2, as a peer of --together")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_cases(Path(folder), options.cases)
        one = Path(folder, "one")
        one.mkdir()
        for path in Path(folder).glob("000_*"):
            (one / path.name).hardlink_to(path)
        prepared(Path(folder))
        prepared(one)
        store = sum(path.stat().st_size for path in Path(folder, "cache").rglob("*.npy")) / 1e6
        print(f"{options.cases} cases, patches {SIZE}, store {store:.0f} MB, resident page {resource.getpagesize()} B")
        if options.together:
            together(options, Path(folder), store)
            return
        for augment in (True,) if options.augment else (False,) if options.plain else (False, True):
            compare(options, folder, augment)


def together(options: argparse.Namespace, folder: Path, store: float) -> None:
    import torch

    torch.set_num_threads(1)
    wanted = options.only or SOURCES
    makers = {
        (name, augment): SOURCES[name](folder, augment)
        for augment in (False, True)
        for name in wanted
        if not (augment and name == "bare copy")
    }
    if options.nnunet:
        makers["harness, as nnU-Net", True] = ours(folder, True, LIKE_NNUNET)
    taken: dict[tuple[str, bool], list[float]] = {key: [] for key in makers}
    for source in makers.values():
        for step in range(3):
            source(step)
    count, done = max(1, options.patches // (2 * options.repeats)), 3

    def half() -> None:
        nonlocal done
        for _ in range(options.repeats):
            for key, source in makers.items():
                start = time.process_time()
                for step in range(done, done + count):
                    source(step)
                taken[key].append((time.process_time() - start) / count * 1e3)
            done += count

    half()
    peer = nnunet(options, folder) if options.nnunet else {}
    half()
    for augment in (False, True):
        rows = {name: statistics.mean(values) for (name, with_it), values in taken.items() if with_it is augment}
        if peer:
            rows["nnU-Net's loader"] = peer["augmented" if augment else "plain"]
        print("with augmentation" if augment else "reading and sampling")
        for name, cpu in rows.items():
            print(f"  {name:22s} {cpu:7.2f} CPU ms/patch, {rows['harness'] / cpu:5.2f} harness / this")
        if augment and peer:
            ratio = rows["harness, as nnU-Net"] / rows["nnU-Net's loader"]
            print(f"  as nnU-Net: {ratio:.3f} of its loader with its augmentation")
    if peer:
        print(f"store: {store:.1f} MB, nnU-Net's {peer['bytes'] / 1e6:.1f} MB")


def nnunet(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    cases = [[str(path), str(path.parent / "label.npy")] for path in sorted(folder.glob("cache/*/*/image.npy"))]
    listing = folder / "cases.json"
    listing.write_text(json.dumps(cases), encoding="utf-8")
    script = Path(__file__).with_name("patches_nnunet.py")
    command = [options.nnunet, str(script), str(listing), "--patches", str(options.patches)]
    # it warns without these folders; nothing is read or written there
    unused = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "/nowhere")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | unused
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def compare(options: argparse.Namespace, folder: str, augment: bool) -> None:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SOURCES}
    count = options.patches // 2 if augment else options.patches

    def run(name: str) -> dict[str, float]:
        command = [sys.executable, __file__, "--child", name, "--folder", folder, "--patches", str(count)]
        command += ["--augment"] if augment else []
        result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
        return dict(json.loads(result.stdout))

    run("harness")  # the very first process compiles and keeps the result on disk: once per installation, not per run
    for _ in range(options.repeats):
        for name in options.only or SOURCES:
            runs[name].append(run(name))
    medians = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
        if found
    }
    print("with augmentation" if augment else "reading and sampling")
    for name, row in medians.items():
        print(
            f"  {name:22s} {row['rate']:7.1f} patches/s   {row['cpu']:7.2f} CPU ms/patch   growth {row['Rss']:6.0f} MB "
            f"({row['Anonymous']:6.0f} MB its own)   first after {row['first']:6.2f} s"
        )
    if len(medians) < len(SOURCES):
        return
    mine, peer, limit = (medians[name] for name in ("harness", "monai CacheDataset", "bare copy"))
    print(
        f"  {mine['rate'] / peer['rate']:.1f} times CacheDataset's patches, 1/{peer['cpu'] / mine['cpu']:.1f} of its "
        f"CPU, 1/{peer['Rss'] / mine['Rss']:.1f} of its growth "
        f"(1/{peer['Anonymous'] / max(mine['Anonymous'], 1):.0f} of its own); "
        f"{mine['cpu'] / limit['cpu']:.2f} times the bare copy"
    )


if __name__ == "__main__":
    main()
