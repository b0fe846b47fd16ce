"""Lifting old records to the current schema, one pure function per step. The stored bytes and ids never change.

A step takes the JSON data of one version and returns that of the next. What the old version did not know becomes null
with a reason, never a default. Every version keeps a frozen example in ``tests/records/data``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.errors import UserError
from harness.records.schema import RULES_VERSION, SCHEMA_VERSION

__all__ = ["STEPS", "known_versions", "migrate"]

Json = dict[str, Any]
Step = tuple[str, Callable[[Json], Json]]

STEPS: Mapping[str, Step] = {}  # from version -> (to version, function); 1.0.0 is the first


def known_versions(steps: Mapping[str, Step] = STEPS) -> tuple[str, ...]:
    """Return every schema version that can be read, oldest first."""
    return (*steps, SCHEMA_VERSION)


def migrate(data: Json, steps: Mapping[str, Step] = STEPS) -> Json:
    """Return the data in the current schema version; the very same object where it is current already.

    Raises
    ------
    UserError
        The version, or that of the rules, is missing or unknown. Nothing is guessed.
    """
    version = data.get("schema_version")
    while version != SCHEMA_VERSION:
        if not isinstance(version, str) or version not in steps:
            raise UserError(
                f"The record's schema_version is {version!r}, which this release does not know (it knows "
                f"{', '.join(known_versions(steps))}). Use the release that wrote the record, or a newer one."
            )
        version, step = steps[version]
        data = step(dict(data))
        data["schema_version"] = version
    if data.get("rules_version") != RULES_VERSION:
        raise UserError(
            f"The record's rules_version is {data.get('rules_version')!r}, but this release checks by the rules "
            f"{RULES_VERSION!r}. An unknown version is refused, because its checks would be skipped unseen."
        )
    return data
