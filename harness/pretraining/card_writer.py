"""Writing what was pretrained: a checkpoint in the published layout, and the model card that makes it usable."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from harness.cards.library import index
from harness.cards.model import Checkpoint, Contamination, ModelCard, Place, Pretraining, WeightFile
from harness.errors import HarnessError, UserError
from harness.files import atomic_path, file_sha256, write_text
from harness.pretraining.seen import Seen, combined_fingerprint, write_seen
from harness.pretraining.task import PretextTask

__all__ = ["check_name", "write_checkpoint", "write_pretrained"]


def check_name(base: ModelCard, name: str) -> str:
    """Return the id of the weight set to be made, before any work is spent on it.

    Raises
    ------
    UserError
        The name is not a word of lower-case letters, digits and underscores, or a shipped card has it already.
    """
    new_id = f"{base.family}.{name}"
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise UserError(f"name={name!r} cannot name a weight set: use lower-case letters, digits and underscores.")
    if new_id in index("model"):
        raise UserError(f"There is a shipped model called {new_id!r} already. Choose another name=.")
    return new_id


def write_checkpoint(path: Path, contents: Mapping[str, Any], legacy: bool) -> None:
    """Write a torch file, whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    contents : mapping
        Tensors and plain values.
    legacy : bool
        The container of torch before 1.6 rather than a zip archive.

    Raises
    ------
    HarnessError
        The disk is full or the folder may not be written.
    """
    with atomic_path(path) as temporary:
        try:
            torch.save(dict(contents), temporary, _use_new_zipfile_serialization=not legacy)
        except RuntimeError as error:  # torch's zip writer reports a full disk like this
            raise HarnessError(
                f"Could not write {path}: {str(error).splitlines()[0]}. Nothing was left half-written. Free some space "
                "or choose another folder, then run the same command again."
            ) from error


def write_pretrained(
    folder: Path,
    *,
    base: ModelCard,
    name: str,
    task: PretextTask,
    network: nn.Module,
    optimizer: Mapping[str, Any] | None,
    steps: int,
    seconds: float,
    seen: Sequence[Seen],
    parent: tuple[ModelCard, Path] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the checkpoint, the list of volumes seen, and last the card; return the path of the card.

    Parameters
    ----------
    folder : Path
        Made if needed; ``--cards`` takes it afterwards.
    base : ModelCard
        The card whose architecture was trained.
    name : str
        Second half of the new id.
    task : PretextTask
        What was trained.
    network : nn.Module
        With its final weights.
    optimizer : mapping, optional
        Its state, where the authors' files hold one.
    steps : int
        Updates done.
    seconds : float
        Wall time of training.
    seen : sequence of Seen
        The volumes, by data set.
    parent : (ModelCard, Path), optional
        The weight set that pretraining started from, and the folder of its card.
    notes : sequence of str
        How the input was prepared, where it is not as the contract says.

    Raises
    ------
    UserError
        The name cannot be used.
    HarnessError
        A file cannot be written.
    """
    new_id = check_name(base, name)
    checkpoint = folder / f"{name}{task.layout.suffix}"
    legacy = task.layout.container == "torch_legacy"
    write_checkpoint(checkpoint, task.contents(network, optimizer, steps), legacy)
    write_seen(folder, seen, task.labelled, parent[1] if parent else None)
    card = _card(new_id, base, task, checkpoint, steps, seconds, seen, parent[0] if parent else None)
    card = card.model_copy(update={"notes": (*card.notes, *notes)})
    card = card.model_copy(update={"parameters": sum(value.numel() for value in task.published(network).parameters())})
    path = folder / "card.yaml"
    content = card.model_dump(mode="json", exclude_defaults=True)
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
    return path


def _card(
    new_id: str,
    base: ModelCard,
    task: PretextTask,
    checkpoint: Path,
    steps: int,
    seconds: float,
    seen: Sequence[Seen],
    parent: ModelCard | None,
) -> ModelCard:
    datasets = [part.dataset for part in seen]
    before = parent.pretraining.datasets if parent and parent.pretraining else ()
    count = sum(len(part.trained) for part in seen)
    licences = sorted({card.terms.licence for card in datasets} | ({parent.licence} if parent else set()))
    marks = {"self_pretrained"} | {mark for card in datasets for mark in card.evidence}
    marks |= {"bundled_sample"} if any(card.bundled for card in datasets) else set()
    marks |= set(parent.evidence) if parent else set()
    file = WeightFile(
        name=checkpoint.name,
        bytes=checkpoint.stat().st_size,
        sha256=file_sha256(checkpoint),
        places=(Place(kind="beside_card", where=checkpoint.name, official=False),),
    )
    return ModelCard(
        id=new_id,
        title=f"{base.family.replace('_', ' ')} pretrained here: {task.name}, {count} volumes, {steps} steps",
        adapter=base.adapter,
        architecture=base.architecture,
        checkpoint=Checkpoint(
            files=(file,),
            container=task.layout.container,
            weights_key=task.layout.weights_key,
            prefix=task.layout.prefix,
            published_head=task.layout.published_head,
        ),
        floor=base.floor,
        contract=base.contract.model_copy(update={"patch": task.size}),
        licence="; ".join(licences),
        licence_note="Made from volumes under these terms"
        + (f" and from the weights of {parent.id}." if parent else "."),
        pretraining=Pretraining(
            datasets=tuple(dict.fromkeys([*before, *(card.id for card in datasets)])),
            method=task.method,
            steps=steps,
            parent=parent.id if parent else None,
            fingerprint=combined_fingerprint(seen),
            notes=(f"{count} volumes, {seconds:.0f} s of training; volumes.json lists them by content.",),
        ),
        contamination=_overlaps(seen, task.labelled, parent.contamination if parent else ()),
        parity="Made by `harness pretrain`; these are not the authors' weights.",
        evidence=tuple(sorted(marks)),
        exceptions=base.exceptions,
        citation=base.citation,
        source="harness pretrain",
    )


def _overlaps(seen: Sequence[Seen], labelled: bool, inherited: Sequence[Contamination]) -> tuple[Contamination, ...]:
    """Return one entry per data set: what was seen here, and what the parent had seen where that is worse or else."""
    own = {part.dataset.id: _overlap(part, labelled) for part in seen}
    for entry in inherited:
        known = own.get(entry.dataset)
        if known is None or (known.status == "unlabeled_overlap" and entry.status in ("train_overlap", "test_overlap")):
            own[entry.dataset] = entry
    return tuple(own.values())


def _overlap(part: Seen, labelled: bool) -> Contamination:
    how = "with labels" if labelled else "without labels"
    fold = f": the training cases of fold {part.split.fold} of the split {part.split.id}" if part.split else ""
    return Contamination.model_validate(
        {
            "dataset": part.dataset.id,
            "status": "train_overlap" if labelled else "unlabeled_overlap",
            "evidence": f"{len(part.trained)} of its volumes were seen {how}{fold}",
        }
    )
