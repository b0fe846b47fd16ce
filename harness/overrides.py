"""How a configuration differs from the protocol that it names, in words that run it again.

A resolved configuration says everything but how it came about: by an experiment, a command line or a script. What leads
there again is the difference from the shipped protocol of its name, and nothing else.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.config import Protocol, compose
from harness.errors import UserError

__all__ = ["beyond_protocol"]

_NAME = re.compile(r"[a-z0-9_]+")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Words that Hydra or YAML would not keep as text.
_CONSTANTS = frozenset({"null", "true", "false", "nan", "inf", "none"})


def beyond_protocol(protocol: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return Hydra overrides that lead from the shipped protocol of the same name to this one.

    Parameters
    ----------
    protocol : mapping
        The part of a resolved configuration, such as ``protocol`` in a record's ``config.yaml``.

    Returns
    -------
    tuple of str or None
        Such as ``protocol.training.steps=1000``, in the order of the configuration; None where no shipped protocol has
        the name, it is no whole protocol, or a text in it cannot be spelled.
    """
    plain = _shipped(str(protocol.get("name")))
    if plain is None:
        return None
    try:
        own = _dumped(protocol)  # an option that was not there yet when the record was made has its default
        return tuple(f"{key}={_spell(value)}" for key, value in _differences(plain, own, "protocol"))
    except ValueError:
        return None


@functools.lru_cache(maxsize=64)
def _shipped(name: str) -> dict[str, Any] | None:
    if not _NAME.fullmatch(name):
        return None
    try:
        return _dumped(compose("run", ["model=any", "dataset=any", f"protocol={name}"])["protocol"])
    except UserError:
        return None


def _dumped(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return Protocol.model_validate(protocol).model_dump(mode="json")


def _differences(plain: Mapping[str, Any], own: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in own.items():
        before = plain.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and before.keys() <= value.keys():
            yield from _differences(before, value, f"{path}.{key}")
        elif key not in plain or before != value:
            yield f"{path}.{key}", value


def _spell(value: Any) -> str:
    """Spell a value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_spell, value)) + "]"
    if isinstance(value, str) and (not _PLAIN.fullmatch(value) or value.lower() in _CONSTANTS):
        if "\\" in value:
            raise ValueError(value)  # Hydra reads a backslash in more than one way
        return "'" + value.replace("'", "\\'") + "'"
    return value if isinstance(value, str) else json.dumps(value)
