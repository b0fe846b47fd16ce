"""Seconds and memory from a file on disk to a ready network, against plain torch: `python benchmarks/loading.py`.

Files are forged in the published layout with random values, as a zip archive and as a legacy stream. Every measurement
is a process of its own on a warm page cache. The peer is ``torch.load`` and ``load_state_dict`` into a network that was
built before the clock started (and, beside it, one whose clock includes its constructor); ours always includes building
the network. Memory is by how much the peak resident set grows after the clock started. Hashing the live parameters and
asking about a fixed volume are apart.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai
import torch

from harness.adapters.build import build, filled, fixed_answer
from harness.adapters.conformance_forge import forge
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card
from harness.cards.model import ModelCard
from harness.checkpoints.deferring import DeferredInitialisation
from harness.checkpoints.hashing import state_sha256

MODELS = ("med3d.resnet200", "brainsegfounder.brats_small")
FORMATS = ("zip", "legacy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path, metavar="PATH", help="write PATH.json and PATH.md")
    arguments = parser.parse_args()
    report = measure(arguments.models, arguments.repeats)
    text = page(report)
    print(text)
    if arguments.write:
        arguments.write.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        arguments.write.with_suffix(".md").write_text(text, encoding="utf-8")


def measure(models: list[str], repeats: int) -> dict[str, Any]:
    """Forge the files and take every measurement, ours and the peer's in turn."""
    torch.set_num_threads(1)
    for model in models:
        adapter(model_card(model)[0].adapter)  # imports are not loading
    rows: dict[str, Any] = {}
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            for form in FORMATS:
                file = Path(folder) / f"{model}.{form}.pt"
                child("forge", model, form, file)
                taken: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": [], "peer, built": []}
                for turn in range(repeats + 1):
                    for who, found in taken.items():
                        one = child(who, model, form, file)
                        if turn:  # the first one warms the page cache
                            found.append(one)
                rows[f"{model}, {form}"] = {
                    "bytes": file.stat().st_size,
                    **taken,
                    "proof": child("proof", model, form, file),
                }
                file.unlink()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/loading.py", *sys.argv[1:]]),
        "load_before": before,
        "load_after": os.getloadavg()[0],
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {"torch": torch.__version__, "monai": monai.__version__},
        "rows": rows,
    }


def child(what: str, model: str, form: str, file: Path) -> dict[str, Any]:
    """Run one measurement in a process of its own, forked after the imports."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        answer: dict[str, Any] = pool.apply(CHILDREN[what], (model, form, file))
    return answer


def page(report: dict[str, Any]) -> str:
    """Write the ratios as a page."""
    lines = [
        "# Loading published weights",
        "",
        f"{report['date']}, `{report['command']}`, Python {report['python']}, "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + f"; {report['cpus']} CPUs, one thread, load {report['load_before']:.1f} before and "
        f"{report['load_after']:.1f} after.",
        "",
        *(line for line in (__doc__ or "").split("\n\n", 1)[1].strip().splitlines()),
        "",
        "| file | MB | ours, s (CPU) | peer, s (CPU) | wall ratio | CPU ratio "
        "| peer with building, s | wall ratio | ours, peak / file | peer, peak / file "
        "| hash, s | answer, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["rows"].items():
        ours, peer = ({key: median(row[who], key) for key in ("wall", "cpu", "peak")} for who in ("ours", "peer"))
        built = median(row["peer, built"], "wall")
        lines.append(
            f"| {name} | {row['bytes'] / 1e6:.0f} | {ours['wall']:.2f} ({ours['cpu']:.2f}) | {peer['wall']:.2f} "
            f"({peer['cpu']:.2f}) | {ours['wall'] / peer['wall']:.2f} | {ours['cpu'] / peer['cpu']:.2f} "
            f"| {built:.2f} | {ours['wall'] / built:.2f} "
            f"| {ours['peak'] / row['bytes']:.2f} | {peer['peak'] / row['bytes']:.2f} "
            f"| {row['proof']['hash']:.2f} | {row['proof']['answer']:.2f} |"
        )
    return "\n".join([*lines, "", "Medians of the runs in the JSON file beside this page.", ""])


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def resident() -> int:
    """Return the peak resident set of this process in bytes."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM"))


def clocked(act: Callable[[], object]) -> dict[str, float]:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here
    start, wall, cpu = resident(), time.perf_counter(), time.process_time()
    kept = act()
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    del kept
    return {**taken, "peak": resident() - start}


def described(model: str, form: str) -> ModelCard:
    card = model_card(model)[0]
    container = "torch_zip" if form == "zip" else "torch_legacy"
    assert card.checkpoint is not None
    return card.model_copy(update={"checkpoint": card.checkpoint.model_copy(update={"container": container})})


def forge_file(model: str, form: str, file: Path) -> dict[str, Any]:
    card = described(model, form)
    network = build(card, Task("published"), {}, None).network
    forge(card, adapter(card.adapter).published_tensors(card, network), file)
    return {}


def ours(model: str, form: str, file: Path) -> dict[str, float]:
    card = described(model, form)
    return clocked(lambda: filled(card, Task("published"), {}, file))


def peer(model: str, form: str, file: Path) -> dict[str, float]:
    card = described(model, form)
    with DeferredInitialisation():
        network = adapter(card.adapter).build(card, Task("published"), {})
    for tensor in network.state_dict().values():
        tensor.zero_()  # every page is there before the clock starts

    return clocked(lambda: plain_load(network, card, file))


def built_peer(model: str, form: str, file: Path) -> dict[str, float]:
    card = described(model, form)

    def act() -> object:
        network = adapter(card.adapter).build(card, Task("published"), {})
        return network, plain_load(network, card, file)

    return clocked(act)


def plain_load(network: torch.nn.Module, card: ModelCard, file: Path) -> object:
    layout = card.checkpoint
    assert layout is not None
    content = torch.load(file, map_location="cpu", weights_only=True)
    weights = content[layout.weights_key] if layout.weights_key else content
    network.load_state_dict({name.removeprefix(layout.prefix): tensor for name, tensor in weights.items()})
    return content


def proof(model: str, form: str, file: Path) -> dict[str, float]:
    card, task = described(model, form), Task("published")
    network = filled(card, task, {}, file)[0]
    return {
        "hash": clocked(lambda: state_sha256(network.state_dict()))["wall"],
        "answer": clocked(lambda: fixed_answer(network, card, task))["wall"],
    }


CHILDREN: dict[str, Callable[[str, str, Path], dict[str, Any]]] = {
    "forge": forge_file,
    "ours": ours,
    "peer": peer,
    "peer, built": built_peer,
    "proof": proof,
}

if __name__ == "__main__":
    main()
