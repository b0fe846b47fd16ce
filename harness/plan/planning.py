"""A plan: cells and their states, what must be fetched, what it will take, and what this machine lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.adapters.weights import spell, standing
from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card
from harness.cards.model import ModelCard
from harness.config import RunConfig
from harness.data.contract import meet
from harness.data.layouts import find_cases
from harness.data.roots import data_root
from harness.data.size import prepared_bytes
from harness.data.splits import resolve
from harness.errors import HarnessError, UserError
from harness.files import canonical_json
from harness.footprint import Footprint, footprint, outputs_of
from harness.plan.calibrate import Calibration, calibrate
from harness.plan.machine import Machine, look
from harness.plan.seeds import Seeds, seeds_for
from harness.records.store import RECORD, read_json
from harness.scoring.verdict import suggested_margin
from harness.sweep.cells import Cell, card_of

__all__ = [
    "CellPlan",
    "Download",
    "Plan",
    "Recipe",
    "data_download",
    "plan",
    "weights_download",
    "what_is_missing",
]


@dataclass(frozen=True)
class Download:
    """One thing that must be on this machine; ``bytes`` is None where its size is not published."""

    what: str
    bytes: int | None
    is_here: bool
    how: str


@dataclass(frozen=True)
class CellPlan:
    """One cell: its state now, and its optimiser steps and training samples."""

    cell: str
    state: str
    steps: int
    samples: int


@dataclass(frozen=True)
class Recipe:
    """What the cells of one network, data set and protocol have in common.

    Attributes
    ----------
    footprint : Footprint or None
        None where it could not be predicted; ``problem`` says why.
    checkpoint_bytes : int or None
        On disk per cell: the resumable checkpoint and the one before.
    prepared_bytes : int or None
        Of the cache of prepared volumes; None without the data.
    calibration : Calibration or None
        Only after a few steps were timed here.
    seeds : Seeds or None
        None where the scored cases are not known without the data.
    """

    model: str
    dataset: str
    protocol: str
    init: str
    cells: int
    footprint: Footprint | None
    problem: str | None
    checkpoint_bytes: int | None
    prepared_bytes: int | None
    calibration: Calibration | None
    seeds: Seeds | None


@dataclass(frozen=True)
class Plan:
    """The whole plan. ``hours`` are of training alone, None unless calibrated; ``missing`` are sentences."""

    cells: tuple[CellPlan, ...]
    recipes: tuple[Recipe, ...]
    downloads: tuple[Download, ...]
    machine: Machine
    hours: float | None
    missing: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def plan(cells: Sequence[Cell], *, calibrated: bool = False) -> Plan:
    """Plan cells without running them.

    Parameters
    ----------
    cells : sequence of Cell
        From `harness.sweep.expand`.
    calibrated : bool
        Time a few steps of every network on the cells' device, with random volumes; this is what takes time.

    Raises
    ------
    UserError
        A card or a setting is wrong. Missing weights and data are part of the plan.
    """
    if not cells:
        raise UserError("There is no cell to plan. Name a model and a data set.")
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        config = cell.config
        key = (config.model, config.dataset, str(config.split), config.init, config.protocol.model_dump_json())
        groups.setdefault(key, []).append(cell)
    recipes = tuple(_recipe(group, calibrated) for group in groups.values())
    downloads = _downloads(cells)
    machine = look(cells[0].config.out, cells[0].config.device)
    rows = tuple(_cell(cell) for cell in cells)
    hours = None
    if calibrated:
        steps = [_steps(group[0].config) * sum(not c.folder.is_complete for c in group) for group in groups.values()]
        seconds = [recipe.calibration.seconds_per_step if recipe.calibration else 0.0 for recipe in recipes]
        hours = sum(one * many for one, many in zip(seconds, steps, strict=True)) / 3600
    return Plan(rows, recipes, downloads, machine, hours, tuple(what_is_missing(recipes, downloads, machine)))


def _steps(config: RunConfig) -> int:
    return 0 if config.init in ("released", "other") else config.protocol.training.steps


def _cell(cell: Cell) -> CellPlan:
    steps = _steps(cell.config)
    return CellPlan(cell.name, cell.folder.state, steps, steps * cell.config.protocol.patches.batch)


def _recipe(group: Sequence[Cell], calibrated: bool) -> Recipe:
    config = group[0].config
    protocol = config.protocol
    model, _ = card_of(config)
    model.refuse_unsupported()
    data, data_folder = dataset_card(config.dataset, config.cards)
    preprocessing = meet(model.contract, data, protocol.input).preprocessing
    channels, outputs = len(data.channels), outputs_of(data, protocol.inference.activation)
    found, problem = (None, None) if model.rule else _footprint(model, channels, outputs, config)
    stored = None
    if found is not None:
        copies = 2 + (protocol.training.selection.rule == "best_val")
        stored = copies * found.static_bytes
    prepared, ids = None, None
    try:
        here = find_cases(data, data_root(data, data_folder, config.data_root))
        ids, prepared = list(here), prepared_bytes(here.values(), preprocessing)
    except UserError:
        pass  # the data are not here: what is missing says so
    timed = calibrate(model, channels, outputs, protocol, config.device) if calibrated and _steps(config) else None
    return Recipe(
        model=config.model,
        dataset=config.dataset,
        protocol=protocol.name,
        init=config.init,
        cells=len(group),
        footprint=found,
        problem=problem,
        checkpoint_bytes=stored,
        prepared_bytes=prepared,
        calibration=timed,
        seeds=None if model.rule else _seeds(group, data, ids),
    )


def _footprint(model: ModelCard, channels: int, outputs: int, config: RunConfig) -> tuple[Footprint | None, str | None]:
    # twins, folds and seeds have one network, whatever their cards are called
    trains = config.init != "released"
    key = canonical_json(
        [model.adapter, model.architecture, channels, outputs, trains, config.protocol.model_dump(mode="json")]
    )
    try:
        if key not in _KNOWN:
            _KNOWN[key] = footprint(model, channels, outputs, config.protocol, trains=trains)
        return _KNOWN[key], None
    except HarnessError as error:
        return None, str(error)


_KNOWN: dict[str, Footprint] = {}


def _seeds(group: Sequence[Cell], data: DatasetCard, ids: list[str] | None) -> Seeds | None:
    config = group[0].config
    try:
        split = resolve(data, config.split, config.fold, config.label_fraction, config.subset_seed, ids=ids)
    except UserError:
        return None
    values = []
    for cell in group:
        same = cell.config.model_copy(update={"seed": config.seed}) == config
        if same and cell.folder.is_complete:
            metrics = read_json(cell.folder.record / RECORD)[0].get("metrics") or [{}]
            values += [float(metrics[0]["value"])] if metrics[0].get("value") is not None else []
    released = config.init == "released"
    return seeds_for(values, suggested_margin(len(split.scored), eval_only=released))


def _downloads(cells: Sequence[Cell]) -> tuple[Download, ...]:
    found: dict[str, Download] = {}
    for cell in cells:
        config = cell.config
        model, folder = card_of(config)
        starts_from_file = config.init in ("pretrained", "released") and config.weights is None
        if starts_from_file and model.checkpoint is not None:
            found[model.id] = weights_download(model, folder)
        elif starts_from_file:
            made = config.registered.made_here if config.registered else None
            how = made.how if made else f"the card names no file; init=scratch, or `harness pretrain model={model.id}`"
            found[model.id] = Download(f"weights {model.id}", None, False, how)
        data, data_folder = dataset_card(config.dataset, config.cards)
        found[f"data {data.id}"] = data_download(data, data_folder, config.data_root)
    return tuple(found.values())


def weights_download(model: ModelCard, folder: Path) -> Download:
    """Return what there is to fetch of a card that describes files, which lies in ``folder``."""
    files = standing(model, folder, check=False)
    # several files of a card are the same weights under several names: one is enough
    one = next((file for file in files if file.path is not None), files[0])
    where = " or ".join(spell(place) for place in one.file.places) or "its authors"
    how = f"harness weights fetch {model.id}  # {where}"
    return Download(f"weights {model.id}", one.file.bytes, one.path is not None, how)


def data_download(data: DatasetCard, folder: Path, root: Path | None) -> Download:
    """Return where a data set is to come from, whose card lies in ``folder`` and whose data may lie in ``root``."""
    try:
        data_root(data, folder, root)
        is_here = True
    except UserError:
        is_here = False
    how = f"harness data add {data.id} FOLDER  # {data.terms.how_to_get}"
    return Download(f"data {data.id}", None, is_here, how)


def what_is_missing(recipes: Sequence[Recipe], downloads: Sequence[Download], machine: Machine) -> list[str]:
    """Say in sentences what stands against the plan on this machine."""
    lines = [f"{one.what} is not here: {one.how}" for one in downloads if not one.is_here]
    for recipe in recipes:
        need = recipe.footprint
        trains = recipe.init != "released"
        most = 0 if need is None else need.train_bytes if trains else need.infer_bytes
        if recipe.problem:
            lines.append(recipe.problem)
        elif machine.memory_bytes is not None and most > machine.memory_bytes:
            lines.append(
                f"{recipe.model} with {recipe.protocol} needs about {most / 1e9:.1f} GB, {machine.device} "
                f"has {machine.memory_bytes / 1e9:.1f} GB: "
                + (
                    "lower protocol.patches.batch or protocol.patches.size, set protocol.training.accumulate, amp=bf16 "
                    "or activation_checkpointing=true"
                    if trains
                    else "lower protocol.inference.window_batch or protocol.inference.patch"
                )
            )
    disk = sum((r.checkpoint_bytes or 0) * r.cells + (r.prepared_bytes or 0) for r in recipes)
    if disk > machine.disk_free_bytes:
        lines.append(f"about {disk / 1e9:.1f} GB of disk are needed, {machine.disk_free_bytes / 1e9:.1f} GB are free")
    return lines
