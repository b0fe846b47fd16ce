"""The hippocampus of MSD Task04 on two CPU cores: from-scratch networks, and one twin pretrained here.

Run: ``python benchmarks/hippocampus.py --data FOLDER [--steps 3000] [--pretrain-steps 1500] [--seeds 3]
[--set protocol.training.amp=bf16 ...]``, with FOLDER as Task04_Hippocampus is unpacked (imagesTr, labelsTr); what
``--set`` names holds for every cell alike. It goes through ``harness pretrain`` and ``harness run``.
Started again with the same numbers it goes on where it stopped: complete cells are not run twice, and a killed one is
taken up again. The table is written after every cell, to ``<out>/hippocampus.md``; ``--records DIR`` also copies the
records, without weights.

Roles (split hippocampus-208-roles): 140 cases train, and only their images are seen by the pretraining; 28 choose the
checkpoint; 40 are scored, once, at the end of each run. Nothing is tuned on them: budget and rates are arguments.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev

import torch

from harness.config import pretrain_config, run_config
from harness.files import write_text
from harness.pretrain import pretrain
from harness.records.comparison import Run, gain, twins
from harness.records.identity import record_path
from harness.records.store import load
from harness.run import run

SELF = "models_genesis.hippocampus_self"
MODELS = ("baseline.unet_small", "baseline.unet", "models_genesis.narrow8", "med3d.resnet10", SELF)
DICE = "dice.hard.native.v1"


def places(arguments: argparse.Namespace) -> list[str]:
    out = arguments.out.resolve()
    return [f"data_root='{arguments.data.resolve()}'", f"out='{out / 'runs'}'", f"cache='{out / 'cache'}'"]


def pretrained(arguments: argparse.Namespace) -> Path:
    """Pretrain the narrow U-Net on the images of the training part; return the folder of its card."""
    overrides = [
        "recipe=models_genesis",
        "model=models_genesis.narrow8",
        f"name={SELF.partition('.')[2]}",
        "dataset=msd_task04_hippocampus",
        "split=hippocampus-208-roles",
        "fold=0",
        "input={spacing: native, intensity: {rule: minmax, percentiles: [0.5, 99.5], to: [0, 1]}, "
        "allow_modality_mismatch: true}",
        "recipe.cubes.size=[24,40,24]",
        f"training.steps={arguments.pretrain_steps}",
    ]
    config = pretrain_config([*overrides, *places(arguments)])
    pretrain(config)
    return config.out / config.cell / "weights"


def cell(model: str, init: str, seed: int, cards: Path | None, arguments: argparse.Namespace) -> Path:
    overrides = [
        "experiment=hippocampus",
        f"model={model}",
        f"init={init}",
        f"seed={seed}",
        f"protocol.training.steps={arguments.steps}",
        f"protocol.training.selection.every={max(1, min(500, arguments.steps // 4))}",
        *arguments.set,
    ]
    if cards is not None:
        overrides.append(f"cards=['{cards.resolve()}']")
    return run(run_config([*overrides, *places(arguments)]))


def row(name: str, init: str, runs: list[Run]) -> str:
    metrics = [next(metric for metric in one.record.metrics if metric.id == DICE) for one in runs]
    values = [metric.value for metric in metrics if metric.value is not None]
    parts = {
        label: mean(metric.per_class[label].value or 0.0 for metric in metrics)
        for label in ("anterior_hippocampus", "posterior_hippocampus")
    }
    spread = f"{stdev(values):.4f}" if len(values) > 1 else "-"
    hours = sum(sum((one.record.cost.wall or {}).values()) for one in runs) / 3600
    cells = [name, init, len(runs), f"{mean(values):.4f}", spread, *(f"{value:.4f}" for value in parts.values())]
    return "| " + " | ".join(map(str, [*cells, f"{hours:.2f}"])) + " |"


def starts(arguments: argparse.Namespace) -> dict[tuple[str, str], int]:
    """Return how many seeds each row gets; the pretrained twin gets as many as its partner."""
    rows: dict[tuple[str, str], int] = {}
    for asked in arguments.models:
        name, _, seeds = asked.partition(":")
        if name not in MODELS:
            raise SystemExit(f"{name} is none of {', '.join(MODELS)}")
        rows[name, "scratch"] = int(seeds or arguments.seeds)
    if (SELF, "scratch") in rows:
        rows[SELF, "pretrained"] = rows[SELF, "scratch"]
    return rows


def report(held: dict[tuple[str, str], list[Run]], planned: int, arguments: argparse.Namespace, seconds: float) -> str:
    lines = [
        "# Hippocampus, from scratch and self-pretrained",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; `benchmarks/hippocampus.py --data FOLDER --steps {arguments.steps} "
        f"--pretrain-steps {arguments.pretrain_steps} --seeds {arguments.seeds}"
        f"{' --set ' + ' '.join(arguments.set) if arguments.set else ''}`; "
        f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads; "
        f"{seconds / 3600:.2f} h of this call. Hours are wall.",
        "",
        "MSD Task04, 208 labelled cases in roles by hash of the id: 140 train, 28 choose the checkpoint, 40 are "
        "scored. Mean Dice of anterior and posterior, native grid.",
        "",
        "| network | start | seeds | Dice | sd over seeds | anterior | posterior | hours |",
        "|---|---|---|---|---|---|---|---|",
        *(row(name, init, runs) for (name, init), runs in held.items() if runs),
    ]
    pairs = twins(held.get((SELF, "pretrained"), []), held.get((SELF, "scratch"), []))
    if pairs:
        metric = next(metric for metric in pairs[0][0].record.metrics if metric.id == DICE)
        lines += ["", f"Self-pretrained against its twin: {gain(pairs, metric).explanation}"]
    done = sum(map(len, held.values()))
    lines += ["", f"{done} of {planned} cells are done." + ("" if done == planned else " The others were not run yet.")]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with imagesTr and labelsTr")
    parser.add_argument("--out", type=Path, default=Path("runs/hippocampus"))
    parser.add_argument("--steps", type=int, default=3000, help="of every fine-tuning")
    parser.add_argument("--pretrain-steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="overrides of every fine-tuning")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="NAME, or NAME:SEEDS where fewer fit")
    parser.add_argument("--records", type=Path, help="copy the records of complete cells here")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    planned = starts(arguments)
    cards = pretrained(arguments) if (SELF, "pretrained") in planned else None
    held: dict[tuple[str, str], list[Run]] = {start: [] for start in planned}
    for seed in range(arguments.seeds):  # seed by seed, so that an early end leaves whole rows
        for name, init in (start for start, seeds in planned.items() if seed < seeds):
            folder = cell(name, init, seed, cards if name == SELF else None, arguments)
            held[name, init].append(Run(load(folder), folder))
            table = report(held, sum(planned.values()), arguments, time.perf_counter() - begin)
            write_text(arguments.out / "hippocampus.md", table)
            if arguments.records:
                target = arguments.records / record_path(held[name, init][-1].record)
                shutil.copytree(folder, target, dirs_exist_ok=True)
    print((arguments.out / "hippocampus.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
