"""The claim: a number somebody published, with its own provenance. Never mixed with records.

What is printed lies in ``reported.json`` and stays as printed. What we know *about* a printed number (how it was made,
what is wrong with it, which recipe and weights here could make it again) lies beside it in ``ledger.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.cards.base import Fact
from harness.errors import UserError

__all__ = ["About", "BriefFact", "Claim", "ClaimFile", "Entry", "Folds", "Ledger", "annotate"]

Confidence = Literal["brief", "paper", "repo", "secondary"]


class Folds(Fact):
    """How a printed number was made of the folds of a cross-validation."""

    count: int = Field(gt=1)
    combined: Literal["mean_of_folds", "pooled_cases"] = Field(
        description="the mean of the folds' own values, or one value over the cases of all folds"
    )

    @property
    def words(self) -> str:
        """How the number was made, in words.

        >>> Folds(count=5, combined="mean_of_folds").words
        'the mean of the values of 5 folds'
        """
        what = "the mean of the values" if self.combined == "mean_of_folds" else "one value over the cases"
        return f"{what} of {self.count} folds"


class About(Fact):
    """What is known here about one printed number. Nothing of this was printed with it."""

    card: str | None = Field(default=None, description="the data set's card; null: called as the claim calls it")
    models: tuple[str, ...] = Field(
        default=(),
        description="weight sets whose runs may speak to it; empty: all of the family; ``none``: no network here is it",
    )
    released: tuple[str, ...] = Field(
        default=(),
        description="weight sets whose released fine-tuned file *is* this number, so that evaluating it counts",
    )
    protocol: str | None = Field(default=None, description="the file in configs/protocol that follows its recipe")
    no_protocol: str | None = Field(default=None, description="why there is none")
    experiments: tuple[str, ...] = Field(default=(), description="files in configs/experiment that attempt it")
    stated: dict[str, Any] = Field(
        default_factory=dict,
        description="protocol fields that its source makes known, in the words of records; `recipe` means: as in the "
        "protocol file, if that was followed to the letter",
    )
    folds: Folds | None = Field(
        default=None, description="where the number is over all folds; a run of one fold then says nothing about it"
    )
    not_public: str | None = Field(
        default=None, description="what is kept back, so that nobody can repeat it as printed"
    )
    not_attempted: str | None = Field(default=None, description="what stands between this number and a run here")
    traps: tuple[str, ...] = Field(default=(), description="what a reader would get wrong")
    beside: tuple[str, ...] = Field(default=(), description="claims that it must be read together with")


class Claim(Fact):
    """One published number. ``unit`` stays as the source printed it; `fraction` converts."""

    id: str = Field(pattern=r"^r\d{3,}$")
    model: str
    variant: str
    init: Literal["pretrained", "scratch", "other"]
    dataset: str
    task: str | None
    split: str | None
    metric: str
    unit: str
    value: float
    std: float | None = Field(default=None, description="in the unit of the value; its kind is in the note or unknown")
    ci: tuple[float, float] | None = None
    per_class: dict[str, float] | None = None
    per_fold: dict[str, float] | None = None
    source: str
    confidence: Confidence
    note: str | None = None
    about: About = Field(default=About(), description="from the ledger, never from the source")

    @property
    def fraction(self) -> float | None:
        """The value in 0–1 where its unit is a share, else None (counts and volumes have no such form)."""
        if self.unit == "percent":
            return self.value / 100
        return self.value if self.unit == "fraction" else None

    @property
    def card(self) -> str:
        """Id of the data set's card, whatever the source calls the data."""
        return self.about.card or self.dataset


class BriefFact(Fact):
    """A fact of the model page that the project starts from, such as an openness score."""

    model: str
    key: str
    value: float | str | tuple[int, ...] | None
    unit: str | None = None
    confidence: Confidence
    note: str | None = None


class ClaimFile(Fact):
    """The claims as one file. Rows nobody re-read in their source are kept apart and never displayed."""

    schema_version: Literal["1.0"]
    name: str
    how_to_read: dict[str, str | dict[str, str]]
    checks: tuple[str, ...]
    results: tuple[Claim, ...]
    brief_facts: tuple[BriefFact, ...]
    unverified: tuple[dict[str, object], ...] = Field(description="never displayed until someone reads the paper")


class Entry(Fact):
    """What the ledger says about some claims; where several entries name a claim, the later one adds to the earlier."""

    claims: str = Field(pattern=r"^r\d+(-r\d+)?(, ?r\d+(-r\d+)?)*$", description="such as ``r001-r006, r099``")
    about: About

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, written out.

        >>> Entry(claims="r001-r003, r010", about=About()).ids
        ('r001', 'r002', 'r003', 'r010')
        """
        found = []
        for part in re.split(r", ?", self.claims):
            first, _, last = part.partition("-")
            found += [f"r{number:03d}" for number in range(int(first[1:]), int((last or first)[1:]) + 1)]
        return tuple(found)


class Ledger(Fact):
    """``ledger.yaml``: the traps by name, and what is known about which claims."""

    schema_version: Literal["1.0"]
    traps: dict[str, str]
    entries: tuple[Entry, ...]

    @model_validator(mode="after")
    def _traps_are_explained(self) -> Ledger:
        unknown = sorted({name for entry in self.entries for name in entry.about.traps} - set(self.traps))
        if unknown:
            raise ValueError(f"the traps {unknown} are named by an entry and explained nowhere")
        return self


def annotate(claims: Iterable[Claim], ledger: Ledger) -> tuple[Claim, ...]:
    """Put beside every claim what the ledger says about it, traps written out.

    Raises
    ------
    UserError
        The ledger speaks of a claim that does not exist, or says nothing of one that does.
    """
    held = list(claims)
    known: dict[str, dict[str, Any]] = {claim.id: {} for claim in held}
    for entry in ledger.entries:
        said = entry.about.model_dump(exclude_unset=True)
        for name in entry.ids:
            if name not in known:
                raise UserError(f"The ledger speaks of {name}, which no claim is called. Mend its range.")
            known[name] = _added(known[name], said)
    silent = [name for name, said in known.items() if not said]
    if silent:
        raise UserError(f"The ledger says nothing about {', '.join(silent)}. Every claim needs an entry.")
    done = []
    for claim in held:
        said = known[claim.id]
        texts = tuple(ledger.traps[name] for name in said.get("traps", ()))
        beside = tuple(name for name in said.get("beside", ()) if name != claim.id)
        about = About.model_validate({**said, "traps": texts, "beside": beside})
        done.append(claim.model_copy(update={"about": about}))
    return tuple(done)


def _added(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Let lists and mappings grow, replace everything else; a protocol and a reason for none exclude each other."""
    merged = dict(before)
    for key, value in more.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = {**old, **value}
        elif isinstance(value, tuple) and isinstance(old, tuple) and key in ("traps", "beside"):
            merged[key] = (*old, *(one for one in value if one not in old))
        else:
            merged[key] = value
    for key, other in (("protocol", "no_protocol"), ("no_protocol", "protocol")):
        if key in more:
            merged.pop(other, None)
    return merged
