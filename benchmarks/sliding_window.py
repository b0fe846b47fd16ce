"""Time and peak memory of whole-volume prediction beside MONAI, and of bringing logits back beside torch.

    python benchmarks/sliding_window.py [--shape 512 512 150] [--overlap 0.5] [--repeats 3] [--threads 2]

The network is a 1x1x1 convolution to 14 classes, so that what is measured is everything but the network. Every method
runs in a process of its own, in turn with the others, so that its peak memory is its own; medians are printed. Peak is
the largest resident size above the size just before the call. Agreement is the part of voxels with equal labels.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

CLASSES, PATCH = 14, (96, 96, 96)
PREPARED = (266, 266, 225)


def logits_to_labels(options: argparse.Namespace) -> Any:
    """Return the call that is measured: a volume to its label map."""
    from monai.inferers import sliding_window_inference

    from harness.inference.settings import Inference
    from harness.inference.sliding_window import predict_labels

    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, CLASSES, 1).eval()
    # Smooth, because on noise a rounding error decides; the same in every process.
    coarse = torch.randn(1, 1, *(n // 8 + 1 for n in options.shape))
    volume = torch.nn.functional.interpolate(coarse, size=options.shape, mode="trilinear")[0]

    def ours(x: torch.Tensor) -> np.ndarray[Any, Any]:
        return predict_labels(network, x, Inference(overlap=options.overlap), PATCH, "cpu")

    def monai(x: torch.Tensor) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            logits = sliding_window_inference(
                x[None], PATCH, 4, network, overlap=options.overlap, mode="gaussian", progress=False
            )
            return logits[0].argmax(0).to(torch.uint8).numpy()

    small = volume[:, :100, :100, :100]
    call = {"harness": ours, "monai": monai}[options.child]
    call(small)  # imports, compilation, thread pools
    return lambda: call(volume)


def logits_to_native(options: argparse.Namespace) -> Any:
    """Return the call that is measured: logits of a prepared grid to labels of the scan's grid."""
    from harness.grid import Grid, GridSpec
    from harness.inference.native import restore_logits

    shape = tuple(options.shape)
    scan = Grid(shape, np.diag([0.78, 0.78, 3.0, 1.0]))
    spacing = tuple(s * n / m for s, n, m in zip((0.78, 0.78, 3.0), shape, PREPARED, strict=True))
    spec = GridSpec.plan(scan, spacing=spacing)
    assert spec.target.shape == PREPARED
    torch.manual_seed(0)
    coarse = torch.randn(1, CLASSES, *(n // 8 + 1 for n in PREPARED))
    logits = torch.nn.functional.interpolate(coarse, size=PREPARED, mode="trilinear")[0].contiguous()

    def ours() -> np.ndarray[Any, Any]:
        return restore_logits(logits, spec, "softmax")

    def torch_all() -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            full = torch.nn.functional.interpolate(logits[None], size=shape, mode="trilinear", align_corners=False)
            return full[0].argmax(0).to(torch.uint8).numpy()

    tiny = GridSpec.plan(Grid((8, 8, 8), np.eye(4)), spacing=(2.0, 2.0, 2.0))
    restore_logits(torch.zeros(CLASSES, 4, 4, 4), tiny, "softmax")
    return {"harness": ours, "torch": torch_all}[options.child]


PARTS = {"predict": (logits_to_labels, "monai"), "restore": (logits_to_native, "torch")}


def resident() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 1e6


def child(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    call = PARTS[options.part][0](options)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    before = resident()
    wall, cpu = time.perf_counter(), time.process_time()
    labels = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if ":" in line
    )
    peak = int(status["VmHWM"].split()[0]) / 1e3 - before
    np.save(options.labels, labels)
    sys.stdout.write(json.dumps({"wall": wall, "cpu": cpu, "peak": peak}))


def measure(options: argparse.Namespace, part: str, labels: dict[str, Path]) -> dict[str, dict[str, float]]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in labels}
    arguments = [part, "--threads", options.threads, "--overlap", options.overlap, "--shape", *options.shape]
    for _ in range(options.repeats):
        for name, path in labels.items():
            command = [sys.executable, __file__, *map(str, arguments), "--child", name, "--labels", str(path)]
            runs[name].append(
                json.loads(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)
            )
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 150))
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--labels", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    for part in [options.part] if options.part else PARTS:
        peer = PARTS[part][1]
        with tempfile.TemporaryDirectory() as folder:
            labels = {name: Path(folder) / f"{name}.npy" for name in ("harness", peer)}
            found = measure(options, part, labels)
            equal = float((np.load(labels["harness"]) == np.load(labels[peer])).mean())
        print(f"{part}: {CLASSES} classes, {options.shape}, overlap {options.overlap}, {options.threads} threads")
        for name, row in found.items():
            print(f"  {name:10s} wall {row['wall']:7.2f} s   CPU {row['cpu']:7.2f} s   peak {row['peak']:7.0f} MB")
        ratios = {key: found[peer][key] / found["harness"][key] for key in ("wall", "cpu", "peak")}
        time_part = f"1/{ratios['wall']:.1f} of {peer}'s time (CPU 1/{ratios['cpu']:.1f})"
        print(f"  {time_part}, 1/{ratios['peak']:.1f} of its peak; labels equal on {equal:.4%} of voxels")


if __name__ == "__main__":
    main()
