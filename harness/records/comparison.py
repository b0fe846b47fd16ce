"""A claim beside the records that speak to it: comparability, agreement and gain.

Generated, never submitted. The rules of both verdicts are `harness.scoring.verdict`; here is only what goes into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.cards.claim import Claim
from harness.records.attempts import Attempt, Run, attempts, latest, with_twins
from harness.records.identity import twin_key
from harness.records.protocol import (
    as_followed,
    claim_protocol,
    family,
    find_metric,
    not_public,
    record_protocol,
    rounding,
)
from harness.records.schema import Metric, Record
from harness.scoring.verdict import (
    GainVerdict,
    ProtocolDifference,
    ValueVerdict,
    gain_verdict,
    protocol_difference,
    suggested_margin,
    value_verdict,
)

__all__ = ["Comparison", "Run", "baseline_of", "compare", "gain", "twins"]


@dataclass(frozen=True)
class Comparison:
    """One claim beside the runs of one cell, seed by seed.

    Attributes
    ----------
    claim_id : str
        Which claim.
    run_ids : tuple of str
        The runs that were compared; empty where there is none.
    n_seeds : int
        How often the number was made again: one per run, or per seed whose folds are all there.
    metric : str or None
        Id of the record metric that was used.
    protocol : ProtocolDifference or None
        Fourteen fields; None without a run.
    value : ValueVerdict
        Did it agree?
    gain : GainVerdict
        Was there a gain over the twin from scratch?
    margin_fixed : bool
        Whether the margin stood in the experiment file before the runs; otherwise it is the suggested one.
    explanation : str
        All of it in words.
    """

    claim_id: str
    run_ids: tuple[str, ...]
    n_seeds: int
    metric: str | None
    protocol: ProtocolDifference | None
    value: ValueVerdict
    gain: GainVerdict
    margin_fixed: bool
    explanation: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def compare(
    claim: Claim,
    runs: Iterable[Run],
    *,
    stated: Mapping[str, Any] | None = None,
    claimed_gain: float | None = None,
    withdrawn: Iterable[str] = (),
    margin: float | None = None,
) -> Comparison:
    """Judge a claim by the records there are.

    Parameters
    ----------
    claim : Claim
        Of a metric with a value in 0-1; the verdict on any other is ``not_attempted`` with that reason.
    runs : iterable of Run
        Verified records of any cells. Those of the claim's model family, data set and init are used; those with marks
        of evidence (stand-in weights, synthetic or sample data) never are.
    stated : mapping, optional
        What the claim's source says of the protocol, instead of what the ledger says; see
        `harness.records.protocol.claim_protocol`.
    claimed_gain : float, optional
        Claimed pretrained minus claimed scratch value, as a fraction (`baseline_of` finds the scratch row).
    withdrawn : iterable of str
        Run ids that no longer count.
    margin : float, optional
        Overrules the one of the records' experiment.
    """
    everything = list(runs)
    gone = {*withdrawn, *(run.record.supersedes for run in everything if run.record.supersedes)}
    usable = [run for run in everything if run.record.run_id not in gone and _speaks_to(claim, run.record)]
    unmarked = [run for run in usable if not run.record.evidence]
    if claim.fraction is None:
        return _nothing(claim, f"its unit is {claim.unit!r}, which no record metric has")
    if not unmarked:
        why = claim.about.not_attempted or "nobody has run it yet"
        return _nothing(claim, "only runs with stand-in weights, synthetic data or samples" if usable else why)
    groups, incomplete = attempts(latest(unmarked), claim.about.folds)
    if not groups:
        why = (
            f"{'; '.join(incomplete)}, and the printed number is over all {claim.about.folds.count}"
            if (claim.about.folds and incomplete)
            else "its runs are of a split with another number of folds"
        )
        return _nothing(claim, why)
    counted = latest(run for run in everything if run.record.run_id not in gone)
    judged = [_judge(claim, group, counted, incomplete, stated, claimed_gain, margin) for group in groups]
    # One line per claim: what can be compared, then what has most seeds, then the first by name.
    return min(judged, key=lambda one: (one.value.state == "not_comparable", -len(one.run_ids), one.run_ids))


def _speaks_to(claim: Claim, record: Record) -> bool:
    return (
        record.status == "complete"
        and record.dataset.id == claim.card
        and _is_its_model(claim, record)
        and (metric := find_metric(claim, record)) is not None
        and metric.value is not None
    )


def _is_its_model(claim: Claim, record: Record) -> bool:
    """Whether a run used the claim's weight set and start; a released file is the claim where the ledger says so."""
    name, init, about = f"{record.model.id}.{record.model.variant}", record.model.init, claim.about
    if init == "released" and about.released:
        return name in about.released
    inits = {"pretrained": ("pretrained", "released"), "scratch": ("scratch",), "other": ("other",)}[claim.init]
    return init in inits and (name in about.models if about.models else record.model.id == family(claim.model))


def _judge(
    claim: Claim,
    tried: list[Attempt],
    counted: Sequence[Run],
    incomplete: Sequence[str],
    stated: Mapping[str, Any] | None,
    claimed_gain: float | None,
    margin: float | None,
) -> Comparison:
    runs = [run for one in tried for run in one.runs]
    first, metric = runs[0].record, _metric(claim, runs[0].record)
    ours = record_protocol(first, metric, all_folds=claim.about.folds is not None)
    known = as_followed(claim_protocol(claim, stated), first, claim.about.protocol)
    protocol = protocol_difference(known, ours, pretrained=claim.init == "pretrained")
    eval_only = first.kind == "eval_only"
    fixed = {run.record.experiment.margin for run in runs if run.record.experiment is not None}
    before = len(fixed) == 1 and margin is None
    n_cases = tried[0].n_cases(metric.id)
    chosen = margin or (fixed.pop() if before else suggested_margin(n_cases, eval_only=eval_only))
    same_cases = protocol.fields["cases_scored"] == "same"
    table = _table(tried, metric.id)
    value = value_verdict(
        reported=claim.fraction or 0.0,
        margin=chosen,
        runs=[value for one in tried if (value := one.value(metric.id)) is not None],
        case_scores=None if same_cases else table,
        same_cases=same_cases,
        eval_only=eval_only,
        rounding=rounding(claim),
        protocol=protocol,
        not_public=not_public(claim),
    )
    paired = with_twins(tried, twins(runs, counted))
    found = _gain(paired, metric, claimed=claimed_gain)
    said = [_explain(value, found, protocol, before), *_by_fold(claim, tried, metric.id)]
    if incomplete:
        said.append(f"Left out, since the printed number is over all folds: {'; '.join(incomplete)}.")
    return Comparison(
        claim_id=claim.id,
        run_ids=tuple(run.record.run_id for run in runs),
        n_seeds=len(tried),
        metric=metric.id,
        protocol=protocol,
        value=value,
        gain=found,
        margin_fixed=before,
        explanation=" ".join(said),
    )


def _by_fold(claim: Claim, tried: Sequence[Attempt], metric_id: str) -> list[str]:
    """List the folds beside what was printed for each, where the claim is over folds; they are no repeats."""
    if claim.about.folds is None:
        return []
    scale, parts = 0.01 if claim.unit == "percent" else 1.0, []
    for fold in range(claim.about.folds.count):
        values = [value for one in tried if (value := one.runs[fold].metric(metric_id).value) is not None]
        printed = (claim.per_fold or {}).get(f"fold{fold}")
        beside = f" (printed {printed * scale:.4f})" if printed is not None else ""
        parts.append(f"{sum(values) / len(values):.4f}{beside}" if values else f"no value{beside}")
    return [f"Fold by fold: {', '.join(parts)}."]


def _metric(claim: Claim, record: Record) -> Metric:
    metric = find_metric(claim, record)
    assert metric is not None, "only records with a fitting metric get here"
    return metric


def twins(runs: Iterable[Run], everything: Iterable[Run]) -> list[tuple[Run, Run]]:
    """Pair runs with their twins from scratch: the same cell, the same seeds, another init."""
    scratch = {twin_key(run.record): run for run in everything if run.record.model.init == "scratch"}
    pairs = []
    for run in runs:
        twin = scratch.get(twin_key(run.record))
        if twin is not None and run.record.model.init != "scratch":
            pairs.append((run, twin))
    return pairs


def gain(pairs: Sequence[tuple[Run, Run]], metric: Metric, *, claimed: float | None = None) -> GainVerdict:
    """Judge the gain of pretraining over pairs of twins, on the cases that all of them have."""
    return _gain([(Attempt((run,)), Attempt((twin,))) for run, twin in pairs], metric, claimed=claimed)


def _gain(pairs: Sequence[tuple[Attempt, Attempt]], metric: Metric, *, claimed: float | None) -> GainVerdict:
    table = _table([one for pair in pairs for one in pair], metric.id)
    return gain_verdict(table[0::2], table[1::2], higher_is_better=metric.higher_is_better, claimed=claimed)


def baseline_of(claim: Claim, claims: Iterable[Claim]) -> Claim | None:
    """Return the scratch row that a pretrained row is printed beside; None where it is not clear which one."""

    def key(one: Claim) -> tuple[object, ...]:
        return one.source, one.dataset, one.task, one.split, one.metric, one.unit, one.model

    rows = [one for one in claims if one.init == "scratch" and key(one) == key(claim)]
    return rows[0] if claim.init == "pretrained" and len(rows) == 1 else None


def _table(tried: Sequence[Attempt], metric_id: str) -> list[list[float]]:
    """Return the scores of the cases that all have, one row each."""
    scores = [one.case_scores(metric_id) for one in tried]
    common = sorted(set.intersection(*map(set, scores))) if scores else []
    return [[one[case] for case in common] for one in scores]


def _nothing(claim: Claim, why: str) -> Comparison:
    value = value_verdict(reported=claim.fraction or 0.0, margin=0.01, not_public=not_public(claim), not_attempted=why)
    return Comparison(claim.id, (), 0, None, None, value, gain_verdict([], []), False, value.explanation)


def _explain(value: ValueVerdict, found: GainVerdict, protocol: ProtocolDifference, fixed: bool) -> str:
    differ = [name.replace("_", " ") for name, state in protocol.fields.items() if state == "different"]
    parts = [value.explanation]
    if differ and value.state != "not_comparable":
        parts.append(f"The protocols differ in {', '.join(differ)}.")
    parts.append(f"{protocol.n_unknown} of {len(protocol.fields)} protocol fields are unknown.")
    if not fixed:
        parts.append("The margin was not fixed before the runs; it is the suggested one.")
    parts.append(found.explanation)
    return " ".join(parts)
