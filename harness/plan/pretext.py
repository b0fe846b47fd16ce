"""The plan of a pretraining run: its steps, what one costs, what it reads and what is missing. Needs no volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from harness.cards.dataset import DatasetCard
from harness.cards.library import dataset_card, model_card
from harness.cards.model import ModelCard
from harness.config import PretrainConfig
from harness.data.contract import meet
from harness.data.layouts import find_cases
from harness.data.roots import data_root
from harness.data.size import prepared_bytes
from harness.errors import HarnessError, UserError
from harness.footprint import Footprint, LiveBytes, forget_values, static_bytes, step_bytes, without_values
from harness.plan.calibrate import Calibration, time_steps
from harness.plan.machine import look
from harness.plan.planning import CellPlan, Plan, Recipe, data_download, weights_download, what_is_missing
from harness.pretrain import refuse_contradictions
from harness.pretraining.card_writer import check_name
from harness.pretraining.recipes import make_task, settings, task_class
from harness.pretraining.sources import fitted
from harness.pretraining.task import PretextTask
from harness.pretraining.volumes import Loaded, Prepared, Together
from harness.records.runfolder import RunFolder
from harness.training.distributed import World
from harness.training.settings import Training

__all__ = ["plan_pretraining"]

Found = Sequence[tuple[DatasetCard, Path]]


def plan_pretraining(config: PretrainConfig, *, calibrated: bool = False) -> Plan:
    """Plan one pretraining run without doing it.

    Parameters
    ----------
    config : PretrainConfig
        From `harness.config.pretrain_config`.
    calibrated : bool
        Time a few steps on the run's device, on empty volumes; this is what takes time.

    Raises
    ------
    UserError
        A card or a setting is wrong. Missing weights and data are part of the plan.
    """
    recipe = task_class(config.recipe)
    base, _ = model_card(config.model, config.cards)
    base.refuse_unsupported()
    check_name(base, config.name)
    refuse_contradictions(config, base)
    cards = [dataset_card(name, config.cards) for name in config.datasets]
    base = fitted(base, [card for card, _ in cards], recipe)
    task = _empty_task(config, recipe, base, [card for card, _ in cards])
    found, problem, timed = None, None, None
    try:
        found = _footprint(task, base, config)
    except HarnessError as error:
        problem = str(error)
    if calibrated:
        timed = _timed(task, base, config)
    steps, folder = config.training.steps, RunFolder(config.out / config.cell)
    row = Recipe(
        model=config.model,
        dataset=config.dataset,
        protocol=recipe.name,
        init="other" if config.parent else "scratch",
        cells=1,
        footprint=found,
        problem=problem,
        checkpoint_bytes=2 * found.static_bytes if found else None,
        prepared_bytes=_prepared(config, recipe, base, cards),
        calibration=timed,
        seeds=None,
    )
    downloads = [data_download(card, home, config.data_root) for card, home in cards]
    if config.parent is not None and config.weights is None:
        downloads.insert(0, weights_download(*model_card(config.parent, config.cards)))
    machine = look(config.out, config.device)
    cell = CellPlan(config.cell, folder.state, steps, steps * task.samples)
    to_do = 0 if folder.is_complete else steps
    hours = timed.seconds_per_step * to_do / 3600 if timed else None
    return Plan((cell,), (row,), tuple(downloads), machine, hours, tuple(what_is_missing([row], downloads, machine)))


def _empty_task(
    config: PretrainConfig, recipe: type[PretextTask], base: ModelCard, cards: Sequence[DatasetCard]
) -> PretextTask:
    """Make the task on empty volumes that are as large as its samples, whatever the rule of drawing them."""
    content = recipe.completed(config.recipe, cards)
    chosen = settings(content).model_dump()
    size = chosen["cubes"]["size"] if "cubes" in chosen else chosen["size"]
    if "cubes" in chosen:
        content = {**content, "cubes": {"size": size}}
    image = np.zeros((len(base.contract.channels), *size), np.float32)
    empty = Loaded(image, image[0].astype(np.uint8) if recipe.labelled else None, (0.0,) * len(image))
    parts: Mapping[str, Mapping[str, Prepared]] = {card.id: dict.fromkeys("abcd", empty) for card in cards}
    if not recipe.labelled:
        parts = {"all": parts[cards[0].id]}
    volumes = Together(parts)
    train, held_out = ([case for case in volumes if case[-1] in which] for which in ("ab", "cd"))
    return make_task(content, volumes, train, held_out, config.seed)


def _footprint(task: PretextTask, base: ModelCard, config: PretrainConfig) -> Footprint:
    """Do the step on tensors without values; see `harness.footprint`."""
    training = config.training
    shapes = World.parts(task.batch(0), training.accumulate)[0]

    def batch() -> dict[str, Tensor]:
        return {name: torch.empty(value.shape, dtype=value.dtype) for name, value in shapes.items()}

    with without_values(base):
        network = task.network(base, config.network)

        with FakeTensorMode(), LiveBytes() as live, FlopCounterMode(display=False) as flops:
            forget_values(network)
            static = static_bytes(network, config)
            train = static + step_bytes(network, batch, lambda held: task.rehearse(network, held), training, live)
            counted = flops.get_total_flops() * training.accumulate
            network.eval()
            held = batch()
            live.peak = live.now
            with torch.no_grad():
                task.rehearse(network, held)
    count = sum(parameter.numel() for parameter in network.parameters())
    return Footprint(count, count, int(counted), train, static, live.peak)


def _timed(task: PretextTask, base: ModelCard, config: PretrainConfig) -> Calibration:
    """Time steps on one empty batch, so that drawing it is not timed."""
    network: nn.Module = task.network(base, config.network)
    training: Training = config.training
    return time_steps(network, task, task.batch(0), training, config.device)


def _prepared(config: PretrainConfig, recipe: type[PretextTask], base: ModelCard, cards: Found) -> int | None:
    total = 0
    for card, folder in cards:
        try:
            choice = recipe.input_choice(config.input, [])
        except UserError:  # a rule that looks at every case first
            return None
        preprocessing = meet(base.contract, card, choice).preprocessing
        try:
            here = find_cases(card, data_root(card, folder, config.data_root))
        except UserError:
            return None
        held = prepared_bytes(here.values(), preprocessing)
        if held is None:
            return None
        total += held
    return total
