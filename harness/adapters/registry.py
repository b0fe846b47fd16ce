"""Finding a family by the name its cards give: a file of this folder, or a plug-in's entry point."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
import sys
from pathlib import Path

from harness.adapters.interface import Adapter
from harness.errors import UserError, unknown_name

__all__ = ["ENTRY_POINT_GROUP", "adapter", "names", "provide"]

ENTRY_POINT_GROUP = "harness.adapters"
_MACHINERY = {
    "interface",
    "registry",
    "build",
    "weights",
    "forward",
    "parts",
    "conformance",
    "conformance_checks",
    "conformance_forge",
    "scaffold",
}
_PROVIDED: dict[str, Adapter] = {}


@functools.lru_cache(maxsize=1)
def _plugins(path: tuple[str, ...]) -> dict[str, importlib.metadata.EntryPoint]:
    """Find the plug-ins among everything installed, once per ``sys.path``: reading it all takes longer than a file."""
    del path
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {point.name: point for point in reversed(tuple(points))}  # the first of a name wins


def provide(family: Adapter) -> None:
    """Make an adapter known to this process alone: one that is being written and not yet installed."""
    _PROVIDED[family.name] = family


def names() -> list[str]:
    """Return every adapter name: files of this folder and plug-ins, without importing any of them."""
    own = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])} - _MACHINERY
    return sorted(own | set(_plugins(tuple(sys.path))))


def adapter(name: str) -> Adapter:
    """Return the adapter called ``name``.

    Raises
    ------
    UserError
        Nobody provides it, or what provides it is not an `Adapter`.
    """
    if name in _PROVIDED:
        return _PROVIDED[name]
    plugin = _plugins(tuple(sys.path)).get(name)
    if plugin is not None:
        found = plugin.load()
    elif name in names():
        found = getattr(importlib.import_module(f"harness.adapters.{name}"), "ADAPTER", None)
    else:
        raise unknown_name(
            "adapter", name, names(), "A card's `adapter` names a file in harness/adapters or a plug-in."
        )
    if not isinstance(found, Adapter):
        raise UserError(
            f"Adapter {name!r} does not provide an instance of harness.adapters.interface.Adapter as ADAPTER."
        )
    return found
