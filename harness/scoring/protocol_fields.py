"""Were a claim and a run made the same way? Fourteen fields, each same, different or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import unknown_name

__all__ = ["BLOCKING_FIELDS", "PROTOCOL_FIELDS", "ProtocolDifference", "protocol_difference"]

Agreement = Literal["same", "different", "unknown"]

BLOCKING_FIELDS = (
    "cases_scored",
    "data_version",
    "label_set",
    "metric_formula",
    "threshold",
    "empty_rule",
    "grid",
    "averaging",
)
"""A difference in one of these makes two numbers incomparable."""

PROTOCOL_FIELDS = (
    *BLOCKING_FIELDS,
    "selection",
    "ensemble_tta_postprocessing",
    "extra_training_data",
    "weights",
    "preprocessing",
    "schedule",
)
"""The fourteen fields of a protocol."""


@dataclass(frozen=True, kw_only=True)
class ProtocolDifference:
    """The fourteen fields, each same, different or unknown, and what follows.

    Attributes
    ----------
    fields : dict of str to {"same", "different", "unknown"}
        In the order of `PROTOCOL_FIELDS`.
    blocking : tuple of str
        The fields whose difference makes the numbers incomparable; empty if they may be compared.
    """

    fields: dict[str, Agreement]
    blocking: tuple[str, ...]

    @property
    def n_unknown(self) -> int:
        """How many fields are unknown."""
        return list(self.fields.values()).count("unknown")

    @property
    def comparable(self) -> bool:
        """Whether the two numbers may be compared."""
        return not self.blocking


def protocol_difference(claim: Mapping[str, Any], run: Mapping[str, Any], *, pretrained: bool) -> ProtocolDifference:
    """Compare the protocol of a claim with that of a run, field by field.

    Parameters
    ----------
    claim, run : mapping of str to value
        Field -> any value that can be compared with ``==``; a missing field or None is unknown.
    pretrained : bool
        Whether the row is a pretrained one: then other weights make the numbers incomparable.

    Raises
    ------
    UserError
        A field is none of `PROTOCOL_FIELDS`.
    """
    for name in [*claim, *run]:
        if name not in PROTOCOL_FIELDS:
            raise unknown_name("protocol field", name, PROTOCOL_FIELDS)
    fields = {name: _agreement(claim.get(name), run.get(name)) for name in PROTOCOL_FIELDS}
    deciding = (*BLOCKING_FIELDS, "weights") if pretrained else BLOCKING_FIELDS
    return ProtocolDifference(fields=fields, blocking=tuple(name for name in deciding if fields[name] == "different"))


def _agreement(claimed: Any, ours: Any) -> Agreement:
    if claimed is None or ours is None:
        return "unknown"
    return "same" if claimed == ours else "different"
