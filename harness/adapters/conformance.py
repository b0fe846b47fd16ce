"""The conformance kit: whether an adapter and its card keep their promises, found without weights or data."""

from __future__ import annotations

import importlib.util
import math
import platform
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from harness import __version__
from harness.adapters.conformance_checks import CHECKS, Violation, saved_bytes
from harness.adapters.conformance_forge import Subject, subject
from harness.adapters.interface import Adapter
from harness.adapters.registry import names, provide
from harness.cards.library import index, model_card
from harness.cards.model import ModelCard
from harness.errors import UserError, unknown_name

__all__ = ["Conformance", "Finding", "check", "check_card"]

_EXPECTED = 64
"""Side of the patch for which memory is foretold where the card publishes none."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        Its name, which a card's ``exceptions`` refer to.
    state : {"passed", "declared", "failed"}
        ``declared``: violated, and the card says so with its reason.
    found : str
        What was measured or what is wrong.
    reason : str, optional
        The card's reason for a declared exception.
    """

    check: str
    state: Literal["passed", "declared", "failed"]
    found: str
    reason: str | None = None


@dataclass(frozen=True)
class Conformance:
    """What the kit found out about one card."""

    card: ModelCard
    facts: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The violations that the card does not declare."""
        return tuple(finding for finding in self.findings if finding.state == "failed")

    def text(self) -> str:
        """Return the report as Markdown, to paste into a pull request."""
        rows = [f"| {one.check} | {one.state} | {_cell(one)} |" for one in self.findings]
        verdict = (
            f"**{len(self.failures)} undeclared failure(s): {', '.join(one.check for one in self.failures)}**"
            if self.failures
            else "**conforms**"
        )
        lines = [f"## Conformance of {self.card.id}", "", *(f"- {fact}" for fact in self.facts), ""]
        return "\n".join([*lines, "| check | result | found |", "|---|---|---|", *rows, "", verdict, ""])


def check(name: str, checkpoint: Path | None = None, cards: Iterable[Path] = ()) -> list[Conformance]:
    """Check a model card, or every supported card of an adapter.

    Parameters
    ----------
    name : str
        Id or alias of a model card, or the name of an adapter.
    checkpoint : Path, optional
        A published file to load as well; needs the name of one card.
    cards : iterable of Path
        Folders of own cards. An adapter that is not installed is taken from ``<adapter>.py`` beside its card.

    Raises
    ------
    UserError
        Nothing has that name, or a card cannot be checked at all.
    """
    folders = tuple(cards)
    entries = index("model", folders)
    known = {*entries, *(alias for entry in entries.values() for alias in entry.content.get("aliases", ()))}
    of_adapter = [entry.id for entry in entries.values() if str(entry.content["adapter"]) == name]
    chosen = [name] if name in known else of_adapter
    if not chosen:
        adapters = {str(entry.content["adapter"]) for entry in entries.values()}
        raise unknown_name("model or adapter", name, known | adapters, "Name folders of own cards with --cards.")
    if checkpoint is not None and len(chosen) > 1:
        raise UserError(f"{name} has {len(chosen)} cards: {', '.join(chosen)}. Say which one the file belongs to.")
    found = [model_card(one, folders) for one in chosen]
    networks = [(card, folder) for card, folder in found if (card.supported and not card.rule) or len(found) == 1]
    return [check_card(card, checkpoint, folder) for card, folder in networks]


def check_card(card: ModelCard, checkpoint: Path | None = None, folder: Path | None = None) -> Conformance:
    """Run every check on one card; see `check`.

    Parameters
    ----------
    card : ModelCard
        Supported; without a published layout, a plain torch file is forged.
    checkpoint : Path, optional
        A published file to load as well.
    folder : Path, optional
        Where the card lies, for an adapter beside it.
    """
    origin = _provide_beside(card, folder)
    with tempfile.TemporaryDirectory(prefix="harness-conformance-") as scratch:
        given = subject(card, Path(scratch))
        findings = [_run(name, given) for name in CHECKS]
        if checkpoint is not None:
            findings.append(_load(given, checkpoint))
        facts = (*_facts(given), origin)
    return Conformance(card, facts, (*findings, *_unknown_exceptions(card)))


def _run(name: str, given: Subject) -> Finding:
    reasons = [declared.reason for declared in given.card.exceptions if declared.check == name]
    try:
        found = CHECKS[name](given)
    except Violation as violation:
        return Finding(name, "declared" if reasons else "failed", str(violation), reasons[0] if reasons else None)
    except Exception as error:  # an adapter may raise anything; that is a finding, and never declared
        return Finding(name, "failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}")
    return Finding(name, "passed", found + ("; the card declares an exception that is not needed" if reasons else ""))


def _load(given: Subject, checkpoint: Path) -> Finding:
    try:
        reports = [build(checkpoint).report for build in (given.published, given.task)]
    except UserError as error:
        return Finding("checkpoint", "failed", str(error))
    counts = [report.counts for report in reports if report is not None]
    said = [", ".join(f"{state} {number}" for state, number in count.items() if number) for count in counts]
    return Finding("checkpoint", "passed", f"{checkpoint.name}, as published: {said[0]}; for a task: {said[1]}")


def _unknown_exceptions(card: ModelCard) -> list[Finding]:
    wrong = [declared.check for declared in card.exceptions if declared.check not in CHECKS]
    known = ", ".join(CHECKS)
    return [
        Finding(name, "failed", f"the card declares an exception to no known check; known: {known}") for name in wrong
    ]


def _facts(given: Subject) -> tuple[str, ...]:
    weights, kept = saved_bytes(given)
    target = given.card.contract.patch or (_EXPECTED,) * 3
    there = kept * math.prod(target) / math.prod(given.patch)
    return (
        f"adapter {given.family.name} version {given.family.version}; harness {__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}",
        f"smallest size {_size(given.patch)}, as published {_size(given.published_patch)}; {given.channels} channel(s)",
        f"memory, roughly: parameters {weights / 1e6:.2f} MB, with gradients and momentum {3 * weights / 1e6:.2f} MB; "
        f"a training step keeps {kept / 1e6:.1f} MB a volume of {_size(given.patch)}, "
        f"about {there / 1e6:.0f} MB one of {_size(target)}",
    )


def _provide_beside(card: ModelCard, folder: Path | None) -> str:
    """Import the adapter that lies beside its card, unless one of that name is installed."""
    path = None if folder is None else folder / f"{card.adapter}.py"
    if path is None or card.adapter in names() or not path.is_file():
        return f"adapter {card.adapter} is installed"
    spec = importlib.util.spec_from_file_location(f"harness_adapter_beside_{card.adapter}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            f"{path} cannot be imported: {type(error).__name__}: {error}. Mend it, then check again."
        ) from error
    family = getattr(module, "ADAPTER", None)
    if not isinstance(family, Adapter) or family.name != card.adapter:
        raise UserError(f"{path} has no ADAPTER, an instance of Adapter with the name {card.adapter!r}.")
    provide(family)
    return f"adapter {card.adapter} taken from {path.name} beside the card; it is not installed"


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _cell(finding: Finding) -> str:
    text = finding.found + (f". Declared: {' '.join(finding.reason.split())}" if finding.reason else "")
    return " ".join(text.split()).replace("|", "\\|")
