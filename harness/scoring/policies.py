"""What a benchmark does with empty masks, as named policies applied to raw rows afterwards.

A policy never changes a value that was measured on two masks with voxels, except where the benchmark caps distances.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.errors import UserError, unknown_name
from harness.scoring.definitions import definition

__all__ = ["Policy", "Rule", "apply_policy", "known_policies", "policy"]

Row = Mapping[str, Any]
Fill = float | Literal["skip", "diagonal", "smoothed"]
Reason = Literal["absent_in_both", "absent_in_reference", "absent_in_prediction", "not_annotated"]

_SMOOTHING = 1e-5  # PyMIC adds it to both sides of its overlap fractions


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What replaces the raw value of one kind of metric, per state.

    A number replaces it; ``"skip"`` leaves the case out and counts it; ``"diagonal"`` is the physical diagonal of the
    volume in mm; ``"smoothed"`` is PyMIC's 1e-5 / (n + 1e-5).
    """

    both_empty: Fill
    pred_empty: Fill
    ref_empty: Fill
    cap: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A named convention for empty masks.

    Attributes
    ----------
    id : str
        Written beside every number that the policy touched.
    overlap : Rule or None
        For fractions where more is better (Dice, IoU, precision, recall, NSD, lesion scores).
    distance : Rule or None
        For distances in mm.
    special : mapping of str to Rule
        Rules of single metrics, before the two above.
    source : str
        Where the convention comes from.
    """

    id: str
    overlap: Rule | None
    distance: Rule | None = None
    special: Mapping[str, Rule] = field(default_factory=dict)
    source: str

    def card(self) -> dict[str, Any]:
        """Return the policy as plain values, ready for JSON."""
        plain = dataclasses.asdict(self)
        for rule in (plain["overlap"], plain["distance"], *plain["special"].values()):
            if rule is not None and rule["cap"] == math.inf:
                rule["cap"] = None
        return plain


def _rule(both: Fill, one: Fill, ref_empty: Fill | None = None, cap: float = math.inf) -> Rule:
    return Rule(both_empty=both, pred_empty=one, ref_empty=one if ref_empty is None else ref_empty, cap=cap)


_BRATS_DIAGONAL = math.sqrt(240**2 + 240**2 + 155**2)

_POLICIES = {
    policy.id: policy
    for policy in [
        Policy(
            id="adopted",
            overlap=_rule("skip", 0.0),
            distance=_rule("skip", "diagonal"),
            source="this project: absent in both is no evidence; a miss costs Dice 0 and the diagonal of the volume",
        ),
        Policy(
            id="monai_ignore_empty",
            overlap=_rule("skip", 0.0, ref_empty="skip"),
            distance=_rule("skip", "skip"),
            source="MONAI 1.6 defaults: false positives on absent classes cost nothing, missed organs leave the HD95",
        ),
        Policy(
            id="monai_count_empty",
            overlap=_rule(1.0, 0.0),
            source="MONAI 1.6 DiceMetric and MeanIoU with ignore_empty=False",
        ),
        Policy(id="nnunet", overlap=_rule("skip", 0.0), source="nnU-Net v2 evaluate_predictions: nanmean over cases"),
        Policy(
            id="pymic",
            overlap=_rule(1.0, "smoothed"),
            special={"hd95_floor": _rule(0.0, 50.0, cap=50.0), "assd": _rule(0.0, 20.0, cap=20.0)},
            source="HiLab-git/PyMIC evaluation_seg: raw HD95 100 for a miss, capped at 50; ASSD capped at 20",
        ),
        Policy(
            id="synapse8",
            overlap=_rule(0.0, 0.0, ref_empty=1.0),
            distance=_rule(0.0, 0.0),
            source="TransUNet-style Synapse scripts; distances there are in voxels (score with spacing 1, 1, 1)",
        ),
        Policy(
            id="brats2021",
            overlap=_rule(1.0, 0.0),
            distance=_rule(0.0, _BRATS_DIAGONAL),
            source="BraTS up to 2022: penalty 373.1287 mm, the diagonal of 240 x 240 x 155 voxels of 1 mm",
        ),
        Policy(
            id="brats2023",
            overlap=_rule(1.0, 0.0),
            distance=_rule(0.0, 374.0),
            source="rachitsaluja/BraTS-2023-Metrics",
        ),
        Policy(
            id="brats2024",
            overlap=_rule("skip", 0.0),
            distance=_rule("skip", 373.0),
            source="brats-evaluation 0.0.10",
        ),
        Policy(id="atlas2", overlap=_rule(1.0, 0.0), source="ATLAS v2 challenge evaluation"),
        Policy(id="isles22", overlap=_rule(1.0, 0.0), source="ISLES'22 evaluation, empty_value=1"),
    ]
}


def known_policies() -> list[str]:
    """Return the ids of all policies, sorted."""
    return sorted(_POLICIES)


def policy(policy_id: str) -> Policy:
    """Look up a policy; an unknown id is answered with the nearest known one."""
    if policy_id not in _POLICIES:
        raise unknown_name("empty-mask policy", str(policy_id), _POLICIES)
    return _POLICIES[policy_id]


def apply_policy(rows: Iterable[Row], policy_id: str = "adopted") -> list[dict[str, Any]]:
    """Apply a policy to raw rows, keeping the raw value beside the new one.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `harness.scoring.score`, untouched by any policy.
    policy_id : str
        One of `known_policies`.

    Returns
    -------
    list of dict
        The rows with ``raw`` (the value before), ``value`` (nan where the case is left out), ``reason`` (why it is
        left out or was filled: ``absent_in_both``, ``absent_in_reference``, ``absent_in_prediction``,
        ``not_annotated``, or None) and ``policy``.

    Raises
    ------
    UserError
        The policy says nothing about a value that is undefined, or a row already went through a policy.
    """
    chosen = policy(policy_id)
    plans: dict[str, _Plan] = {}
    applied = []
    for row in rows:
        metric_id = row["metric"]
        if metric_id not in plans:
            plans[metric_id] = _plan(chosen, metric_id)
        applied.append(_applied(row, plans[metric_id], chosen.id))
    return applied


@dataclass(frozen=True)
class _Plan:
    """The rule for one metric, worked out once: None with `governed` means that the policy has no answer."""

    rule: Rule | None
    governed: bool


def _plan(chosen: Policy, metric_id: str) -> _Plan:
    card = definition(metric_id)
    if card.id in chosen.special:
        return _Plan(chosen.special[card.id], True)
    if card.empty_rule.both == "nan" and card.unit == "mm":
        return _Plan(chosen.distance, True)
    if card.empty_rule.both == "nan" and card.unit == "fraction" and card.higher_is_better:
        return _Plan(chosen.overlap, True)
    return _Plan(None, False)  # volumes, counts and lesion rules define their own value for empty masks


def _applied(row: Row, plan: _Plan, policy_id: str) -> dict[str, Any]:
    if "policy" in row:
        raise UserError(
            f"Class {row['class']!r}, metric {row['metric']!r}: policy {row['policy']!r} was already applied. "
            "Apply policies to raw rows, one at a time."
        )
    state, raw = row["state"], float(row["value"])
    reason = _REASONS[state]
    value = raw
    if state == "not_annotated":
        value = math.nan
    elif plan.governed and state != "both":
        if plan.rule is None:
            raise UserError(
                f"Class {row['class']!r}, metric {row['metric']!r}: the masks are {state}, and policy {policy_id!r} "
                f"does not say what that costs. Use a policy that does, such as 'adopted', or leave the metric out."
            )
        value = _filled(getattr(plan.rule, state), row)
    elif not math.isfinite(raw):
        value = math.nan
    if plan.rule is not None:
        value = min(value, plan.rule.cap) if value == value else value
    return {**row, "raw": raw, "value": value, "reason": reason, "policy": policy_id}


def _filled(fill: Fill, row: Row) -> float:
    if fill == "skip":
        return math.nan
    if fill == "diagonal":
        return float(row["diagonal_mm"])
    if fill == "smoothed":
        return _SMOOTHING / (int(row["n_pred"]) + int(row["n_ref"]) + _SMOOTHING)
    return float(fill)


_REASONS: dict[str, Reason | None] = {
    "both": None,
    "both_empty": "absent_in_both",
    "ref_empty": "absent_in_reference",
    "pred_empty": "absent_in_prediction",
    "not_annotated": "not_annotated",
}
