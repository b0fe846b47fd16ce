"""One pretraining run from start to weights: unlabelled volumes, a pretext task, the shared loop, a checkpoint, a card.

The checkpoint has the published layout, so that the family's adapter loads it like the authors' own file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from harness.adapters.build import Built
from harness.adapters.registry import adapter
from harness.adapters.weights import locate
from harness.cards.library import dataset_card, model_card
from harness.cards.model import ModelCard
from harness.checkpoints.hashing import state_sha256
from harness.config import PretrainConfig
from harness.data.roots import cache_folder
from harness.errors import UserError
from harness.pretraining.card_writer import check_name, write_pretrained
from harness.pretraining.recipes import make_task, task_class
from harness.pretraining.sources import Choice, Sources, fitted, open_sources
from harness.progress import say
from harness.recording.pretext import Parent, PretrainFacts, write_pretrain_record
from harness.records.runfolder import RunFolder, claim_folder
from harness.training.device import Numerics, set_up
from harness.training.distributed import World, join, sum_over_ranks
from harness.training.loop import fit

__all__ = ["Pretrained", "pretrain", "refuse_contradictions"]


@dataclass(frozen=True)
class Pretrained:
    """What came out.

    Attributes
    ----------
    model : str
        Id of the new weight set.
    card : Path
        Its card; the folder it lies in is what ``--cards`` takes.
    record : Path
        Folder of the record.
    """

    model: str
    card: Path
    record: Path


def pretrain(config: PretrainConfig) -> Pretrained:
    """Execute one pretraining run, or go on where a killed one stopped.

    Raises
    ------
    UserError
        A card, the data or a setting is wrong.
    HarnessError
        The machine is at fault, another process holds the run, or it diverged.
    """
    base, _ = model_card(config.model, config.cards)
    base.refuse_unsupported()
    made = check_name(base, config.name)
    refuse_contradictions(config, base)
    parent = _parent(config)
    with join(config.device) as world, claim_folder(config.out / config.cell, follow=not world.is_main) as folder:
        weights = folder.path / "weights"
        if world.agree(folder.is_complete and (weights / "card.yaml").is_file()):
            say(f"already complete: {weights}")
            return Pretrained(made, weights / "card.yaml", folder.record)
        with folder.at_work():
            _execute(config, base, parent, folder, world)
        return Pretrained(made, weights / "card.yaml", folder.record)


def refuse_contradictions(config: PretrainConfig, base: ModelCard) -> None:
    """Refuse what the recipe cannot start with, before anything is looked for.

    Parameters
    ----------
    config : PretrainConfig
        The run.
    base : ModelCard
        What ``config.model`` names.

    Raises
    ------
    UserError
        Settings that belong together are not all there, or exclude each other.
    """
    recipe = task_class(config.recipe)
    if recipe.second_stage and (config.parent is None or config.fold is None):
        raise UserError(
            f"Recipe {recipe.name} goes on from the weights of the first stage, on the training cases of one fold: say "
            f"parent=MODEL and fold=NUMBER (found parent={config.parent}, fold={config.fold})."
        )
    if config.fold is not None and (config.held_out or len(config.datasets) > 1):
        raise UserError("With fold=, its validation cases of the one data set are held out: leave held_out out.")
    if config.fold is None and config.split is not None:
        raise UserError(f"split={config.split} needs fold=, which says whose training cases are used.")
    if config.parent is None and config.weights is not None:
        raise UserError("weights= names the file of the weights to go on from. Say parent=MODEL, too: whose it is.")
    if config.parent is None:
        return
    card, _ = model_card(config.parent, config.cards)
    card.refuse_unsupported()
    if card.family != base.family or card.checkpoint is None:
        raise UserError(
            f"parent={config.parent} cannot start {base.id}: it must be of the family {base.family} and have a file."
        )


def _parent(config: PretrainConfig) -> Parent | None:
    """Find the weights to go on from."""
    if config.parent is None:
        return None
    card, home = model_card(config.parent, config.cards)
    return Parent(card, home, locate(card, home, config.weights))


def _execute(config: PretrainConfig, base: ModelCard, parent: Parent | None, folder: RunFolder, world: World) -> None:
    recipe, workers = task_class(config.recipe), config.executor.workers
    cards = [dataset_card(name, config.cards) for name in config.datasets]
    base = fitted(base, [card for card, _ in cards], recipe)
    with world.main_first():
        sources = open_sources(
            cards,
            base,
            recipe,
            Choice(config.held_out, config.split, config.fold),
            config.input,
            root=config.data_root,
            cache=cache_folder(config.cache),
            workers=workers,
        )

    device, seeds = set_up(config.device, config.threads, config.training.deterministic, config.seed)
    settings = recipe.completed(config.recipe, [card for card, _ in cards])
    task = make_task(settings, sources.volumes, sources.train, sources.held_out, config.seed)
    task.workers, task.over_ranks = workers, sum_over_ranks
    if parent is None:
        network = task.network(base, config.network)
    else:  # the parent's file is read as the parent's card says it lies on disk
        layout = base.model_copy(update={"checkpoint": parent.card.checkpoint})
        network = task.network(layout, config.network, parent.file)
    start_hash = state_sha256(network.state_dict())
    numerics = Numerics(config.training, device)
    outcome = fit(network, task, config.training, folder.checkpoints, folder.log, numerics)

    if not world.is_main:
        return
    begin = time.perf_counter()
    scores = task.evaluate(network, device)
    evaluate_seconds = time.perf_counter() - begin
    write_pretrained(
        folder.path / "weights",
        base=base,
        name=config.name,
        task=task,
        network=network,
        optimizer=None,
        steps=outcome.steps,
        seconds=outcome.seconds["train"],
        seen=sources.seen,
        parent=(parent.card, parent.folder) if parent else None,
        notes=_input_notes(config, base, sources),
    )
    facts = PretrainFacts(
        config=config,
        model=base,
        parent=parent,
        sources=sources,
        settings=settings,
        built=Built(network, adapter(base.adapter).version, start_hash, None),
        task=task,
        outcome=outcome,
        scores=scores,
        seeds=seeds,
        device=device,
        evaluate_seconds=evaluate_seconds,
    )
    write_pretrain_record(folder, facts)


def _input_notes(config: PretrainConfig, base: ModelCard, sources: Sources) -> list[str]:
    """Say how volumes were prepared where that is not what the contract, which fine-tuning follows, says."""
    notes = []
    for part in sources.parts:
        used = part.meeting.preprocessing
        rule = used.intensity.model_dump(exclude_none=True)
        if rule != base.contract.intensity.model_dump(exclude_none=True):
            notes.append(f"Pretraining prepared {part.card.id} with the intensity rule {rule}, not the contract's.")
        if used.spacing != (base.contract.spacing or "native"):
            notes.append(f"Pretraining prepared {part.card.id} at the spacing {used.spacing} (network axes, mm).")
    if config.fold is not None:
        notes.append(f"Fine-tune it on fold {config.fold} only; the record of another fold says so.")
    return notes
