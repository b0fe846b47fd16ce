"""Objections and withdrawals as data: events that are only ever appended, and what follows from them for a record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from harness.cards.base import explain
from harness.errors import HarnessError, UserError
from harness.files import canonical_json
from harness.records.fields import Name, Part, Text
from harness.records.index import hold

__all__ = ["OBJECTIONS", "Objection", "object_to", "objections", "standing"]

OBJECTIONS = "objections.jsonl"
Standing = Literal["flagged", "demoted", "withdrawn"]


class Objection(Part):
    """One event. The first of an ``id`` opens it; a later one confirms or rejects it.

    A submitter withdraws a record with one event: state ``confirmed``, outcome ``withdrawn``.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,60}$")]
    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    field: Name = Field(description="dotted path in the record, a file beside it, or `record` for the whole")
    state: Literal["open", "confirmed", "rejected"]
    outcome: Standing | None = None
    by: Name
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$")]
    text: Text

    @model_validator(mode="after")
    def _outcome_follows_state(self) -> Objection:
        if (self.state == "confirmed") != (self.outcome is not None):
            raise ValueError("a confirmed objection has an outcome, and only that one")
        return self


def objections(root: Path) -> list[Objection]:
    """Return every event of a results repository, in the order in which they were written.

    Raises
    ------
    UserError
        A line breaks the schema, an objection changes its record, or it goes on after it was decided.
    """
    path = root / OBJECTIONS
    found: list[Objection] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else (), start=1):
        try:
            event = Objection.model_validate_json(line, strict=True)
        except ValidationError as error:
            raise UserError(f"{OBJECTIONS}, line {number}: {explain(error, Objection)}") from error
        _refuse_misfit(event, found)
        found.append(event)
    return found


def object_to(root: Path, event: Objection) -> None:
    """Append an event.

    Raises
    ------
    UserError
        It does not follow from what is there.
    HarnessError
        The file cannot be written.
    """
    line = canonical_json(json.loads(event.model_dump_json()))
    try:
        with hold(root), (root / OBJECTIONS).open("ab") as stream:
            _refuse_misfit(event, objections(root))
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise HarnessError(f"Could not write {root / OBJECTIONS}: {error.strerror}. Nothing was noted.") from error


def standing(events: list[Objection]) -> dict[str, Standing]:
    """Return run id to what confirmed objections made of the record, the gravest of several."""
    weight: dict[Standing, int] = {"flagged": 0, "demoted": 1, "withdrawn": 2}
    found: dict[str, Standing] = {}
    for event in events:
        if event.outcome is not None and weight[event.outcome] >= weight.get(found.get(event.run_id, "flagged"), 0):
            found[event.run_id] = event.outcome
    return found


def _refuse_misfit(event: Objection, before: list[Objection]) -> None:
    earlier = [one for one in before if one.id == event.id]
    if earlier and earlier[-1].state != "open":
        raise UserError(f"The objection {event.id!r} was {earlier[-1].state} already. Open a new one.")
    if earlier and (earlier[0].run_id, earlier[0].field) != (event.run_id, event.field):
        raise UserError(f"The objection {event.id!r} is about another record or field. Open a new one.")
    if not earlier and event.state == "rejected":
        raise UserError(f"There is no objection {event.id!r} that could be rejected.")
