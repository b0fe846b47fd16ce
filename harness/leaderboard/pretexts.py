"""What a pretraining record says: each score of the network beside the trivial answers on the same held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.leaderboard.summary import metric_name, unit_text
from harness.leaderboard.text import number
from harness.leaderboard.words import Word
from harness.records.pretext import PRETEXT_METRICS, PretextDefinition
from harness.records.schema import Metric

__all__ = ["Reading", "pretext_cards", "readings"]

_BETTER = Word("better than every trivial answer", "up", "good", "The network learnt something that these lack.")
_NOT_BETTER = Word(
    "not better than a trivial answer", "down", "bad", "An answer that needs no training scores as well."
)
_ALONE = Word("no trivial answer recorded", "ring", "mute", "Nothing stands beside this number.")


@dataclass(frozen=True)
class Reading:
    """One score: the network's value, what trivial answers give, and what follows."""

    name: str
    value: str
    better: str
    trivial: list[tuple[str, str, str]]
    word: Word


def pretext_cards() -> list[PretextDefinition]:
    """Return the definitions of all pretext scores, each before what it is compared with."""
    cards = PRETEXT_METRICS.values()
    return [two for one in cards if one.baseline_of is None for two in (one, *_answers(one))]


def _answers(card: PretextDefinition) -> list[PretextDefinition]:
    return [other for other in PRETEXT_METRICS.values() if other.baseline_of == card.id]


def readings(metrics: Sequence[Metric]) -> list[Reading]:
    """Read the metrics of a record; those that are no pretext scores are left out."""
    by_id = {metric.id: metric for metric in metrics}
    found = []
    for card in PRETEXT_METRICS.values():
        own = by_id.get(card.record_id)
        if own is None or own.value is None or card.baseline_of is not None:
            continue
        beside = [(other, by_id[other.record_id]) for other in _answers(card) if other.record_id in by_id]
        known = [metric.value for _, metric in beside if metric.value is not None]
        sign = 1.0 if card.higher_is_better else -1.0
        word = _ALONE
        if known:
            word = _BETTER if all(sign * own.value > sign * value for value in known) else _NOT_BETTER
        trivial = [
            (metric_name(metric.id), _shown(metric), other.formula.rpartition(": ")[2]) for other, metric in beside
        ]
        better = "higher" if card.higher_is_better else "lower"
        found.append(Reading(metric_name(own.id), _shown(own), better, trivial, word))
    return found


def _shown(metric: Metric) -> str:
    return f"{number(metric.value, 4)}{unit_text(metric)}"
