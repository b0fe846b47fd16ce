"""Throughput of the pretext transforms beside straightforward NumPy versions, in CPU milliseconds of one thread.

Run: ``OMP_NUM_THREADS=1 python benchmarks/pretraining.py [--step]``. CPU time is measured, not wall time, so that other
work on the machine disturbs little. ``--step`` adds one training step of the small network, for the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from harness.cards.library import model_card
from harness.pretraining.corruption import RandBlockDrop
from harness.pretraining.fusion import RandContrast, RandFusionBlocks, RandFusionBoxes, RandZoomedCrop, mix
from harness.pretraining.recipes import make_task
from harness.pretraining.restorations import RandBezierIntensity, RandLocalShuffle, RandPainting
from harness.pretraining.volumes import Loaded

SIZES = ((64, 64, 32), (96, 96, 96))
REPEATS = 7


def cpu_ms(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return 1e3 * statistics.median(seconds)


def numpy_shuffle(volume: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """10,000 windows in a loop, each cut out, permuted and written back."""
    out = volume.copy()
    for _ in range(10_000):
        sides = [int(random.integers(1, n // 10 + 1)) for n in volume.shape[1:]]
        starts = [int(random.integers(0, n - side + 1)) for n, side in zip(volume.shape[1:], sides, strict=True)]
        box = (0, *(slice(at, at + side) for at, side in zip(starts, sides, strict=True)))
        out[box] = random.permutation(volume[box].reshape(-1)).reshape(sides)
    return out


def numpy_bezier(volume: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Evaluate the curve at 100,000 points, sort it, and use `np.interp` for every voxel."""
    points = np.vstack([[0, 0], random.random((2, 2)), [1, 1]])
    t = np.linspace(0, 1, 100_000)
    basis = np.array([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    xs, ys = np.sort(points[:, 0] @ basis), np.sort(points[:, 1] @ basis)
    return np.interp(volume, xs, ys)


def numpy_painting(volume: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Noise in float64 over the volume, five windows kept."""
    out = random.random(volume.shape)
    for _ in range(5):
        sides = [n - int(random.integers(3 * n // 7, 4 * n // 7 + 1)) for n in volume.shape[1:]]
        starts = [int(random.integers(3, n - side - 2)) for n, side in zip(volume.shape[1:], sides, strict=True)]
        box = (0, *(slice(at, at + side) for at, side in zip(starts, sides, strict=True)))
        out[box] = volume[box]
    return out


def numpy_zoom(scan: np.ndarray, size: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Zoom a crop linearly by SciPy."""
    sides = [min(round(n * random.uniform(0.7, 1.5)), limit) for n, limit in zip(size, scan.shape[1:], strict=True)]
    crop = scan[0, : sides[0], : sides[1], : sides[2]]
    return ndimage.zoom(crop, [n / side for n, side in zip(size, sides, strict=True)], order=1)[None]


def numpy_contrast(volume: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Exact percentiles, `np.interp`, and a power in float64."""
    v0, v1 = np.percentile(volume, (random.uniform(0.1, 2), random.uniform(98, 99.9)))
    return np.interp(volume, [volume.min(), v0, v1, volume.max()], [0, 0.1, 0.9, 1]) ** random.uniform(0.7, 1.5)


def numpy_mix(foreground: np.ndarray, background: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Fuse by whole-volume arithmetic in float64."""
    share = classes / 4.0
    return share * foreground + (1 - share) * background


def numpy_drop(volume: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blocks of rescaled float64 noise until half of the largest budget is spent."""
    out, dropped = volume.copy(), 0
    while dropped < 0.15 * volume[0].size:
        sides = [int(random.integers(max(n // 20, 1), n // 4 + 1)) for n in volume.shape[1:]]
        starts = [int(random.integers(0, n - n // 20)) for n in volume.shape[1:]]
        box = (slice(None), *(slice(at, at + side) for at, side in zip(starts, sides, strict=True)))
        noise = random.standard_normal(out[box].shape)
        out[box] = (noise - noise.min()) / max(float(noise.max() - noise.min()), 1e-6)
        dropped += out[box][0].size
    return out


def pairs(size: tuple[int, int, int]) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Name to (ours, straightforward)."""
    random = np.random.default_rng(0)
    volume = random.random((1, *size), dtype=np.float32)
    other = random.random((1, *size), dtype=np.float32)
    scan = random.random((1, *(2 * n for n in size)), dtype=np.float32)
    blocks, boxes = RandFusionBlocks().set_random_state(0), RandFusionBoxes().set_random_state(0)
    classes = blocks(size)
    shuffle = RandLocalShuffle(1.0).set_random_state(0)
    bezier = RandBezierIntensity(1.0).set_random_state(0)
    painting = RandPainting(1.0, 0.0).set_random_state(0)
    zoom, contrast = RandZoomedCrop(size).set_random_state(0), RandContrast().set_random_state(0)
    drop = RandBlockDrop().set_random_state(0)
    return {
        "local shuffling": (lambda: shuffle(volume), lambda: numpy_shuffle(volume, random)),
        "non-linear intensity": (lambda: bezier(volume), lambda: numpy_bezier(volume, random)),
        "out-painting": (lambda: painting(volume), lambda: numpy_painting(volume, random)),
        "zoomed crop": (lambda: zoom(scan), lambda: numpy_zoom(scan, size, random)),
        "contrast": (lambda: contrast(volume), lambda: numpy_contrast(volume, random)),
        "fusing": (lambda: mix(volume, other, classes, 4), lambda: numpy_mix(volume, other, classes)),
        "block drop": (lambda: drop(volume), lambda: numpy_drop(volume, random)),
        "fusing, 2023": (
            lambda: mix(volume, other, boxes(size), 4),
            lambda: numpy_mix(volume, other, boxes(size)),
        ),
    }


def step_ratio(size: tuple[int, int, int]) -> None:
    """Print the CPU time of a batch of Genesis beside that of a training step of the narrow network on it."""
    random = np.random.default_rng(0)
    volumes = {name: Loaded(random.random((1, 128, 128, 128), dtype=np.float32)) for name in "ab"}
    task = make_task({"name": "models_genesis", "cubes": {"size": size}, "batch": 2}, volumes, ["a"], ["b"], 0)
    network = task.network(model_card("models_genesis.narrow8")[0], {})
    batch = task.batch(0)
    drawn = statistics.mean(cpu_ms(lambda step=step: task.batch(step)) for step in range(3))
    begin = time.process_time()
    task.loss(network, batch).backward()
    step = 1e3 * (time.process_time() - begin)
    print(
        f"{'x'.join(map(str, size)):>10}  batch of 2: {drawn:8.1f} ms, step (base width 8): {step:8.0f} ms, "
        f"{drawn / step:.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", action="store_true", help="also time a training step")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'transform':<22}{'size':>10}{'ours ms':>10}{'NumPy ms':>10}{'times':>8}")
    for size in SIZES:
        for name, (ours, plain) in pairs(size).items():
            mine, theirs = cpu_ms(ours), cpu_ms(plain)
            print(f"{name:<22}{'x'.join(map(str, size)):>10}{mine:10.2f}{theirs:10.2f}{theirs / mine:8.1f}")
    if arguments.step:
        for size in SIZES:
            step_ratio(size)


if __name__ == "__main__":
    main()
