"""The fourteen protocol fields of a claim and of a record, in one vocabulary, so that they can be compared.

What a claim does not say stays out and counts as unknown. A ledger that knows more states it with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.cards.claim import Claim
from harness.errors import UserError
from harness.records.aggregate import empty_rule, find_definition
from harness.records.schema import Metric, Record
from harness.scoring.definitions import definition

__all__ = ["as_followed", "claim_protocol", "family", "find_metric", "not_public", "record_protocol", "rounding"]

# How a claim's metric is called, and the stems of the record metrics that measure the same thing, best first.
_STEMS = {
    "dice": ("dice.hard", "dice.soft", "dice.any_p"),
    "dice_mean_foreground": ("dice.hard", "dice.soft", "dice.any_p"),
    "dice_mean_regions": ("dice.hard", "dice.soft", "dice.any_p"),
    "soft_dice_mean_regions": ("dice.soft", "dice.hard", "dice.any_p"),
    "iou_genesis": ("iou.genesis", "iou.fg_pooled", "iou.hard"),
    "auc": ("auc",),
    "accuracy": ("accuracy",),
    "volume_difference": ("volume_difference_voxels", "volume_difference"),
}
_SPLIT_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+\b")
_FOLD = re.compile(r"\bfold\s*(\d+)\b")


def family(model: str) -> str:
    """Return a model's printed name as card ids spell families.

    >>> family("MIS-FM"), family("Models Genesis")
    ('mis_fm', 'models_genesis')
    """
    return re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")


def find_metric(claim: Claim, record: Record) -> Metric | None:
    """Return the metric of a record that measures what the claim reports, or comes nearest; None without one."""
    for stem in _STEMS.get(claim.metric, ()):
        for metric in record.metrics:
            if metric.id.startswith(f"{stem}."):
                return metric
    return None


def rounding(claim: Claim) -> float:
    """Return the unit of the last digit that a claim prints, as a fraction.

    >>> claim = Claim(id="r001", model="m", variant="v", init="scratch", dataset="d", task=None, split=None,
    ...               metric="dice", unit="percent", value=82.74, source="s", confidence="repo")
    >>> rounding(claim)
    0.0001
    """
    digits = len(repr(claim.value).partition(".")[2].rstrip("0"))
    return 10.0 ** -(digits + (2 if claim.unit == "percent" else 0))


def not_public(claim: Claim) -> str | None:
    """Say what a claim keeps to itself, so that nobody can reproduce it as published; None where nothing is."""
    if claim.about.not_public:
        return f"not public: {claim.about.not_public}"
    split = (claim.split or "").lower()
    if split.startswith("private"):
        return "the data are private"
    if split.startswith("not published") or "ids not published" in split:
        return "the list of scored cases is not published"
    return None


def claim_protocol(claim: Claim, stated: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is known of a claim's protocol.

    Parameters
    ----------
    stated : mapping, optional
        What its source says beyond the claim's own fields, in the words of `record_protocol`; it goes first. By
        default what the ledger of claims says.
    """
    stated = claim.about.stated if stated is None else stated
    known: dict[str, Any] = {}
    match = _SPLIT_ID.match(claim.split or "")
    if match:
        fold = _FOLD.search(claim.split or "")
        known["cases_scored"] = (match.group(), int(fold.group(1)) if fold else None)
    if claim.per_class:
        known["label_set"] = _labels(claim.per_class)
    if claim.metric in _STEMS:
        known["metric_formula"] = _formula(_STEMS[claim.metric][0])
    if claim.metric.startswith("soft_"):
        known["threshold"] = "none"
    if claim.metric == "iou_genesis":
        known["averaging"] = "pooled"
    return {
        name: _in_our_words(name, value, claim) for name, value in (known | dict(stated)).items() if value is not None
    }


def as_followed(known: Mapping[str, Any], record: Record, recipe: str | None) -> dict[str, Any]:
    """Settle the fields that a claim states as ``recipe``: as in a protocol file, if that was followed to the letter.

    Parameters
    ----------
    known : mapping
        From `claim_protocol`.
    record : Record
        The run that is compared.
    recipe : str, optional
        The protocol file that follows the claim's recipe.

    Returns
    -------
    dict of str to value
        With the run's own value where it followed that file, and with the name of the file, which equals no run's
        value, where it did not.
    """
    followed = record.protocol.id == recipe and record.division == "closed"
    ours = record_protocol(record, record.metrics[0]) if followed and record.metrics else {}
    return {name: ours.get(name, f"recipe {recipe}") if value == "recipe" else value for name, value in known.items()}


def _in_our_words(name: str, value: Any, claim: Claim) -> Any:
    """Spell a value of the ledger as `record_protocol` would: tuples, sorted labels, an empty rule by its policy."""
    if name == "label_set":
        return _labels(dict.fromkeys(value))
    if name == "empty_rule" and isinstance(value, Mapping):
        if "policy" in value:
            short = "dice" if _STEMS.get(claim.metric, ("",))[0].startswith("dice") else claim.metric
            rule = empty_rule(value["policy"], definition(short))
            return rule.both_empty, rule.pred_empty, rule.ref_empty
        return value["both_empty"], value["pred_empty"], value["ref_empty"]
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def record_protocol(record: Record, metric: Metric, *, all_folds: bool = False) -> dict[str, Any]:
    """Return the protocol behind one metric of a record; what the record does not know is None.

    With ``all_folds`` the record stands for its whole cross-validation: every fold was scored, and what differs from
    fold to fold (the fingerprint of the scored cases, weights that belong to a fold) is left open.
    """
    protocol, split = record.protocol, record.split
    try:
        threshold = getattr(find_definition(metric.id), "threshold", None)
    except UserError:  # an unknown metric is an error of verification; here it is merely unknown
        threshold = None
    inference = protocol.inference
    return {
        "cases_scored": (split.id, split.fold if (split.n_folds or 1) > 1 and not all_folds else None),
        "data_version": None if all_folds else record.dataset.fingerprint.scored,
        "label_set": _labels(metric.per_class) if metric.per_class else None,
        "metric_formula": _formula(metric.id),
        "threshold": threshold,
        "empty_rule": (metric.empty_rule.both_empty, metric.empty_rule.pred_empty, metric.empty_rule.ref_empty),
        "grid": metric.grid,
        "averaging": metric.averaging,
        "selection": None if protocol.selection is None else protocol.selection.rule,
        "ensemble_tta_postprocessing": None
        if inference is None
        else (inference.ensemble_size, inference.tta, inference.post_processing),
        "extra_training_data": (),
        "weights": None if all_folds else record.weights.sha256,
        "preprocessing": _all((protocol.spacing, protocol.intensity, protocol.patch)),
        "schedule": _all((protocol.optimizer, protocol.lr, protocol.schedule, protocol.steps)),
    }


def _all(values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    return None if any(value is None for value in values) else values


def _labels(per_class: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(family(name) for name in per_class))


def _formula(name: str) -> str:
    """Return the formula without its threshold, which is a field of its own: hard and soft Dice are both Dice."""
    return "dice" if name.startswith("dice.") else ".".join(name.split(".")[: 2 if name.startswith("iou.") else 1])
