"""The metric page: what each id means, and small masks on which metrics of one name part ways."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from harness.errors import UserError
from harness.leaderboard.ledger import Line
from harness.leaderboard.text import number
from harness.leaderboard.words import METRICS
from harness.scoring.case import score
from harness.scoring.catalogue import CARDS, WITH_TOLERANCE
from harness.scoring.definitions import Averaging, Definition
from harness.scoring.policies import known_policies, policy
from harness.scoring.soft import soft_value, sufficient_statistics
from harness.scoring.summary import summarise

__all__ = ["Example", "ExampleTable", "claimed_metrics", "examples", "families", "metric_cards"]

_SHOWN: Final = ("dice", "iou", "precision", "recall", "hd", "hd95", "assd", "nsd@2")
_SURFACE: Final = ("hd95", "hd95_pooled", "hd95_floor", "hd95_surfel", "assd", "masd", "nsd@1", "nsd_surfel@1")
_SOFT: Final = ("soft_dice", "dice_any_p", "iou_genesis", "iou_fg_pooled")

Volume = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True)
class Example:
    """One row: an input, what it teaches, and what the metrics say of it."""

    title: str
    lesson: str
    values: list[str]


@dataclass(frozen=True)
class ExampleTable:
    """Small inputs scored by several definitions, when the board is built."""

    key: str
    title: str
    lead: str
    head: str
    heads: list[str]
    rows: list[Example]


def metric_cards() -> list[Definition]:
    """Return every definition of this release, by id."""
    return sorted([*CARDS.values(), *WITH_TOLERANCE.values()], key=lambda card: card.id)


def families() -> list[tuple[str, str, list[Definition]]]:
    """Return the definitions in the groups that the page shows them in: key, title, definitions."""
    kinds: dict[str, list[Definition]] = {"overlap": [], "surface": [], "counts": [], "lesions": []}
    for card in metric_cards():
        if card.id.startswith("lesion_"):
            kinds["lesions"].append(card)
        elif card.surface != "none":
            kinds["surface"].append(card)
        else:
            kinds["overlap" if card.unit == "fraction" else "counts"].append(card)
    titles = {
        "overlap": "Overlap and decisions",
        "surface": "Distances between surfaces",
        "counts": "Volumes and counts",
        "lesions": "Lesion by lesion",
    }
    return [(key, titles[key], cards) for key, cards in kinds.items() if cards]


def claimed_metrics(ledger: Sequence[Line]) -> list[tuple[str, str, int]]:
    """Return the metrics that claims use, with how many claims each: id, words, count."""
    counts = Counter(line.claim.metric for line in ledger)
    return [(metric, METRICS.get(metric, metric), counts[metric]) for metric in sorted(counts)]


@functools.cache
def examples() -> tuple[ExampleTable, ...]:
    """Score the small inputs; each shows how a single number, or a name without its definition, misleads."""
    return (_masks(), _surfaces(), _probabilities(), _empty(), _averages())


def _block() -> Volume:
    block = np.zeros((20, 20, 20), np.uint8)
    block[6:14, 6:14, 6:14] = 1
    return block


def _masks() -> ExampleTable:
    block = _block()
    thin = np.zeros_like(block)
    thin[:, 9:11, 9:11] = 1
    stray = block.copy()
    stray[0, 0, 0] = 1
    empty = np.zeros_like(block)
    shifted, beside = np.roll(block, 1, axis=0), np.roll(thin, 1, axis=1)
    return ExampleTable(
        "examples",
        "Where metrics part ways",
        "Masks on a grid of 1 mm; distances in mm.",
        "Prediction and reference",
        list(_SHOWN),
        [
            _row("A cube moved by one voxel", "Most of a compact organ still overlaps.", shifted, block, _SHOWN),
            _row("A thin tube moved by one voxel", "The same error halves its Dice.", beside, thin, _SHOWN),
            _row(
                "One stray voxel far away", "Overlap hardly notices; the largest distance does.", stray, block, _SHOWN
            ),
            _row(
                "Nothing predicted",
                "Overlap is 0, a distance infinite; a policy says what it costs.",
                empty,
                block,
                _SHOWN,
            ),
            _row("Absent and not predicted", "No raw value exists; see the empty masks below.", empty, empty, _SHOWN),
        ],
    )


def _surfaces() -> ExampleTable:
    block = _block()
    spike = block.copy()
    spike[14:20, 9:12, 9:12] = 1
    shifted = np.roll(block, 2, axis=2)
    return ExampleTable(
        "surfaces",
        "One name, several definitions",
        "What tools call HD95, average surface distance or surface Dice, on "
        "the same two masks of 1 mm voxels: which percentile, both directions pooled or the larger of the two, voxel "
        "centres or surface elements.",
        "Prediction and reference",
        list(_SURFACE),
        [
            _row("A spike of 6 mm on a cube", "A small part of the surface is far off.", spike, block, _SURFACE),
            _row("A cube moved by two voxels", "Two faces of six are off.", shifted, block, _SURFACE),
        ],
    )


def _probabilities() -> ExampleTable:
    block = _block()
    halo = np.zeros(block.shape, np.float64)
    halo[5:15, 5:15, 5:15] = 0.2
    rows = []
    for title, lesson, inside, around in (
        ("Sure: 0.95 inside, 0 around", "All definitions are close to 1.", 0.95, 0.0),
        ("Hesitant: 0.6 inside, 0.2 around", "The mask at 0.5 is perfect; nothing else says so.", 0.6, 1.0),
    ):
        p = np.where(block == 1, inside, around * halo)
        (hard,) = score(p > 0.5, block, (1.0, 1.0, 1.0), {"organ": [1]}, ["dice"], threads=1)
        sums = sufficient_statistics(p, block)
        rows.append(Example(title, lesson, [_value(hard["value"]), *(_value(soft_value(m, sums)) for m in _SOFT)]))
    return ExampleTable(
        "probabilities",
        "Masks or probabilities",
        "The same cube, predicted as probabilities. Label maps cannot give the "
        "last four: a run keeps the sums they need.",
        "Prediction",
        ["dice at 0.5", *_SOFT],
        rows,
    )


def _empty() -> ExampleTable:
    block = _block()
    empty = np.zeros_like(block)
    pairs = [(np.roll(block, 1, axis=0), block), (empty, block), (block, empty), (empty, empty)]
    raw = [row for case, (p, r) in enumerate(pairs) for row in _rows(p, r, ("dice", "hd95"), f"case{case}")]
    rows = []
    for name in known_policies():
        values = []
        for metric in ("dice", "hd95"):
            try:
                mean = summarise([row for row in raw if row["metric"] == metric], name, intervals=False)
                overall = mean.metrics[metric].overall
                values += [_value(overall.value), str(overall.n)]
            except UserError:
                values += ["not defined", "none"]
        rows.append(Example(name, policy(name).source, values))
    return ExampleTable(
        "empty",
        "What an empty mask costs",
        "Four cases under every rule that is in use: an organ found (Dice "
        f"{_value(raw[0]['value'])}), one missed, one drawn where there is none, one absent and not drawn. The same "
        "four "
        "predictions, and the mean depends on who counts.",
        "Policy",
        ["mean dice", "cases counted", "mean hd95 (mm)", "cases counted"],
        rows,
    )


def _averages() -> ExampleTable:
    large, small = np.zeros((24, 24, 24), np.uint8), np.zeros((24, 24, 24), np.uint8)
    large[2:22, 2:22, 2:12], large[2:6, 2:6, 18:20] = 1, 2
    small[2:22, 2:22, 2:12] = 1
    raw = []
    for case, (reference, shift) in enumerate(((large, 1), (small, 3))):
        prediction = np.roll(reference, shift, axis=0)
        raw += _rows(prediction, reference, ("dice",), f"case{case}", {"organ": [1], "tumour": [2]})
    said = {
        "class_then_case": "the classes of each case first: every case counts the same",
        "case_then_class": "the cases of each class first: every class counts the same",
        "pooled": "all voxels of all cases in one formula: large structures decide",
    }
    rows = []
    for way, lesson in said.items():
        mean = summarise(raw, "adopted", cast(Averaging, way), intervals=False)
        rows.append(Example(way.replace("_", " "), lesson, [_value(mean.metrics["dice"].overall.value)]))
    return ExampleTable(
        "averages",
        "How scores become one number",
        "Two cases, an organ in both and a small tumour in one. The scores are "
        "the same in every row; only the order of averaging is not.",
        "Averaging",
        ["mean dice"],
        rows,
    )


def _rows(
    prediction: Volume,
    reference: Volume,
    metrics: Sequence[str],
    case: str,
    classes: dict[str, list[int]] | None = None,
) -> list[dict[str, Any]]:
    scored = score(prediction, reference, (1.0, 1.0, 1.0), classes or {"organ": [1]}, metrics, threads=1)
    return [{**row, "case_id": case} for row in scored]


def _row(title: str, lesson: str, prediction: Volume, reference: Volume, metrics: Sequence[str]) -> Example:
    return Example(title, lesson, [_value(row["value"]) for row in _rows(prediction, reference, metrics, "")])


def _value(value: float | None) -> str:
    return "infinite" if value == float("inf") else number(value)
