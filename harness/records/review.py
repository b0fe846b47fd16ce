"""What a pull request to a results repository adds: checked, and its cells beside their twins and claims.

Nothing of the pull request is executed, and of its text only plain signs reach the answer, since a machine posts it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.cards.claim import Claim
from harness.cards.library import claims
from harness.errors import UserError
from harness.records.archive import regressions
from harness.records.comparison import Comparison, Run, baseline_of, compare, gain, twins
from harness.records.identity import sweep_key, twin_key
from harness.records.index import INDEX, check_index, entries
from harness.records.objections import OBJECTIONS, objections, standing
from harness.records.protocol import family
from harness.records.store import load
from harness.records.verification import TRUST, Finding, Verification
from harness.records.verify import find_records, verify_all

__all__ = ["Review", "review"]

_SHOWN: Final = 40  # findings; a pull request with more is sent back for the first of them
_NOT_PLAIN: Final = re.compile(r"[^\w .,:;()+/%=\N{MINUS SIGN}-]")


@dataclass(frozen=True)
class Review:
    """The answer to a pull request.

    Attributes
    ----------
    ok : bool
        Whether nothing is wrong with it.
    new : tuple of str
        Places of the records that it adds.
    text : str
        What to post, as Markdown.
    """

    ok: bool
    new: tuple[str, ...]
    text: str


def review(base: Path, head: Path, *, cards: Iterable[Path] = (), full: bool = True, workers: int = 1) -> Review:
    """Check what a pull request changes.

    Parameters
    ----------
    base, head : Path
        The results repository before and after; ``base`` may be missing where the repository is new.
    cards : iterable of Path
        Folders of cards that the repository trusts, never of the pull request.
    full : bool
        Draw every interval of the new records again.
    workers : int
        Processes.

    Returns
    -------
    Review
        With every finding; it never raises for what is wrong with a record.

    Raises
    ------
    UserError
        ``head`` is no results repository.
    """
    if not head.is_dir():
        raise UserError(f"There is no results repository at {head}. Name the folder that holds {INDEX}.")
    folders = tuple(cards)
    before = set(entries(base))
    new = tuple(sorted({*entries(head), *_places(head)} - before))
    broken = [*regressions(base, head), *_changed_objections(base, head)]
    present: set[str | None] = {place.rpartition("/")[2] for place in _places(head)}
    broken += [finding for _, _, finding in check_index(head, present)] if (head / INDEX).is_file() else []
    if new and not (head / INDEX).is_file():
        broken.append(Finding(10, "error", INDEX, "is missing; add records with `harness record pack`"))
    # Copies and twins show only beside the other records of the same data set.
    there = [head / place for place in new if (head / place).is_dir()]
    near = sorted({head / place.split("/")[0] for place in new if (head / place).is_dir()})
    verdicts = verify_all(near, cards=folders, workers=workers) if near else []
    again = verify_all(there, full=True, cards=folders, workers=workers) if there and full else []
    redrawn = {verdict.path: verdict for verdict in again}
    mine = [_worse(verdict, redrawn.get(verdict.path)) for verdict in verdicts if verdict.path in set(there)]
    ok = not broken and all(verdict.ok for verdict in mine)
    runs = [Run(load(verdict.path), verdict.path) for verdict in verdicts if verdict.ok]
    added = {verdict.run_id for verdict in mine if verdict.ok and verdict.run_id}
    return Review(ok, new, _text(ok, new, broken, mine, _rows(runs, added, _withdrawn(head))))


def _places(root: Path) -> set[str]:
    return {folder.relative_to(root).as_posix() for folder in find_records(root)}


def _withdrawn(head: Path) -> list[str]:
    try:
        return [run_id for run_id, became in standing(objections(head)).items() if became == "withdrawn"]
    except UserError:
        return []  # reported by _changed_objections


def _changed_objections(base: Path, head: Path) -> list[Finding]:
    """Check 10: objections are only ever appended, and follow from one another."""
    before, after = (root / OBJECTIONS for root in (base, head))
    old = before.read_bytes() if before.is_file() else b""
    new = after.read_bytes() if after.is_file() else b""
    if not new.startswith(old):
        return [Finding(10, "error", OBJECTIONS, "lines were removed or edited; an objection is only ever answered")]
    try:
        objections(head)
    except UserError as error:
        return [Finding(10, "error", OBJECTIONS, str(error))]
    return []


def _worse(one: Verification, other: Verification | None) -> Verification:
    """Join what the joint check and the full check of one record found."""
    if other is None:
        return one
    more = tuple(finding for finding in other.findings if finding not in one.findings)
    trust = min(one.trust, other.trust)
    return Verification(one.path, one.run_id, (*one.findings, *more), trust)


def _rows(runs: Sequence[Run], added: set[str], withdrawn: Sequence[str]) -> list[list[str]]:
    """Return a row for every cell that a new record belongs to: its seeds, its twin, its gain, its claims."""
    sweeps: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.record.run_id not in withdrawn and run.record.status == "complete" and run.record.metrics:
            sweeps[sweep_key(run.record)].append(run)
    touched = {key for key, group in sweeps.items() if any(run.record.run_id in added for run in group)}
    others = {twin_key(run.record): key for key, group in sweeps.items() for run in group if _init(run) != "scratch"}
    shown = set()
    for key in touched:
        beside = {others[twin] for run in sweeps[key] if (twin := twin_key(run.record)) in others}
        shown |= beside if beside and _init(sweeps[key][0]) == "scratch" else {key}
    return [_row(sorted(sweeps[key], key=_by_seed), runs, added, withdrawn) for key in sorted(shown)]


def _init(run: Run) -> str:
    return run.record.model.init


def _by_seed(run: Run) -> tuple[int, str]:
    return run.record.seeds.torch or 0, run.record.run_id


def _row(group: list[Run], runs: Sequence[Run], added: set[str], withdrawn: Sequence[str]) -> list[str]:
    first = group[0].record
    metric = first.metrics[0]
    fold = f", fold {first.split.fold}" if (first.split.n_folds or 1) > 1 else ""
    fraction = first.split.label_fraction
    share = f", {fraction:.0%} of the labels" if fraction not in (None, 1.0) else ""
    pairs = twins(group, [run for run in runs if run.record.run_id not in withdrawn])
    found = gain(pairs, metric)
    interval = f" [{found.interval.low:+.4f}, {found.interval.high:+.4f}]" if found.interval else ""
    new = sum(run.record.run_id in added for run in [*group, *(twin for _, twin in pairs)])
    return [
        f"{first.dataset.id}, {first.split.id}{fold}{share}",
        f"{first.model.id}.{first.model.variant}, {first.model.init}",
        first.protocol.id,
        metric.id,
        _mean(group, metric.id),
        _mean([twin for _, twin in pairs], metric.id) if pairs else "no twin",
        f"{found.gain:+.4f}{interval}, {found.state}" if found.gain is not None else found.state,
        f"{len(group)}, of all runs {new} new",
        ", ".join(sorted({mark for run in group for mark in run.record.evidence})) or "none",
        "; ".join(_claims(group, runs, withdrawn)) or "none",
    ]


def _mean(group: Sequence[Run], metric_id: str) -> str:
    values = [metric.value for run in group for metric in run.record.metrics if metric.id == metric_id]
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.4f}" if known else "none"


def _claims(group: Sequence[Run], runs: Sequence[Run], withdrawn: Sequence[str]) -> list[str]:
    """Return how each claim stands that the group speaks to."""
    ours = {run.record.run_id for run in group}
    printed = claims().results
    said = []
    for claim in printed:
        if claim.card != group[0].record.dataset.id or family(claim.model) != group[0].record.model.id:
            continue
        base = baseline_of(claim, printed)
        expected = claim.fraction - base.fraction if base and claim.fraction and base.fraction else None
        found = compare(claim, runs, claimed_gain=expected, withdrawn=withdrawn)
        if ours & set(found.run_ids):
            said.append(_stands(claim, found))
    return said


def _stands(claim: Claim, found: Comparison) -> str:
    unit = {"percent": " %", "fraction": ""}.get(claim.unit, f" {claim.unit}")
    difference = "" if found.value.difference is None else f", difference {found.value.difference:+.4f}"
    return f"{claim.id} reports {claim.value}{unit}: {found.value.state}{difference}"


def _text(
    ok: bool, new: Sequence[str], broken: Sequence[Finding], mine: Sequence[Verification], rows: Sequence[list[str]]
) -> str:
    lines = [f"## {'Every check passed' if ok else 'This cannot be merged as it is'}", ""]
    lines.append(
        f"{len(new)} new record{'' if len(new) == 1 else 's'}, {len(rows)} cell{'' if len(rows) == 1 else 's'}."
    )
    errors = [f"{_plain(f.field)}: {_plain(f.message)}" for f in broken]
    errors += [f"`{verdict.run_id}` {_plain(f.field)}: {_plain(f.message)}" for verdict in mine for f in verdict.errors]
    if errors:
        lines += ["", "### What is wrong", "", *(f"- {error}" for error in errors[:_SHOWN])]
        lines += [f"- and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    if rows:
        heads = ["data set and split", "model and start", "protocol", "metric", "mean", "twin", "gain, 95 % interval"]
        heads += ["seeds", "marks", "claims"]
        lines += ["", "### Cells, with everything that this repository holds of them", ""]
        lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows]
    if mine:
        lines += ["", "### Records", "", "| run | trust | warnings |", "|---|---|---|"]
        for verdict in mine:
            warned = [_plain(f"{f.field}: {f.message}") for f in verdict.findings if f.level == "warning"]
            lines.append(f"| `{verdict.run_id}` | {TRUST[verdict.trust]} | {'; '.join(warned[:3]) or 'none'} |")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """Take away what Markdown, HTML or a forge's mentions and references could be made of."""
    return _NOT_PLAIN.sub("\N{MIDDLE DOT}", text)[:400]
