"""The sums over probabilities beside a record: what soft metrics are computed from, and pooled ones pooled by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError
from harness.files import canonical_json
from harness.scoring.soft import SoftStatistics

__all__ = ["FILE", "Sums", "kept_sums", "parse_sums", "sums_text"]

FILE = "sums.json"
Sums = Mapping[str, Mapping[str, SoftStatistics]]
"""Case id to class name to the sums of that class in that case."""


def kept_sums(folder: Path, case: str) -> dict[str, SoftStatistics]:
    """Read the sums that a run kept of one case, ``<case>.json`` in its folder of sums.

    Raises
    ------
    UserError
        There are none, or they come from another release.
    """
    path = folder / f"{case}.json"
    if not path.is_file():
        raise UserError(
            f"No sums of probabilities are kept for case {case!r}, and label maps cannot give soft metrics. Run again "
            "with protocol.scoring.sums=true."
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: SoftStatistics.from_json(stored) for name, stored in content.items()}


def sums_text(sums: Sums) -> str:
    """Return the content of ``sums.json``."""
    return canonical_json(
        {case: {name: one.to_json() for name, one in regions.items()} for case, regions in sums.items()}
    )


def parse_sums(text: str) -> dict[str, dict[str, SoftStatistics]]:
    """Read ``sums.json``.

    Raises
    ------
    UserError
        It is not what `sums_text` writes.
    """
    try:
        content = json.loads(text)
        found = {
            str(case): {str(name): SoftStatistics.from_json(stored) for name, stored in regions.items()}
            for case, regions in content.items()
        }
        again = sums_text(found)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{FILE} must hold the sums of every class of every case: {error}.") from error
    if again != text:
        raise UserError(f"{FILE} is not in the one spelling that records are written in.")
    return found
