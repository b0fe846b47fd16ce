"""The resolved configuration beside a record: YAML of plain values, and the hash of what it says."""

from __future__ import annotations

import functools
import re
from typing import Any, Final

import yaml

from harness.errors import UserError
from harness.files import canonical_json, sha256_hex

__all__ = ["config_sha256", "parse_config", "read_config"]

_LARGEST: Final = 100_000  # values
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REMEMBERED: Final = 256  # sections
_LARGEST_SECTION: Final = 16_384  # characters of a section that is remembered
_SECTION = re.compile(r"(?:^|(?<=\n))(?=[A-Za-z_])")
# What can reach from one section into another: anchors and aliases, tags, merge keys, marks of documents, directives.
_REACHING = re.compile(r"[&*!?\r\x85\u2028\u2029\ufeff]|<<|^(?:---|\.\.\.|%)", re.MULTILINE)


def config_sha256(config_yaml: str) -> str:
    """Hash what a configuration says, whatever its layout as YAML."""
    return sha256_hex(canonical_json(parse_config(config_yaml)))


def parse_config(config_yaml: str) -> Any:
    """Parse a configuration; UserError where it is not YAML of plain values."""
    try:
        content = yaml.load(config_yaml, Loader=_LOADER)  # noqa: S506 - a safe loader
        _count(content, _LARGEST)
        canonical_json(content)
    except yaml.YAMLError as error:
        raise UserError(f"config.yaml is not valid YAML: {error}.") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"config.yaml must hold plain finite values only: {error}.") from error
    return content


def read_config(config_yaml: str) -> tuple[Any, str]:
    """Parse and hash a configuration like many others.

    Records of one study differ in a seed and share the rest of what they say, so that sections (a key at the left
    margin and what is indented below it) are remembered by their text.

    Returns
    -------
    object
        As from `parse_config`. Values below the top may be shared with other configurations: not to be changed.
    str
        As from `config_sha256`.

    Raises
    ------
    UserError
        As from `parse_config`.
    """
    return _by_sections(config_yaml) or (parse_config(config_yaml), config_sha256(config_yaml))


def _by_sections(text: str) -> tuple[dict[str, Any], str] | None:
    """Put a configuration together from its sections; None where they may depend on each other or one has a fault."""
    if not _SECTION.match(text) or _REACHING.search(text):
        return None
    content: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    count = 1
    for section in _SECTION.split(text)[1:]:
        found = _section(section) if len(section) <= _LARGEST_SECTION else None
        if found is None:
            return None
        key, value, spelling, values = found
        content[key], spelled[key] = value, spelling
        count += values
    if count > _LARGEST:
        return None
    return content, sha256_hex("{" + ",".join(spelled[key] for key in sorted(spelled)) + "}\n")


@functools.lru_cache(maxsize=_REMEMBERED)
def _section(text: str) -> tuple[str, Any, str, int] | None:
    """Return key, value, canonical spelling of both, and number of values; None where it is not one plain entry."""
    try:
        content = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader
        if not isinstance(content, dict) or len(content) != 1:
            return None
        ((key, value),) = content.items()
        if not isinstance(key, str):
            return None
        return key, value, canonical_json(content)[1:-2], _LARGEST - _count(value, _LARGEST)
    except (yaml.YAMLError, TypeError, ValueError, RecursionError):
        return None


def _count(value: Any, left: int) -> int:
    """Return how many more values are allowed: a few aliases of YAML can stand for billions of values."""
    if left <= 0:
        raise ValueError(f"it has more than {_LARGEST} values")
    left -= 1
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        left = _count(item, left)
    return left
