"""From a printed number to a verdict: the experiment that attempts it, its plan, its cells, the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cards.claim import Claim
from harness.cards.library import claims, read_yaml
from harness.errors import UserError, unknown_name
from harness.plan import Plan, plan
from harness.progress import say
from harness.records.comparison import Comparison, Run, baseline_of, compare
from harness.records.store import load
from harness.resources import shipped
from harness.sweep import Cell, Report, expand, sweep

__all__ = ["Reproduction", "experiments_of", "reproduce"]


@dataclass(frozen=True)
class Reproduction:
    """What an attempt came to.

    Attributes
    ----------
    claim : str
        Id of the printed number.
    experiments : tuple of str
        The experiments that attempt it; several where each fold has its own.
    plan : Plan
        Of all their cells.
    report : Report or None
        What the sweep did; None where nothing was to be run.
    comparison : Comparison or None
        The verdict; None without a run.
    """

    claim: str
    experiments: tuple[str, ...]
    plan: Plan
    report: Report | None
    comparison: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "claim": self.claim,
            "experiments": list(self.experiments),
            "plan": self.plan.to_json(),
            "report": self.report.to_json() if self.report else None,
            "comparison": self.comparison.to_json() if self.comparison else None,
        }


def experiments_of(claim: str, config_dir: Path | None = None) -> list[str]:
    """Return the experiments whose ``registered.claims`` name a claim, sorted; own ones in ``config_dir`` as well."""
    folders = [shipped("configs") / "experiment", *([config_dir / "experiment"] if config_dir else [])]
    found = set()
    for path in (path for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")):
        registered = (read_yaml(path) or {}).get("registered") or {}
        if claim in (registered.get("claims") or ()):
            found.add(path.stem)
    return sorted(found)


def reproduce(
    claim_id: str, overrides: tuple[str, ...] = (), config_dir: Path | None = None, *, dry: bool = False
) -> Reproduction:
    """Attempt a claim, or go on where an attempt was interrupted.

    Parameters
    ----------
    claim_id : str
        Such as r104; ``harness list claims``.
    overrides : tuple of str
        More Hydra overrides for every experiment: executor, out, data_root, seeds.
    config_dir : Path, optional
        A folder of the user's own config groups.
    dry : bool
        Plan, and compare what has run already; run nothing.

    Raises
    ------
    UserError
        There is no such claim, no experiment attempts it, or weights or data are missing: the sentence says which.
    """
    everything = list(claims().results)
    claim = next((one for one in everything if one.id == claim_id), None)
    if claim is None:
        raise unknown_name("claim", claim_id, [one.id for one in everything], "`harness list claims` shows them all.")
    names = experiments_of(claim_id, config_dir)
    if not names:
        raise UserError(
            f"No experiment attempts {claim_id} ({claim.model} on {claim.dataset}, {claim.value} {claim.unit}). "
            f"`harness compare {claim_id}` says what is known of its protocol; an experiment of your own with "
            "registered.claims goes into the folder given with --config-dir."
        )
    cells = _cells(names, overrides, config_dir)
    made = plan(cells)
    for line in made.missing:
        say(line)
    report = None
    if not dry:
        absent = [one.what for one in made.downloads if not one.is_here]
        if absent:
            raise UserError(f"{claim_id} cannot be attempted yet: {'; '.join(made.missing)}.")
        report = sweep(cells)
    runs = [Run(load(cell.folder.record), cell.folder.record) for cell in cells if cell.folder.is_complete]
    found = _compare(claim, everything, runs) if runs else None
    return Reproduction(claim_id, tuple(names), made, report, found)


def _cells(names: list[str], overrides: tuple[str, ...], config_dir: Path | None) -> list[Cell]:
    cells: dict[str, Cell] = {}
    for name in names:
        try:
            found = expand([f"experiment={name}", *overrides], config_dir)
        except UserError as error:
            raise UserError(f"The experiment {name} cannot be planned: {error}") from error
        cells |= {cell.name: cell for cell in found if cell.name not in cells}
    return list(cells.values())


def _compare(claim: Claim, everything: list[Claim], runs: list[Run]) -> Comparison:
    base = baseline_of(claim, everything)
    gain = None
    if base is not None and claim.fraction is not None and base.fraction is not None:
        gain = claim.fraction - base.fraction
    return compare(claim, runs, claimed_gain=gain)
