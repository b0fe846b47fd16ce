"""Throughput of the pretext transforms beside straightforward NumPy versions, in CPU milliseconds of one thread.

Run: ``OMP_NUM_THREADS=1 python benchmarks/pretraining.py``. CPU time is measured, not wall time, so that other work on
the machine disturbs little. The time of a whole batch of every recipe stands beside that of a training step of its
narrowest network, which is the worst case for the share. Writes ``results/performance/pretraining_transforms.md``.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from harness.cards.library import model_card
from harness.pretraining.corruption import RandBlockDrop
from harness.pretraining.fusion import RandContrast, RandFusionBlocks, RandFusionBoxes, RandZoomedCrop, mix
from harness.pretraining.recipes import make_task
from harness.pretraining.restorations import RandBezierIntensity, RandLocalShuffle, RandPainting
from harness.pretraining.volumes import Loaded

OUT = Path(__file__).parents[1] / "results" / "performance" / "pretraining_transforms.md"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/pretraining.py"
SIZES = ((64, 64, 32), (96, 96, 96))
REPEATS = 3
STEPS = {
    "models_genesis": ("models_genesis.narrow8", {"cubes": {"size": (64, 64, 32)}}, {}),
    "volume_fusion": ("mis_fm.fmunet_narrow8", {"size": (64, 64, 32)}, {"deep_supervision": True}),
    "volume_fusion_2023": ("mis_fm.fmunet_narrow8", {"size": (64, 64, 32)}, {"deep_supervision": True}),
    "med3d": ("med3d.resnet10_narrow8", {"size": (64, 64, 32), "classes": {"one": 2}}, {}),
    "brainsegfounder": ("brainsegfounder.ssl_narrow12", {"cubes": {"size": (64, 32, 32)}, "crops": 1}, {}),
}


def cpu_ms(work: Callable[[], object], repeats: int = REPEATS) -> float:
    work()
    seconds = []
    for _ in range(repeats):
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


def step_share(name: str) -> tuple[str, float, float]:
    """Return the size, and the CPU milliseconds of a batch of two and of a training step of a narrow network on it."""
    model, settings, options = STEPS[name]
    random = np.random.default_rng(0)
    ids = [f"one/{letter}" for letter in "abcd"]
    volumes = {
        case: Loaded(random.random((1, 96, 96, 96), dtype=np.float32), random.integers(0, 2, (96, 96, 96), np.uint8))
        for case in ids
    }
    task = make_task({"name": name, "batch": 2, **settings}, volumes, ids[:2], ids[2:], 0)
    network = task.network(model_card(model)[0], options)
    drawn = statistics.mean(cpu_ms(lambda step=step: task.batch(step), 3) for step in range(3))
    batch = task.batch(0)
    task.loss(network, batch).backward()
    begin = time.process_time()
    task.loss(network, batch).backward()
    return "x".join(map(str, task.size)), drawn, 1e3 * (time.process_time() - begin)


def main() -> None:
    torch.set_num_threads(1)
    lines = [
        "# What the pretext transforms cost",
        "",
        "CPU milliseconds of one thread (not wall time: the machine was busy), median of "
        f"{REPEATS}; ours beside a straightforward NumPy version of the published description, on the same volume.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d}; command: `{COMMAND}`",
        f"- machine: {platform.machine()}, torch {torch.__version__}, NumPy {np.__version__}, Python "
        f"{platform.python_version()}",
        "",
        "| transform | size | ours, ms | NumPy, ms | times faster |",
        "|---|---|---|---|---|",
    ]
    for size in SIZES:
        for name, (ours, plain) in pairs(size).items():
            mine, theirs = cpu_ms(ours), cpu_ms(plain)
            lines.append(f"| {name} | {'x'.join(map(str, size))} | {mine:.2f} | {theirs:.2f} | {theirs / mine:.1f} |")
            print(lines[-1], flush=True)
    lines += [
        "",
        "A batch of two as the recipe draws it (cut, distorted, stacked) beside forward and backward of the narrowest",
        "network that the recipe ships, both on one CPU thread. Wider networks make the share smaller; batches are",
        "drawn ahead by `executor.workers` threads. Against a step on a GPU: not measured.",
        "",
        "| recipe | size | batch, ms | step, ms | share |",
        "|---|---|---|---|---|",
    ]
    for name in STEPS:
        size_words, drawn, step = step_share(name)
        lines.append(f"| {name} | {size_words} | {drawn:.1f} | {step:.0f} | {drawn / step:.1%} |")
        print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
