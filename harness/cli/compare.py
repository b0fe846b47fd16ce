"""``harness compare``: a printed number beside the runs that speak to it, explained in words."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.cards.claim import Claim
    from harness.records.comparison import Run
    from harness.records.explanation import Explanation

__all__ = ["configure", "execute"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("claim", nargs="?", help="such as r010 (`harness list claims`); none: how all of them stand")
    parser.add_argument("--runs", type=Path, action="append", default=[], metavar="DIR", help="where runs lie (runs)")
    parser.add_argument("--margin", type=float, metavar="M", help="as a fraction, instead of the experiment's own")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def execute(arguments: argparse.Namespace) -> int:
    """Print the explanation of one claim, or one line per claim."""
    from harness.cards.library import claims
    from harness.errors import unknown_name

    rows = {claim.id: claim for claim in claims().results}
    runs, withdrawn = _runs(arguments.runs)
    if arguments.claim is None:
        return _all(list(rows.values()), runs, withdrawn, arguments)
    if arguments.claim not in rows:
        raise unknown_name("claim", arguments.claim, rows, "`harness list claims` shows them all.")
    found = explained(rows[arguments.claim], list(rows.values()), runs, arguments.margin, withdrawn)
    if arguments.json:
        sys.stdout.write(json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(in_words(found))
    return 0


def explained(
    claim: Claim, claims: list[Claim], runs: list[Run], margin: float | None = None, withdrawn: Collection[str] = ()
) -> Explanation:
    """Compare and explain one claim.

    Parameters
    ----------
    claim : Claim
        The printed number.
    claims : list of Claim
        All of them, among which the claim's own baseline is looked for.
    runs : list of Run
        Records that verify.
    margin : float, optional
        Overrules the experiment's.
    withdrawn : collection of str
        Ids of the runs among them that no longer count.
    """
    from harness.cards.library import dataset_card, index, model_card
    from harness.cards.overlap import contamination_of
    from harness.records.comparison import baseline_of, compare
    from harness.records.explanation import explain

    base = baseline_of(claim, claims)
    gain = None
    if base is not None and claim.fraction is not None and base.fraction is not None:
        gain = claim.fraction - base.fraction
    comparison = compare(claim, runs, claimed_gain=gain, withdrawn=withdrawn, margin=margin)
    said = []
    if claim.card in index("dataset") and claim.init != "scratch":
        data, _ = dataset_card(claim.card)
        for name in claim.about.models:
            overlap = contamination_of(model_card(name)[0], data) if name != "none" else None
            if name != "none":
                said.append(f"{name}: {overlap.status}, {overlap.evidence}" if overlap else f"{name}: nothing is known")
    return explain(claim, comparison, runs, said)


def _runs(folders: list[Path]) -> tuple[list[Run], set[str]]:
    """Read every record below the folders that is what it says; refused ones are named and left out.

    Returns
    -------
    list of Run
        What was read.
    set of str
        Ids of those that were withdrawn by an objection in their folder: they stay visible and count nowhere.
    """
    from harness.errors import UserError
    from harness.leaderboard.gather import find
    from harness.records.comparison import Run
    from harness.records.objections import objections, standing
    from harness.records.store import load
    from harness.records.verify import verify

    given = folders or [folder for folder in [Path("runs")] if folder.is_dir()]
    held = []
    for one in find(given)[0]:
        try:
            verdict = verify(one.folder)
            if not verdict.ok:
                raise UserError(verdict.errors[0].message)
            held.append(Run(load(one.folder), one.folder))
        except UserError as error:
            sys.stderr.write(f"left out: {one.place}: {error}\n")
    became = {run_id: state for top in given for run_id, state in standing(objections(top)).items()}
    withdrawn = {run.record.run_id for run in held if became.get(run.record.run_id) == "withdrawn"}
    for run_id in sorted(withdrawn):
        sys.stderr.write(f"left out: {run_id}: withdrawn\n")
    return held, withdrawn


def _all(claims: list[Claim], runs: list[Run], withdrawn: Collection[str], arguments: argparse.Namespace) -> int:
    from harness.records.comparison import compare

    found = [(claim, compare(claim, runs, withdrawn=withdrawn, margin=arguments.margin)) for claim in claims]
    if arguments.json:
        sys.stdout.write(json.dumps([one.to_json() for _, one in found], indent=1, ensure_ascii=False) + "\n")
        return 0
    for claim, one in found:
        short = textwrap.shorten(one.value.explanation, 90, placeholder=" …")
        sys.stdout.write(f"{claim.id}  {one.value.state:<29}  {one.gain.state:<14}  {short}\n")
    counts = Counter(one.value.state for _, one in found)
    sys.stdout.write("; ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts.most_common()) + "\n")
    return 0


def in_words(found: Explanation) -> str:
    """Write an explanation for people."""
    claim, about, comparison = found.claim, found.claim.about, found.comparison
    value = comparison.value
    lines = [
        f"{claim.id}: {claim.model}, {claim.variant} ({claim.init}) on {claim.card}",
        f"printed: {claim.value!r} {claim.unit}, {claim.metric}; {claim.split or 'split not stated'}",
        f"source: {claim.source} ({claim.confidence})",
        *([f"made of: {about.folds.words}"] if about.folds else []),
        "",
        f"VALUE  {value.state.replace('_', ' ')}",
        *_wrapped(value.explanation),
        f"GAIN   {comparison.gain.state.replace('_', ' ')}",
        *_wrapped(comparison.gain.explanation),
        f"MARGIN {value.margin:g}, " + ("fixed before the runs" if comparison.margin_fixed else "suggested, not fixed"),
        *_wrapped(found.next_seed),
        "",
        _counted(found),
    ]
    mark = {"same": "=", "different": "≠", "unknown": "?"}
    for line in found.fields:
        forbids = "  (forbids a comparison)" if line.forbids else ""
        both = f"claim: {line.claimed}; run: {line.ours}"
        lines.append(f"  {mark[line.state]} {line.name.replace('_', ' '):<29} {both}{forbids}")
    recipe = f"protocol {about.protocol}" if about.protocol else f"none: {about.no_protocol}"
    lines += ["", f"recipe here: {recipe}", f"experiments: {', '.join(about.experiments) or 'none'}"]
    lines += [f"contamination: {said}" for said in found.contamination] or ["contamination: no weights to speak of"]
    if comparison.run_ids:
        lines.append(f"runs: {', '.join(comparison.run_ids)}")
    if about.beside:
        lines.append(f"read together with: {', '.join(about.beside)}")
    for trap in about.traps:
        lines += ["", *_wrapped(trap, "! ")]
    if about.experiments and not comparison.run_ids:
        lines += ["", f"try it: harness sweep experiment={about.experiments[0]}"]
    return "\n".join(lines) + "\n"


def _counted(found: Explanation) -> str:
    if found.comparison.run_ids:
        unknown = sum(line.state == "unknown" for line in found.fields)
        return f"{unknown} of {len(found.fields)} protocol fields are unknown:"
    silent = sum(line.claimed == "not stated" for line in found.fields)
    return f"{silent} of {len(found.fields)} protocol fields are not stated by the source:"


def _wrapped(text: str, first: str = "  ") -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=first, subsequent_indent="  ")
