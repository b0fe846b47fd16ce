"""Few-shot head-neck CT from 2, 5 and 14 patients: a self-pretrained network and its twin from scratch, three seeds.

Run: ``python benchmarks/fewshot.py [--steps 450] [--pretrain-steps 600] [--seeds 3] [--set ...]``. Everything it needs
is bundled. The pretext task sees the unlabelled volumes and the training images of the split, never the images of the
cases that choose or are scored. Started again with the same numbers it goes on where it stopped. The table is written
after every pair, to ``<out>/fewshot.md``. Four patients are scored: an example, not evidence about any published
weights.
"""

from __future__ import annotations

import argparse
import time

from matrix import cell, dice, line, parser, pretrained, progress, provenance

from harness.files import write_text
from harness.records.comparison import Run, gain, twins

SELF = "models_genesis.headneck_self"
HELD_OUT = ("pt_100", "pt_338", "pt_282", "pt_332", "pt_60", "pt_83")  # val and test of the split fixed-14-2-4
PATIENTS = {2: 0.1428, 5: 0.357, 14: 1.0}
PRETRAINING = (
    "recipe=models_genesis",
    "model=models_genesis.narrow8",
    f"name={SELF.partition('.')[2]}",
    "dataset=unlabelled_ct+ct_headneck_oar",
    f"held_out=[{','.join(f'ct_headneck_oar/{case}' for case in HELD_OUT)}]",
    "input.spacing=[4.5,4.5,3.0]",
    "recipe.cubes.size=[32,32,32]",
    "training.optimizer.lr=1e-3",
)

Held = dict[tuple[int, str], list[Run]]


def report(held: Held, planned: int, arguments: argparse.Namespace, seconds: float) -> str:
    lines = [
        "# Few-shot head-neck CT, from scratch and self-pretrained",
        "",
        provenance("benchmarks/fewshot.py", arguments, seconds),
        "",
        "Seven organs of the bundled head-neck CT, 4 patients scored. Mean Dice, native grid. A bundled sample.",
        "",
        "| patients | start | seeds | Dice | sd over seeds | hours |",
        "|---|---|---|---|---|---|",
        *(line(start, runs) for start, runs in held.items() if runs),
        "",
    ]
    for count in PATIENTS:
        pairs = twins(held[count, "pretrained"], held[count, "scratch"])
        if pairs:
            lines.append(f"- {count} patients: {gain(pairs, dice(pairs[0][0])).explanation}")
    return "\n".join([*lines, "", progress(sum(map(len, held.values())), planned)]) + "\n"


def main() -> None:
    arguments = parser(__doc__, "runs/fewshot", steps=450, pretrain_steps=600).parse_args()
    begin = time.perf_counter()
    cards = pretrained(PRETRAINING, arguments)
    held: Held = {(count, init): [] for count in PATIENTS for init in ("scratch", "pretrained")}
    for seed in range(arguments.seeds):  # seed by seed, so that an early end leaves whole rows
        for (count, init), runs in held.items():
            overrides = [
                "experiment=fewshot_headneck",
                f"init={init}",
                f"seed={seed}",
                f"label_fraction={PATIENTS[count]}",
            ]
            runs.append(cell(overrides, cards, arguments))
            table = report(held, len(held) * arguments.seeds, arguments, time.perf_counter() - begin)
            write_text(arguments.out / "fewshot.md", table)
    print((arguments.out / "fewshot.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
