"""Time and memory of scoring one case, beside the peers that are installed.

    python benchmarks/scoring.py [--repeats 5] [--write results/performance/scoring]

Ours and the peers run interleaved in one process, after their outputs have been compared; medians are printed. MONAI
comes with the project. google-deepmind's surface-distance is measured where it can be imported; install it apart, for
example ``pip install --target peers --no-deps surface-distance`` and ``PYTHONPATH=peers``.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.scoring import score

METRICS = ["dice", "hd95", "nsd@2"]
SURFEL_METRICS = ["dice", "hd95_surfel", "nsd_surfel@2"]
TOLERANCE_MM = 2.0
SLOW_SECONDS = 10.0  # a peer that takes longer runs once
BUSY_LOAD = 4.0  # above, the machine says more about its other guests than about us


class Case(NamedTuple):
    """One pair of label maps to score."""

    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float, float]
    classes: dict[str, list[int]]


def blob(shape, spacing, centre, radii, seed, wobble):
    """Return the box and the mask of a wavy ellipsoid; centre and radii in mm."""
    rng = np.random.default_rng(seed)
    low = [max(0, int((c - 1.35 * r) / s)) for c, r, s in zip(centre, radii, spacing, strict=True)]
    high = [min(n, int((c + 1.35 * r) / s) + 2) for c, r, s, n in zip(centre, radii, spacing, shape, strict=True)]
    axes = [
        (np.arange(a, b, dtype=np.float32) * s - c) / r
        for a, b, s, c, r in zip(low, high, spacing, centre, radii, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    field = x**2 + y**2 + z**2
    for _ in range(4):
        (a, b, c), phase = rng.normal(0, 2.2, 3), rng.uniform(0, 2 * np.pi)
        field = field + np.float32(wobble) * np.sin(a * x + b * y + c * z + np.float32(phase))
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), field < 1


# Centre as a fraction of the volume, radii in mm: sizes of thirteen abdominal organs, 1.5 million voxels in all.
ORGANS = [
    ((0.43, 0.28, 0.62), (40, 42, 35)),
    ((0.27, 0.62, 0.45), (30, 31, 52)),
    ((0.73, 0.62, 0.45), (30, 31, 52)),
    ((0.24, 0.36, 0.78), (15, 13, 18)),
    ((0.52, 0.42, 0.85), (12, 10, 50)),
    ((0.30, 0.45, 0.30), (75, 60, 50)),
    ((0.66, 0.36, 0.68), (40, 36, 44)),
    ((0.50, 0.62, 0.50), (13, 13, 110)),
    ((0.43, 0.70, 0.50), (13, 12, 100)),
    ((0.57, 0.72, 0.55), (18, 9, 45)),
    ((0.50, 0.52, 0.55), (45, 13, 14)),
    ((0.36, 0.66, 0.75), (7, 8, 14)),
    ((0.64, 0.66, 0.75), (7, 8, 14)),
]


def ct_case() -> Case:
    """512 x 512 x 150, thirteen organs, Dice 0.5 to 0.97, three false-positive islands far away."""
    shape, spacing = (512, 512, 150), (0.78, 0.78, 3.0)
    rng = np.random.default_rng(7)
    prediction, reference = np.zeros((2, *shape), np.uint8)
    for label, (fraction, size) in enumerate(ORGANS, 1):
        radii = np.multiply(size, 1.09)
        centre = [f * n * s for f, n, s in zip(fraction, shape, spacing, strict=True)]
        box, mask = blob(shape, spacing, centre, radii, 100 + label, 0.10)
        reference[box][mask & (reference[box] == 0)] = label
        shift = rng.normal(0, 4.0 if label == 12 else 1.0, 3)
        box, mask = blob(shape, spacing, np.add(centre, shift), np.multiply(radii, 1.01), 100 + label, 0.115)
        prediction[box][mask & (prediction[box] == 0)] = label
    for label, fraction in ((6, (0.85, 0.85, 0.1)), (2, (0.1, 0.85, 0.9)), (8, (0.88, 0.15, 0.88))):
        centre = [f * n * s for f, n, s in zip(fraction, shape, spacing, strict=True)]
        box, mask = blob(shape, spacing, centre, (7, 6, 9), label, 0.1)
        prediction[box][mask] = label
    return Case(prediction, reference, spacing, {f"organ{label}": [label] for label in range(1, 14)})


def displaced_case() -> Case:
    """Roll the prediction of the CT case by (14, 10, 3) voxels."""
    case = ct_case()
    return case._replace(prediction=np.roll(case.prediction, (14, 10, 3), (0, 1, 2)))


def mr_case() -> Case:
    """240 x 240 x 155, three overlapping regions, four lesions, two false positives."""
    shape, spacing = (240, 240, 155), (1.0, 1.0, 1.0)
    rng = np.random.default_rng(3)
    prediction, reference = np.zeros((2, *shape), np.uint8)
    lesions = (((100, 90, 80), 32), ((150, 150, 70), 18), ((80, 160, 100), 12), ((160, 80, 110), 9))
    for seed, (centre, radius) in enumerate(lesions, 50):
        for label, share in ((2, 1.0), (1, 0.7), (3, 0.5)):
            r = radius * share
            box, mask = blob(shape, spacing, centre, (r, r * 1.1, r * 0.9), seed, 0.12)
            reference[box][mask] = label
            moved = np.add(centre, rng.normal(0, 0.7, 3))
            box, mask = blob(shape, spacing, moved, (r * 1.02, r * 1.1, r * 0.88), seed, 0.14)
            prediction[box][mask] = label
    for centre in ((40, 40, 40), (200, 200, 130)):
        box, mask = blob(shape, spacing, centre, (6, 6, 5), 9, 0.1)
        prediction[box][mask] = 3
    return Case(prediction, reference, spacing, {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3]})


CASES = {"ct": ct_case, "displaced": displaced_case, "mr": mr_case}
# (case, peer) -> our time over the peer's must not exceed this.
ASKS = {
    ("ct", "monai"): 1 / 60,
    ("ct", "surface-distance"): 1 / 25,
    ("mr", "monai"): 1 / 25,
    ("mr", "surface-distance"): 1 / 15,
    ("displaced", "monai"): 1 / 20,
}
ASK_BYTES_PER_VOXEL = 6.0
ASK_FIRST_SCORE_CPU_SECONDS = 0.7


def run_ours(case: Case, metrics: list[str] = METRICS) -> np.ndarray:
    rows = score(*case, metrics)
    return np.array([row["value"] for row in rows]).reshape(len(case.classes), len(metrics))


def run_monai(case: Case) -> np.ndarray:
    """One channel per class, then DiceMetric, HausdorffDistanceMetric(95) and SurfaceDiceMetric."""
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, SurfaceDiceMetric
    from monai.networks.utils import one_hot

    maps = [torch.from_numpy(np.ascontiguousarray(array))[None, None] for array in case[:2]]
    exclusive = all(len(labels) == 1 for labels in case.classes.values())
    if exclusive:
        channels = [one_hot(m, num_classes=len(case.classes) + 1)[:, 1:] for m in maps]
    else:
        channels = [
            torch.cat([torch.isin(m, torch.tensor(labels)) for labels in case.classes.values()], 1).float()
            for m in maps
        ]
    thresholds = [TOLERANCE_MM] * len(case.classes)
    dice = DiceMetric(include_background=True, reduction="none")(*channels)
    hd95 = HausdorffDistanceMetric(include_background=True, percentile=95, reduction="none")(
        *channels, spacing=case.spacing
    )
    nsd = SurfaceDiceMetric(thresholds, include_background=True, reduction="none")(*channels, spacing=case.spacing)
    return torch.stack([dice, hd95, nsd], -1)[0].numpy()


def run_surface_distance(case: Case) -> np.ndarray:
    """google-deepmind's package, class by class, with its own surfaces."""
    import surface_distance as peer

    values = []
    for labels in case.classes.values():
        prediction, reference = (np.isin(array, labels) for array in case[:2])
        distances = peer.compute_surface_distances(reference, prediction, case.spacing)
        values.append(
            [
                peer.compute_dice_coefficient(reference, prediction),
                peer.compute_robust_hausdorff(distances, 95),
                peer.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM),
            ]
        )
    return np.array(values)


PEERS: dict[str, tuple[str, Callable[[Case], np.ndarray], list[str]]] = {
    "monai": ("monai", run_monai, METRICS),
    "surface-distance": ("surface_distance", run_surface_distance, SURFEL_METRICS),
}


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Compare outputs, then time ours and every installed peer in turn."""
    case = CASES[name]()
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: run_ours(case),
        "ours, surfels": lambda: run_ours(case, SURFEL_METRICS),
    }
    times: dict[str, list[tuple[float, float]]] = {run: [] for run in runs}
    for run in runs.values():
        run()
    for peer, (module, function, metrics) in PEERS.items():
        if importlib.util.find_spec(module):
            outputs: list[np.ndarray] = []
            times[peer] = [timed(lambda function=function, outputs=outputs: outputs.append(function(case)))]
            np.testing.assert_allclose(run_ours(case, metrics), outputs[0], rtol=1e-5, atol=1e-5, err_msg=peer)
            if times[peer][0][0] < SLOW_SECONDS:
                runs[peer] = lambda function=function: function(case)
    for _ in range(repeats):
        for run, function in runs.items():
            times[run].append(timed(function))
    found = {
        run: {
            "wall_s": statistics.median(wall for wall, _ in all_times),
            "min_wall_s": min(wall for wall, _ in all_times),
            "cpu_s": statistics.median(cpu for _, cpu in all_times),
            "repeats": len(all_times),
        }
        for run, all_times in times.items()
    }
    return {
        "voxels": case.prediction.size,
        "foreground_voxels": int(np.count_nonzero(case.reference)),
        "dice": [round(float(value), 3) for value in run_ours(case, ["dice"])[:, 0]],
        "times": found,
    }


PEAK = """
import sys, numpy as np
sys.path.insert(0, "benchmarks")
import scoring
prediction, reference = np.load(sys.argv[1])
case = scoring.Case(prediction, reference, *eval(sys.argv[2]))
scoring.run_ours(scoring.Case(*(a[:9, :9, :9] for a in case[:2]), *case[2:]))
def kib(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
open("/proc/self/clear_refs", "w").write("5")
before = kib("VmRSS")
scoring.run_ours(case)
print((kib("VmHWM") - before) * 1024 / case.prediction.size)
"""
FIRST = """
import resource, numpy as np
from harness.scoring import score
a = np.zeros((8, 8, 8), np.uint8); a[2:5, 2:5, 2:5] = 1
score(a, np.roll(a, 1, 0), (1, 1, 1), {"a": [1]}, ["dice", "hd95", "nsd@2"])
used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)
"""
IMPORT_MONAI = """
import resource, monai
used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)
"""


def in_fresh_process(code: str, *arguments: str) -> float:
    """Run code that prints one number."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=environment,
    )
    return float(found.stdout.split()[-1])


def peak_bytes_per_voxel(name: str) -> float:
    """Return the peak memory above the start of the call, in a process that did not make the volumes itself."""
    case = CASES[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.npy"
        np.save(path, np.stack(case[:2]))
        return in_fresh_process(PEAK, str(path), repr(tuple(case[2:])))


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def collect(repeats: int) -> dict[str, Any]:
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "load_before": round(os.getloadavg()[0], 1),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "numba", "scipy", "monai", "torch", "surface-distance")},
        "first_score_cpu_s": statistics.median(in_fresh_process(FIRST) for _ in range(max(3, repeats))),
        "import_monai_cpu_s": in_fresh_process(IMPORT_MONAI) if importlib.util.find_spec("monai") else None,
        "bytes_per_voxel": {name: peak_bytes_per_voxel(name) for name in CASES},
        "cases": {name: measure(name, repeats) for name in CASES},
    }
    return {**results, "load_after": round(os.getloadavg()[0], 1)}


def report(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        f"Scoring, {results['date']}: `{results['command']}`, {results['cpus']} CPUs, load {results['load_before']} to "
        f"{results['load_after']}, Python {results['python']}, "
        + ", ".join(f"{name} {v}" for name, v in results["versions"].items())
        + ".",
        "",
        "| case | tool | wall s | CPU s | ours / peer (wall, CPU) | ask | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in results["cases"].items():
        for tool, found in case["times"].items():
            ratios = {
                own: [case["times"][own][key] / found[key] for key in ("min_wall_s", "cpu_s")]
                for own in ("ours", "ours, surfels")
            }
            ratio = "" if tool.startswith("ours") else ", ".join(f"1/{1 / value:.0f}" for value in ratios["ours"])
            if tool == "surface-distance":  # it weights surface elements by area: both comparisons are of interest
                ratio += "; on its own surface " + ", ".join(f"1/{1 / value:.0f}" for value in ratios["ours, surfels"])
            ask = ASKS.get((name, tool))
            met = "" if ask is None else "yes" if min(ratios["ours"]) <= ask else "no"
            goal = "" if ask is None else f"1/{1 / ask:.0f}"
            lines.append(
                f"| {name} | {tool} | {found['wall_s']:.3f} | {found['cpu_s']:.3f} | {ratio} | {goal} | {met} |"
            )
    peak = ", ".join(f"{name} {value:.2f}" for name, value in results["bytes_per_voxel"].items())
    first, monai = results["first_score_cpu_s"], results["import_monai_cpu_s"]
    lines += [
        "",
        f"Peak extra memory, bytes per voxel (ask: {ASK_BYTES_PER_VOXEL:g}): {peak}.",
        f"First score of a fresh process: {first:.2f} CPU s (ask: {ASK_FIRST_SCORE_CPU_SECONDS:g} on a quiet machine); "
        f"importing MONAI alone: {'not installed' if monai is None else f'{monai:.2f} CPU s'}.",
        "Not measured because not installed: "
        + (", ".join(peer for peer, (module, *_) in PEERS.items() if not importlib.util.find_spec(module)) or "none")
        + ".",
    ]
    if max(results["load_before"], results["load_after"]) > BUSY_LOAD:
        lines.append(f"The load was above {BUSY_LOAD:g}: read the ratios, not the seconds.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path, help="write PATH.md and PATH.json as well")
    arguments = parser.parse_args()
    results = collect(arguments.repeats)
    text = report(results)
    print(text)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.with_suffix(".md").write_text(text, encoding="utf-8")
        arguments.write.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
