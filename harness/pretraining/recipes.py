"""The recipes by name: settings that a configuration may give, and the task they make.

Importing this module is cheap; a recipe's own module, and torch, load when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.cards.base import Fact, parse
from harness.errors import UserError, unknown_name

if TYPE_CHECKING:
    from harness.pretraining.task import PretextTask
    from harness.pretraining.volumes import Volumes

__all__ = ["RECIPES", "make_task", "settings", "task_class"]

RECIPES: Mapping[str, tuple[str, str, str]] = {
    "models_genesis": ("harness.pretraining.genesis", "Genesis", "GenesisTask"),
    "brainsegfounder": ("harness.pretraining.brainsegfounder", "BrainSegFounder", "BrainSegFounderTask"),
    "brainsegfounder_stage2": (
        "harness.pretraining.brainsegfounder",
        "BrainSegFounder",
        "BrainSegFounderStage2Task",
    ),
    "med3d": ("harness.pretraining.med3d", "Med3D", "Med3DTask"),
    "volume_fusion": ("harness.pretraining.volume_fusion", "VolumeFusion", "VolumeFusionTask"),
    "volume_fusion_2023": ("harness.pretraining.volume_fusion", "VolumeFusion2023", "VolumeFusion2023Task"),
}
"""Recipe name to the module, its settings class and its task class."""


def settings(content: Mapping[str, Any]) -> Fact:
    """Validate the settings of the recipe that ``content["name"]`` names.

    Raises
    ------
    UserError
        No such recipe, or a setting that it does not know.
    """
    name = content.get("name")
    if not isinstance(name, str):
        raise UserError(f"A recipe needs its name; known are {', '.join(RECIPES)}.")
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    module, kind, _ = RECIPES[name]
    found: Fact = parse(getattr(importlib.import_module(module), kind), dict(content), f"recipe {name}")
    return found


def make_task(
    content: Mapping[str, Any], volumes: Volumes, train: Iterable[str], held_out: Iterable[str], seed: int
) -> PretextTask:
    """Make the task of a recipe from its settings as configured, the volumes, and the ids to use.

    Raises
    ------
    UserError
        As `settings`, or the volumes do not serve the recipe.
    """
    chosen = settings(content)
    task: PretextTask = task_class(content)(volumes, train, held_out, chosen, seed)
    return task


def task_class(content: Mapping[str, Any]) -> Any:
    """Return the class of the task of the recipe that ``content["name"]`` names, a `PretextTask`.

    Raises
    ------
    UserError
        As `settings`.
    """
    settings(content)
    module, _, kind = RECIPES[str(content["name"])]
    return getattr(importlib.import_module(module), kind)
