"""The hippocampus of MSD Task04 on two CPU cores: from-scratch networks, and one twin pretrained here.

Run: ``python benchmarks/hippocampus.py --data FOLDER [--steps 3000] [--pretrain-steps 1500] [--seeds 3]
[--set protocol.training.amp=bf16 ...]``, with FOLDER as Task04_Hippocampus is unpacked (imagesTr, labelsTr); what
``--set`` names holds for every cell alike. It goes through ``harness pretrain`` and ``harness run``. Started again with
the same numbers it goes on where it stopped: complete cells are not run twice, and a killed one is taken up again. The
table is written after every cell, to ``<out>/hippocampus.md``; ``--records DIR`` also copies the records, without
weights.

Roles (split hippocampus-208-roles): 140 cases train, and only their images are seen by the pretraining; 28 choose the
checkpoint; 40 are scored, once, at the end of each run. Nothing is tuned on them: budget and rates are arguments.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from matrix import cell, dice, line, parser, pretrained, progress, provenance

from harness.files import write_text
from harness.records.comparison import Run, gain, twins

SELF = "models_genesis.hippocampus_self"
MODELS = ("baseline.unet_small", "baseline.unet", "models_genesis.narrow8", "med3d.resnet10", SELF)
CLASSES = ("anterior_hippocampus", "posterior_hippocampus")
PRETRAINING = (
    "recipe=models_genesis",
    "model=models_genesis.narrow8",
    f"name={SELF.partition('.')[2]}",
    "dataset=msd_task04_hippocampus",
    "split=hippocampus-208-roles",
    "fold=0",
    "input={spacing: native, intensity: {rule: minmax, percentiles: [0.5, 99.5], to: [0, 1]}, "
    "allow_modality_mismatch: true}",
    "recipe.cubes.size=[24,40,24]",
)


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
        provenance("benchmarks/hippocampus.py --data FOLDER", arguments, seconds),
        "",
        "MSD Task04, 208 labelled cases in roles by hash of the id: 140 train, 28 choose the checkpoint, 40 are "
        "scored. Mean Dice of anterior and posterior, native grid.",
        "",
        "| network | start | seeds | Dice | sd over seeds | anterior | posterior | hours |",
        "|---|---|---|---|---|---|---|---|",
        *(line(start, runs, CLASSES) for start, runs in held.items() if runs),
    ]
    pairs = twins(held.get((SELF, "pretrained"), []), held.get((SELF, "scratch"), []))
    if pairs:
        lines += ["", f"Self-pretrained against its twin: {gain(pairs, dice(pairs[0][0])).explanation}"]
    lines += ["", progress(sum(map(len, held.values())), planned)]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = parser(__doc__, "runs/hippocampus", steps=3000, pretrain_steps=1500)
    options.add_argument("--data", type=Path, required=True, help="folder with imagesTr and labelsTr")
    options.add_argument("--models", nargs="*", default=list(MODELS), help="NAME, or NAME:SEEDS where fewer fit")
    arguments = options.parse_args()
    begin = time.perf_counter()
    root = f"data_root='{arguments.data.resolve()}'"
    planned = starts(arguments)
    cards = pretrained([*PRETRAINING, root], arguments) if (SELF, "pretrained") in planned else None
    held: dict[tuple[str, str], list[Run]] = {start: [] for start in planned}
    for seed in range(arguments.seeds):  # seed by seed, so that an early end leaves whole rows
        for name, init in (start for start, seeds in planned.items() if seed < seeds):
            every = max(1, min(500, arguments.steps // 4))
            held[name, init].append(
                cell(
                    [
                        "experiment=hippocampus",
                        f"model={name}",
                        f"init={init}",
                        f"seed={seed}",
                        f"protocol.training.selection.every={every}",
                        root,
                    ],
                    cards if name == SELF else None,
                    arguments,
                )
            )
            table = report(held, sum(planned.values()), arguments, time.perf_counter() - begin)
            write_text(arguments.out / "hippocampus.md", table)
    print((arguments.out / "hippocampus.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
