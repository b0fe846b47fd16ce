"""The metric page: what each id means, and small masks on which metrics of one name part ways."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.leaderboard.ledger import Line
from harness.leaderboard.text import number
from harness.leaderboard.words import METRICS
from harness.scoring.case import score
from harness.scoring.catalogue import CARDS, WITH_TOLERANCE
from harness.scoring.definitions import Definition

__all__ = ["Example", "claimed_metrics", "examples", "metric_cards"]

_SHOWN = ("dice", "iou", "precision", "recall", "hd", "hd95", "assd", "nsd@2")


@dataclass(frozen=True)
class Example:
    """Two small masks and what the metrics say of them, computed when the board is built."""

    title: str
    lesson: str
    values: list[tuple[str, str]]


def metric_cards() -> list[Definition]:
    """Return every definition of this release, by id."""
    return sorted([*CARDS.values(), *WITH_TOLERANCE.values()], key=lambda card: card.id)


def claimed_metrics(ledger: Sequence[Line]) -> list[tuple[str, str, int]]:
    """Return the metrics that claims use, with how many claims each: id, words, count."""
    counts = Counter(line.claim.metric for line in ledger)
    return [(metric, METRICS.get(metric, metric), counts[metric]) for metric in sorted(counts)]


@functools.cache
def examples() -> tuple[Example, ...]:
    """Score the small masks; each shows one way in which a single number misleads."""
    block = np.zeros((20, 20, 20), np.uint8)
    block[6:14, 6:14, 6:14] = 1
    shifted = np.roll(block, 1, axis=0)
    thin = np.zeros_like(block)
    thin[:, 9:11, 9:11] = 1
    beside = np.roll(thin, 1, axis=1)
    stray = block.copy()
    stray[0, 0, 0] = 1
    empty = np.zeros_like(block)
    return (
        _example("A cube moved by one voxel", "Most of a compact organ still overlaps.", shifted, block),
        _example("A thin tube moved by one voxel", "The same error halves the Dice of a thin structure.", beside, thin),
        _example("One stray voxel far away", "Overlap hardly notices; the largest distances would.", stray, block),
        _example("Nothing predicted", "Overlap is 0, a distance infinite; a policy says what it costs.", empty, block),
        _example("Absent and not predicted", "No raw value exists; tools answer 1, 0 or nothing.", empty, empty),
    )  # fmt: skip


def _example(
    title: str,
    lesson: str,
    prediction: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    reference: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> Example:
    rows = score(prediction, reference, (1.0, 1.0, 1.0), {"organ": [1]}, _SHOWN, threads=1)
    return Example(title, lesson, [(row["metric"], _value(row["value"])) for row in rows])


def _value(value: float) -> str:
    return "infinite" if value == float("inf") else number(value)
