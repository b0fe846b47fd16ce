"""Means over rows that never hide what was left out: every mean carries its n and the counts of the states."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError
from harness.scoring.definitions import Averaging, definition
from harness.scoring.facts import Facts
from harness.scoring.formulas import from_counts
from harness.scoring.intervals import Interval, bca_interval
from harness.scoring.policies import apply_policy, policy
from harness.scoring.soft import soft_value

__all__ = ["Mean", "MetricSummary", "Summary", "summarise"]

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean and everything that went into it.

    Attributes
    ----------
    value : float or None
        None where nothing was defined.
    n : int
        How many values were averaged.
    n_undefined : int
        How many more there would have been, had the policy not left them out.
    states : dict of str to int
        Rows per state: ``both``, ``pred_empty``, ``ref_empty``, ``both_empty``.
    n_not_annotated : int
        Rows left out because nobody drew the structure; counted neither in `n_undefined` nor in `states`.
    """

    value: float | None
    n: int
    n_undefined: int
    states: dict[str, int]
    n_not_annotated: int


@dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """One metric over all cases and classes.

    Attributes
    ----------
    metric : str
        Short id, as in the rows.
    averaging : {"class_then_case", "case_then_class", "pooled"}
        How `overall` was formed; its n counts cases, classes or cases.
    overall : Mean
        The one number.
    per_class : dict of str to Mean
        Over cases, per class.
    per_case : dict of str to float
        Mean over the defined classes of each case; cases without a defined class are missing.
    interval : Interval or None
        BCa interval of the mean over cases; only with averaging ``class_then_case``.
    """

    metric: str
    averaging: Averaging
    overall: Mean
    per_class: dict[str, Mean]
    per_case: dict[str, float]
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All metrics of one set of scored cases under one policy."""

    policy: str
    n_cases: int
    metrics: dict[str, MetricSummary]


def summarise(
    rows: Iterable[Row],
    policy_id: str = "adopted",
    averaging: Averaging | None = None,
    *,
    intervals: bool = True,
    seed: int = 0,
) -> Summary:
    """Average raw rows of many cases under a policy.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `harness.scoring.score`, each with a ``case_id`` added; every case has every class and metric once.
        Rows that went through `apply_policy` with the same policy are taken as they are.
    policy_id : str
        See `harness.scoring.policies.known_policies`.
    averaging : {"class_then_case", "case_then_class", "pooled"}, optional
        ``class_then_case`` averages the classes inside each case first, ``case_then_class`` the cases of each class
        first, ``pooled`` adds up the voxel counts of all cases before the formula. The metric's own by default.
    intervals : bool
        Whether to bootstrap (slow imports: `scipy.stats`).
    seed : int
        Seed of the bootstrap.

    Raises
    ------
    UserError
        A row is missing, doubled or without ``case_id``; the policy has no answer to an undefined value; a metric
        that is no function of counts should be pooled.
    """
    policy(policy_id)
    by_metric: dict[str, list[Row]] = defaultdict(list)
    for row in _with_policy(list(rows), policy_id):
        by_metric[row["metric"]].append(row)
    if not by_metric:
        raise UserError("There are no rows to average: nothing was scored.")
    _check_complete(by_metric)
    metrics = {}
    for metric_id, group in by_metric.items():
        chosen = averaging or definition(metric_id).averaging
        metrics[metric_id] = _summarise_metric(metric_id, group, chosen, seed if intervals else None)
    n_cases = len({row["case_id"] for group in by_metric.values() for row in group})
    return Summary(policy=policy_id, n_cases=n_cases, metrics=metrics)


def _with_policy(rows: list[Row], policy_id: str) -> list[Row]:
    already = {row.get("policy") for row in rows}
    return rows if already == {policy_id} else list(apply_policy(rows, policy_id))


def _check_complete(by_metric: dict[str, list[Row]]) -> None:
    with contextlib.suppress(KeyError):
        keys = [(row["case_id"], row["class"], row["metric"]) for group in by_metric.values() for row in group]
        if len(set(keys)) == len(keys) == math.prod(len(set(part)) for part in zip(*keys, strict=True)):
            return
    # Something is amiss: once more, slowly, to say what.
    seen: set[tuple[str, str, str]] = set()
    for group in by_metric.values():
        for row in group:
            if "case_id" not in row:
                raise UserError(
                    f"A row of class {row['class']!r}, metric {row['metric']!r} has no 'case_id', so it cannot be "
                    "told which case it belongs to. Add the case id to every row of score()."
                )
            key = (row["case_id"], row["class"], row["metric"])
            if key in seen:
                raise UserError(f"Case {key[0]!r}, class {key[1]!r}, metric {key[2]!r} has two rows; it needs one.")
            seen.add(key)
    cases, classes, metrics = (list(dict.fromkeys(key[i] for key in sorted(seen))) for i in range(3))
    for case in cases:
        for name in classes:
            for metric_id in metrics:
                if (case, name, metric_id) not in seen:
                    raise UserError(
                        f"Case {case!r} has no row for class {name!r}, metric {metric_id!r}, though other cases do. "
                        "Missing cases are errors: score it, or give it a row in the state 'not_annotated'."
                    )


def _summarise_metric(metric_id: str, rows: list[Row], averaging: Averaging, seed: int | None) -> MetricSummary:
    by_class, by_case = _by(rows, "class"), _by(rows, "case_id")
    # The mean of one value is that value, so most of the work is left out where there is one class.
    per_case = (
        {row["case_id"]: row["value"] for row in rows if math.isfinite(row["value"])}
        if len(by_class) == 1
        else {case: value for case, group in by_case.items() if (value := _mean(_defined(group))) is not None}
    )
    pooled = averaging == "pooled"
    per_class = {
        name: _pooled(metric_id, group) if pooled else _over(group, _defined(group), len(_annotated(group)))
        for name, group in by_class.items()
    }
    interval = None
    if averaging == "class_then_case":
        overall = _over(rows, list(per_case.values()), len(by_case))
        if seed is not None and per_case:
            interval = bca_interval(list(per_case.values()), seed=seed)
    elif averaging == "case_then_class":
        means = [mean.value for mean in per_class.values() if mean.value is not None]
        overall = _over(rows, means, len(by_class))
    else:
        overall = _pooled(metric_id, rows)
    return MetricSummary(
        metric=metric_id,
        averaging=averaging,
        overall=overall,
        per_class=per_class,
        per_case=per_case,
        interval=interval,
    )


def _annotated(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["state"] != "not_annotated"]


def _by(rows: list[Row], name: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return groups


def _defined(rows: list[Row]) -> list[float]:
    return [row["value"] for row in rows if math.isfinite(row["value"])]


def _mean(values: list[float]) -> float | None:
    # fsum: the mean does not depend on the order in which the cases were scored.
    return math.fsum(values) / len(values) if values else None


def _over(rows: list[Row], values: list[float], expected: int) -> Mean:
    states = Counter([row["state"] for row in rows])
    not_annotated = states.pop("not_annotated", 0)
    return Mean(
        value=_mean(values),
        n=len(values),
        n_undefined=expected - len(values),
        states={state: states[state] for state in ("both", "pred_empty", "ref_empty", "both_empty")},
        n_not_annotated=not_annotated,
    )


def _pooled(metric_id: str, rows: list[Row]) -> Mean:
    """Apply the formula to the sums of all annotated rows together."""
    annotated = _annotated(rows)
    card = definition(metric_id)
    if not annotated:
        value = math.nan
    elif card.needs == "probabilities":
        value = soft_value(metric_id, functools.reduce(operator.add, [row["sufficient"] for row in annotated]))
    else:
        totals = {count: sum(row[count] for row in annotated) for count in ("tp", "fp", "fn")}
        value = from_counts(card, Facts(**totals, tn=0, voxel_mm3=math.nan))
    defined = annotated if math.isfinite(value) else []
    counted = _over(rows, [value] * len(defined), len(annotated))
    return Mean(
        value=value if defined else None,
        n=counted.n,
        n_undefined=counted.n_undefined,
        states=counted.states,
        n_not_annotated=counted.n_not_annotated,
    )
