"""A comparison put into words: what differs, what is unknown, what follows, and what one more seed would settle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from harness.cards.claim import Claim
from harness.records.comparison import Comparison, Run
from harness.records.protocol import as_followed, claim_protocol, record_protocol
from harness.scoring.protocol_fields import PROTOCOL_FIELDS
from harness.scoring.verdict import ValueVerdict

__all__ = ["Explanation", "FieldLine", "explain", "one_more_seed"]


@dataclass(frozen=True)
class FieldLine:
    """One of the fourteen fields: what the claim says, what the run did, and whether that forbids a comparison."""

    name: str
    state: str
    claimed: str
    ours: str
    forbids: bool


@dataclass(frozen=True)
class Explanation:
    """A comparison with everything that a reader needs to judge it.

    Attributes
    ----------
    claim : Claim
        What was printed, with what the ledger knows about it.
    comparison : Comparison
        The verdicts.
    fields : tuple of FieldLine
        All fourteen, also without a run: then what the claim leaves open can still be read.
    next_seed : str
        What one more seed would settle.
    contamination : tuple of str
        What is known of the compared weights and these data; one line per weight set.
    """

    claim: Claim
    comparison: Comparison
    fields: tuple[FieldLine, ...]
    next_seed: str
    contamination: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "claim": self.claim.model_dump(mode="json"),
            "comparison": self.comparison.to_json(),
            "fields": [asdict(line) for line in self.fields],
            "next_seed": self.next_seed,
            "contamination": list(self.contamination),
        }


def explain(
    claim: Claim, comparison: Comparison, runs: Sequence[Run], contamination: Sequence[str] = ()
) -> Explanation:
    """Explain a comparison.

    Parameters
    ----------
    claim : Claim
        The printed number.
    comparison : Comparison
        From `harness.records.comparison.compare`.
    runs : sequence of Run
        Those it was made from, among others.
    contamination : sequence of str
        What the cards say of weights and data; what a compared record itself says goes first.
    """
    used = [run for run in runs if run.record.run_id in comparison.run_ids]
    said = [
        f"{run.record.model.id}.{run.record.model.variant}: {run.record.contamination.status}, "
        f"{run.record.contamination.evidence}"
        for run in used
        if run.record.contamination is not None
    ]
    return Explanation(
        claim=claim,
        comparison=comparison,
        fields=_fields(claim, comparison, used),
        next_seed=one_more_seed(comparison.value, comparison.n_seeds),
        contamination=tuple(dict.fromkeys([*said, *contamination])),
    )


def one_more_seed(value: ValueVerdict, n_runs: int) -> str:
    """Say what one more seed would settle.

    Parameters
    ----------
    value : ValueVerdict
        As it stands.
    n_runs : int
        How many seeds it was made from.
    """
    if value.state in ("not_attempted", "not_reproducible_as_published", "not_comparable"):
        return (
            "A seed settles nothing here: "
            + {
                "not_attempted": "there is no run yet; three seeds are the least.",
                "not_reproducible_as_published": "what is missing is not a run.",
                "not_comparable": "the protocols differ, however often they are run.",
            }[value.state]
        )
    if value.interval_kind in ("versions", "cases"):
        return "A released file has no training noise, so another seed changes nothing."
    if value.state != "inconclusive":
        return f"The verdict stands with {n_runs} seeds; one more can only narrow the interval."
    if value.interval_kind != "seeds":
        return "Other cases than the claim's were scored; beyond a few seeds only more cases narrow the interval."
    if n_runs < 2 or value.low is None or value.high is None:
        return "One more seed gives a first idea of the spread and settles nothing; three are the least."
    now, then = (value.high - value.low) / 2, _half_width((value.high - value.low) / 2, n_runs)
    said = f"One more seed would narrow the interval from ±{now:.4f} to about ±{then:.4f} if the spread stays as it is"
    if value.seeds_needed is None:
        return f"{said}; no number of seeds that is worth running would settle it."
    more = value.seeds_needed - n_runs
    return f"{said}; {'that would settle it.' if more <= 1 else f'{more} more would settle it.'}"


def _half_width(now: float, n_runs: int) -> float:
    """Return the half-width of a t interval of one more run with the same spread."""
    from scipy.special import stdtrit

    def per_sd(n: int) -> float:
        return float(stdtrit(n - 1, 0.975)) / math.sqrt(n)

    return now * per_sd(n_runs + 1) / per_sd(n_runs)


def _fields(claim: Claim, comparison: Comparison, used: Sequence[Run]) -> tuple[FieldLine, ...]:
    known: Mapping[str, Any] = claim_protocol(claim)
    ours: Mapping[str, Any] = {}
    if used:
        record = used[0].record
        metric = next(one for one in record.metrics if one.id == comparison.metric)
        known = as_followed(known, record, claim.about.protocol)
        ours = record_protocol(record, metric, all_folds=claim.about.folds is not None)
    elif claim.about.protocol:
        recipe = f"as in the protocol {claim.about.protocol}"
        known = {name: recipe if value == "recipe" else value for name, value in known.items()}
    protocol = comparison.protocol
    return tuple(
        FieldLine(
            name=name,
            state=protocol.fields[name] if protocol else "unknown",
            claimed=_spell(known.get(name), "not stated"),
            ours=_spell(ours.get(name), "not recorded" if used else "no run"),
            forbids=protocol is not None and name in protocol.blocking,
        )
        for name in PROTOCOL_FIELDS
    )


def _spell(value: Any, nothing: str) -> str:
    if value is None:
        return nothing
    if isinstance(value, BaseModel):
        return ", ".join(f"{key} {_spell(one, '-')}" for key, one in value if one is not None)
    if isinstance(value, tuple | list):
        return ", ".join(_spell(one, "-") for one in value if one is not None) or "none"
    return str(value)
