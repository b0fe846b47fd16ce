"""Does each pretext recipe learn something? Narrow networks, bundled volumes, held-out volumes, three seeds.

Run: ``OMP_NUM_THREADS=1 python benchmarks/pretraining_evidence.py [--seeds 3] [--budget 720] [--only RECIPE …]``. It
goes through ``harness pretrain`` itself, reads the scores back from the records and writes a table after every run to
``results/performance/pretraining_evidence.md``. ``--budget`` is CPU seconds; what did not fit is named below the table.
``--go-on`` keeps the rows that the table has (delete the file after changing `PLANS`) and runs what is missing.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import yaml

from harness.config import pretrain_config
from harness.pretrain import pretrain
from harness.resources import shipped

OUT = Path(__file__).parents[1] / "results" / "performance" / "pretraining_evidence.md"


@dataclass(frozen=True)
class Plan:
    """One recipe: what it runs on, and which score must beat which trivial answers."""

    overrides: tuple[str, ...]
    score: str
    trivial: tuple[str, ...]
    also: tuple[tuple[str, str], ...] = ()


_RATE = ("training.optimizer.lr=3e-3",)
# a grid that leaves no rim: rims are background, and with larger blocks two thirds of so small a volume were that
_SMALL_BLOCKS = ("recipe.smallest_block=[4,8,8]", "recipe.largest_block=[4,8,8]")
PLANS = {
    "models_genesis": Plan(
        (
            "dataset=unlabelled_ct",
            "held_out=[crlm_1006,lidc_0314]",
            "recipe.cubes.size=[24,24,24]",
            "recipe.batch=2",
            "recipe.evaluation_batches=8",
            "training.steps=80",
        ),
        "mse.restoration.v1",
        ("mse.restoration_identity.v1", "mse.restoration_blur.v1"),
        (("mse.restoration.v1", "mse.restoration_constant.v1"),),
    ),
    "med3d": Plan(
        (
            "dataset=ct_headneck_oar+sarcoma_t1",
            "held_out=[ct_headneck_oar/pt_100,ct_headneck_oar/pt_338,sarcoma_t1/STS_042,sarcoma_t1/STS_015]",
            "recipe.size=[24,32,32]",
            "recipe.batch=2",
            "recipe.evaluation_patches=16",
            "training.steps=150",
        ),
        "accuracy.probe.v1",
        ("accuracy.probe_random.v1",),
        (("accuracy.pseudo_label.v1", "accuracy.pseudo_label_majority.v1"),),
    ),
    "volume_fusion": Plan(
        ("recipe.size=[16,32,32]", "recipe.batch=2", "training.steps=200", *_RATE, *_SMALL_BLOCKS),
        "accuracy.pseudo_label.v1",
        ("accuracy.pseudo_label_majority.v1",),
        (("dice.fusion.v1", "dice.fusion_majority.v1"),),
    ),
    "volume_fusion_2023": Plan(
        ("recipe.size=[16,32,32]", "recipe.batch=2", "training.steps=200", *_RATE, "recipe.largest_box=[12,20,20]"),
        "accuracy.pseudo_label.v1",
        ("accuracy.pseudo_label_majority.v1",),
        (("dice.fusion.v1", "dice.fusion_majority.v1"),),
    ),
    "brainsegfounder": Plan(
        (
            "dataset=mr_ct_sarcoma",
            "held_out=[STS_015,STS_042,STS_051]",
            "input.spacing=native",
            "input.intensity={rule: minmax, percentiles: [0.5, 99.5], to: [0, 1]}",
            "recipe.cubes.size=[64,32,32]",
            "recipe.batch=2",
            "recipe.crops=1",
            "recipe.evaluation_batches=2",
            "training.steps=15",
            "training.optimizer.lr=1e-3",
            "training.schedule.warmup_steps=5",
        ),
        "accuracy.probe.v1",
        ("accuracy.probe_random.v1",),
        (
            ("accuracy.rotation.v1", "accuracy.rotation_chance.v1"),
            ("nt_xent.views.v1", "nt_xent.views_chance.v1"),
            ("l1.restoration.v1", "l1.restoration_identity.v1"),
        ),
    ),
}


NOTES = (
    "",
    "BrainSegFounder does not beat the random encoder in this budget. A step of its narrow network on four",
    "views of 64x32x32 takes 2.8 CPU s, most of it attention over windows of 343 voxels. Thirty steps at a",
    "rate of 1e-2 on made-up volumes (one block a stage, seed 0) took the mean absolute error from 0.429",
    "(first training batch) to 0.183 after 16 and 0.171 after 30 steps (held out), where the median everywhere",
    "has 0.171; the contrastive loss stayed at that of embeddings which are all alike (1.0986), and rotation",
    "near chance (0 and 3 of 8 views). A likely reason: so small a crop leaves two voxels on the deepest map,",
    "of which instance norm keeps little but signs. Larger crops and hundreds of steps were not tried.",
    "",
    "Volume Fusion at 200 steps was below the most frequent class (0.659 and 0.646 against 0.660) with blocks",
    "of up to 12x16x16 in 16x32x32, since what such a grid leaves over is background, two thirds of the",
    "volume; blocks of 4x8x8 leave nothing over.",
)


def one_channel(folder: Path) -> Path:
    """Write a card of the T1 images of the bundled sarcoma set alone, since co-training reads one channel."""
    home = shipped("datasets") / "mr_ct_sarcoma"
    card = yaml.safe_load((home / "card.yaml").read_text(encoding="utf-8"))
    card |= {"id": "sarcoma_t1", "channels": ["t1"], "modality": ["MR"]}
    card["layout"]["options"]["image"] = "images/{case}_t1.nii.gz"
    own = folder / "sarcoma_t1"
    own.mkdir(parents=True)
    (own / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    for part in ("images", "labels"):
        (own / part).symlink_to(home / part)
    return folder


def scores_of(record: Path) -> dict[str, tuple[float, bool]]:
    content = json.loads((record / "record.json").read_text(encoding="utf-8"))
    return {metric["id"]: (metric["value"], metric["higher_is_better"]) for metric in content["metrics"]}


def row(recipe: str, seed: int, plan: Plan, record: Path, seconds: float) -> str:
    scores = scores_of(record)
    steps = next(item.partition("=")[2] for item in plan.overrides if item.startswith("training.steps"))

    def against(score: str, trivial: tuple[str, ...]) -> tuple[str, bool]:
        value, higher = scores[score]
        others = [(name, scores[name][0]) for name in trivial]
        wins = all(value > other if higher else value < other for _, other in others)
        return f"{score} {value:.4f} | " + ", ".join(f"{name} {other:.4f}" for name, other in others), wins

    text, wins = against(plan.score, plan.trivial)
    verdicts = ["beats" if against(one, (other,))[1] else "does not beat" for one, other in plan.also]
    more = "; ".join(
        f"{one} {scores[one][0]:.4f} ({verdict} {other} {scores[other][0]:.4f})"
        for (one, other), verdict in zip(plan.also, verdicts, strict=True)
    )
    return f"| {recipe} | {seed} | {steps} | {seconds:.0f} | {text} | {'yes' if wins else '**no**'} | {more} |"


def rows_of(path: Path) -> list[str]:
    """Return the rows of an earlier table."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line for line in lines if line.startswith(tuple(f"| {recipe} | " for recipe in PLANS))]


def write_table(rows: list[str], left: list[str], command: str) -> None:
    lines = [
        "# Does each pretext recipe learn something?",
        "",
        "Narrow networks trained from random weights on the bundled sample volumes, scored on held-out volumes that",
        "no step saw, beside a trivial answer on the same samples, which are the same for every seed. These are demo",
        "weights on demo data: they show that the recipes train, not how good the methods are.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d}; command: `{command}`",
        f"- machine: {platform.machine()}, shared and busy, one thread; torch {torch.__version__}, Python "
        f"{platform.python_version()}",
        "- seconds are CPU seconds of the whole run: checking, preparing, training, scoring, writing the record",
        "- settings: `PLANS` in `benchmarks/pretraining_evidence.py`",
        "",
        "| recipe | seed | steps | CPU s | score on held-out volumes | trivial answer | beats it | other scores |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    lines += [*NOTES, *(["", f"Not run: {', '.join(left)}."] if left else [])]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=720.0, help="CPU seconds")
    parser.add_argument("--only", choices=PLANS, nargs="+", default=list(PLANS))
    parser.add_argument("--go-on", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    command = f"OMP_NUM_THREADS=1 python benchmarks/pretraining_evidence.py --seeds {arguments.seeds}"
    rows = rows_of(OUT) if arguments.go_on else []
    left: list[str] = []
    wanted = [(recipe, seed) for seed in range(arguments.seeds) for recipe in PLANS]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cards = one_channel(folder / "cards")
        # seed by seed, so that a budget that ends early leaves something of every recipe
        for recipe, seed in wanted:
            if any(line.startswith(f"| {recipe} | {seed} |") for line in rows):
                continue
            if recipe not in arguments.only or time.process_time() > arguments.budget:
                left.append(f"{recipe} seed {seed}")
                continue
            begin = time.process_time()
            where = [f"cards=['{cards}']", f"out='{folder / 'runs'}'", f"cache='{folder / 'cache'}'"]
            fixed = [f"recipe={recipe}", f"name=evidence_{recipe}", f"seed={seed}", "executor.workers=0"]
            made = pretrain(pretrain_config([*fixed, *PLANS[recipe].overrides, *where]))
            rows.append(row(recipe, seed, PLANS[recipe], made.record, time.process_time() - begin))
            print(rows[-1], flush=True)
            write_table(sorted(rows), left, command)
    write_table(sorted(rows), left, command)


if __name__ == "__main__":
    main()
