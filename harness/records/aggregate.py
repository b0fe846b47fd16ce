"""From case rows to the metrics of a record. The one way in which aggregates come about, in making and in checking."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from harness.errors import UserError
from harness.records.cases import CaseRow, row_order
from harness.records.columns import Columns, state_of
from harness.records.pretext import PRETEXT_METRICS, PretextDefinition, pretext_definition
from harness.records.schema import ClassValue, EmptyRule, Interval, Metric
from harness.records.sums import Sums
from harness.scoring.definitions import Averaging, Definition, from_record_id
from harness.scoring.policies import policy as find_policy
from harness.scoring.summary import MetricSummary, summarise

__all__ = ["aggregate", "aggregate_columns", "empty_rule", "find_definition"]

CI_SEED = 0
_AS_MEASURED = EmptyRule(both_empty="as measured", pred_empty="as measured", ref_empty="as measured")
_PRETEXT_IDS = frozenset(card.record_id for card in PRETEXT_METRICS.values())


@functools.cache
def find_definition(record_id: str) -> Definition | PretextDefinition:
    """Look up a metric by the id that records use; an id or version that this release does not know is a UserError."""
    return pretext_definition(record_id) if record_id in _PRETEXT_IDS else from_record_id(record_id)


def aggregate(
    rows: Sequence[CaseRow],
    *,
    policy: str,
    averaging: Mapping[str, Averaging] | None = None,
    order: Sequence[str] = (),
    intervals: bool = True,
    seed: int = CI_SEED,
    sums: Sums | None = None,
) -> tuple[Metric, ...]:
    """Compute every metric of a record from its case rows.

    Parameters
    ----------
    rows : sequence of CaseRow
        Every case, class and metric exactly once.
    policy : str
        The empty-mask policy that the values went through.
    averaging : mapping of str to str, optional
        Record id of a metric to how it is averaged; by default as its definition says.
    order : sequence of str
        Record ids in the order wanted; by default as they first appear. The first is the headline.
    intervals : bool
        Whether to bootstrap over the cases.
    seed : int
        Of the bootstrap.
    sums : mapping of str to mapping, optional
        The sums over probabilities, which metrics of probabilities need where they are pooled over cases.

    Raises
    ------
    UserError
        A row is missing or doubled, a metric or the policy is unknown, or the sums that pooling needs are missing.
    """
    groups: dict[str, list[CaseRow]] = {record_id: [] for record_id in order}
    for row in rows:
        groups.setdefault(row.metric_id, []).append(row)
    metrics = []
    for record_id, group in groups.items():
        card = find_definition(record_id)
        own: Averaging = "class_then_case" if isinstance(card, PretextDefinition) else card.averaging
        how = (averaging or {}).get(record_id, own)
        if not group:
            raise UserError(f"No case has a row for the metric {record_id}, though it was asked for.")
        # A seeded bootstrap draws by position, so the cases need one order however they were scored.
        ordered = sorted(group, key=row_order) if intervals else group
        if how == "pooled" and isinstance(card, Definition) and card.needs == "probabilities":
            _refuse_unsummed(record_id, ordered, sums)
        scored = _as_scored(ordered, card.id, policy, (sums or {}) if how == "pooled" else None)
        metrics.append(_metric(card, scored, policy, how, seed if intervals else None))
    return tuple(metrics)


def aggregate_columns(
    columns: Columns, record_id: str, policy: str, averaging: Averaging, *, seed: int | None = None
) -> Metric:
    """Compute one metric of a record from its case file by columns: the same as `aggregate` of its rows.

    Parameters
    ----------
    columns : Columns
        With a complete layout.
    record_id : str
        A metric of that layout.
    policy : str
        The empty-mask policy that the values went through.
    averaging : {"class_then_case", "case_then_class"}
        Pooling needs the counts of every row: `aggregate` does it.
    seed : int, optional
        Of the bootstrap over the cases; none is made without it.

    Raises
    ------
    UserError
        The metric or the policy is unknown.
    """
    card = find_definition(record_id)
    rows = columns.layout.of_metric(record_id)
    keys = (columns.layout.case_ids[rows], columns.layout.class_names[rows])
    scored = [
        {
            "case_id": case,
            "class": name,
            "metric": card.id,
            "value": math.nan if value is None else value,
            "state": "both" if reason is None else state_of(reason),
            "policy": policy,
        }
        for case, name, value, reason in zip(*keys, columns.values[rows], columns.reasons[rows], strict=True)
    ]
    return _metric(card, scored, policy, averaging, seed)


@functools.cache
def _sha256(record_id: str) -> str:
    return find_definition(record_id).sha256


def empty_rule(policy_id: str, card: Definition | PretextDefinition) -> EmptyRule:
    """Say in words what a policy makes of empty masks for one metric."""
    if isinstance(card, PretextDefinition):
        return _AS_MEASURED
    chosen = find_policy(policy_id)
    rule = chosen.special.get(card.id)
    if rule is None and card.empty_rule.both == "nan" and card.unit == "mm":
        rule = chosen.distance
    elif rule is None and card.empty_rule.both == "nan" and card.unit == "fraction" and card.higher_is_better:
        rule = chosen.overlap
    if rule is None:
        return _AS_MEASURED
    return EmptyRule(both_empty=str(rule.both_empty), pred_empty=str(rule.pred_empty), ref_empty=str(rule.ref_empty))


def _refuse_unsummed(record_id: str, rows: Sequence[CaseRow], sums: Sums | None) -> None:
    missing = [row for row in rows if row.class_name not in (sums or {}).get(row.case_id, ())]
    if missing:
        raise UserError(
            f"{record_id} is pooled over cases, and pooling needs the sums over probabilities of every case; those of "
            f"{missing[0].case_id}, {missing[0].class_name} are missing. Run with protocol.scoring.sums=true."
        )


def _metric(
    card: Definition | PretextDefinition,
    scored: list[dict[str, Any]],
    policy: str,
    how: Averaging,
    seed: int | None,
) -> Metric:
    summary = summarise(scored, policy, how, intervals=seed is not None, seed=seed or 0).metrics[card.id]
    ci95, method = _interval(summary)
    return Metric(
        id=card.record_id,
        definition_sha256=_sha256(card.record_id),
        unit=card.unit,
        higher_is_better=card.higher_is_better,
        empty_rule=empty_rule(policy, card),
        policy=policy,
        grid="patch" if isinstance(card, PretextDefinition) else card.grid,
        averaging=how,
        value=summary.overall.value,
        n_cases=len(summary.per_case) if summary.overall.value is not None else 0,
        n_undefined=sum(one.n_undefined for one in summary.per_class.values()),
        per_class={
            name: ClassValue(value=one.value, n=one.n, n_undefined=one.n_undefined, n_not_annotated=one.n_not_annotated)
            for name, one in sorted(summary.per_class.items())
        },
        ci95=ci95,
        ci95_method=method,
    )


def _interval(summary: MetricSummary) -> tuple[tuple[float, float] | None, Interval | None]:
    found = summary.interval
    if found is None or found.method not in ("bca", "constant"):
        return None, None  # one case allows no interval
    name: Literal["bca", "constant"] = "bca" if found.method == "bca" else "constant"
    method = Interval(name=name, level=found.confidence, draws=found.n_resamples, seed=found.seed)
    return (found.low, found.high), method


def _as_scored(rows: list[CaseRow], metric_id: str, policy: str, pooled: Sums | None) -> list[dict[str, Any]]:
    """Return rows as `harness.scoring.score` makes them; counts and sums are in them where they are ``pooled``."""
    made = [
        {
            "case_id": row[0],
            "class": row[2],
            "metric": metric_id,
            "value": math.nan if row[4] is None else row[4],
            "state": "both" if row[5] is None else row.state,
            "policy": policy,
        }
        for row in rows
    ]
    if pooled is not None:
        for row, scored in zip(rows, made, strict=True):
            scored |= {"tp": row.tp or 0, "fp": row.fp or 0, "fn": row.fn or 0}
            scored["sufficient"] = pooled.get(row.case_id, {}).get(row.class_name)
    return made
