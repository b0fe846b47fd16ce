"""The record of a pretraining run: what was trained on what, and how far the task beats trivial answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from harness.adapters.build import Built
from harness.cards.model import ModelCard
from harness.checkpoints.hashing import state_sha256
from harness.config import PretrainConfig
from harness.data.fingerprint import fingerprint
from harness.files import file_sha256
from harness.pretraining.seen import contamination
from harness.pretraining.sources import Sources
from harness.pretraining.task import PretextTask
from harness.recording.shared import (
    batch_norm_words,
    cost,
    deterministic_flags,
    intensity,
    model_part,
    schedule_words,
    submitter,
    submitter_reasons,
)
from harness.records import fields
from harness.records.build import assemble
from harness.records.cases import CaseRow
from harness.records.environment import describe
from harness.records.pretext import PRETEXT_METRICS
from harness.records.runfolder import RunFolder
from harness.records.store import write
from harness.training.loop import Outcome

__all__ = ["Parent", "PretrainFacts", "write_pretrain_record"]

_NO_LABELS = "pretraining scores no label map"


@dataclass(frozen=True)
class Parent:
    """The weights that a pretraining goes on from: their card, the folder it lies in, and the file."""

    card: ModelCard
    folder: Path
    file: Path


@dataclass(frozen=True)
class PretrainFacts:
    """Everything a finished pretraining run knows about itself."""

    config: PretrainConfig
    model: ModelCard
    parent: Parent | None
    sources: Sources
    settings: Mapping[str, Any]
    built: Built
    task: PretextTask
    outcome: Outcome
    scores: Mapping[str, float]
    seeds: Mapping[str, int]
    device: torch.device
    evaluate_seconds: float


def write_pretrain_record(folder: RunFolder, facts: PretrainFacts) -> None:
    """Assemble the record and write it."""
    config = facts.config
    environment = describe(str(facts.device))
    named = {name: value for name, value in facts.scores.items() if name in PRETEXT_METRICS}
    undefined = sorted(name for name, value in named.items() if not math.isfinite(value))
    rows = [
        CaseRow("held_out", 0, "volume", PRETEXT_METRICS[name].record_id, value)
        for name, value in named.items()
        if name not in undefined
    ]
    # what the recipe and the sampler made of settings and volumes belongs to the configuration as it was resolved
    resolved = {
        **config.science(),
        "recipe": dict(facts.settings),
        "volumes_as_used": facts.task.facts(),
        "input_rules": {part.card.id: list(part.meeting.rules) for part in facts.sources.parts},
        "scores_without_a_value": undefined,
    }
    config_yaml = yaml.safe_dump(resolved, sort_keys=True, allow_unicode=True)
    evidence = {mark for part in facts.sources.parts for mark in part.card.evidence}
    evidence |= set(facts.parent.card.evidence) if facts.parent else set()
    record = assemble(
        kind="pretrain",
        model=model_part(facts.model, facts.built, facts.outcome, "other" if facts.parent else "scratch"),
        weights=_weights(facts),
        pretraining=_pretraining(facts),
        contamination=_contamination(facts),
        dataset=_dataset(facts),
        split=_split(facts),
        protocol=_protocol(facts),
        seeds=fields.Seeds(**facts.seeds),
        deterministic=deterministic_flags(config.training),
        environment=environment,
        cost=cost(
            facts.outcome,
            facts.device,
            prepare=sum(part.seconds for part in facts.sources.parts),
            infer=facts.evaluate_seconds,
            score=0.0,
            seconds_per_case=None,
        ),
        submitter=submitter(config.submitter),
        cases=rows,
        config_yaml=config_yaml,
        loading=None,
        log_path=folder.log,
        predictions={},
        evidence=evidence,
        reasons=_reasons(facts),
    )
    write(folder.record, record, rows, config_yaml, None, folder.log, {}, packages=environment.packages)


def _weights(facts: PretrainFacts) -> fields.Weights:
    """Describe what the run started from, and what came out."""
    live = {
        "state_sha256": facts.built.state_sha256,
        "loaded_fraction": facts.task.inherited,
        "final_sha256": state_sha256(facts.built.network.state_dict()),
    }
    if facts.parent is None:
        return fields.Weights(loading_file_sha256=None, **live)
    card, file = facts.parent.card, facts.parent.file
    assert card.checkpoint is not None
    described = next((one for one in card.checkpoint.files if one.name == file.name), card.checkpoint.files[0])
    return fields.Weights(
        source=described.places[0].where if described.places else card.source,
        file=file.name,
        bytes=file.stat().st_size,
        sha256=file_sha256(file),
        licence=card.licence,
        loading_file_sha256=None,
        **live,
    )


def _pretraining(facts: PretrainFacts) -> fields.Pretraining | None:
    if facts.parent is None:
        return None
    before = facts.parent.card.pretraining
    return fields.Pretraining(datasets=before.datasets if before else ())


def _contamination(facts: PretrainFacts) -> fields.Contamination | None:
    """Say whether the parent had seen the held-out volumes on which the scores below were measured."""
    if facts.parent is None:
        return None
    images = {case: found.image_sha256 for case, found in facts.sources.facts.items()}
    found = contamination(facts.parent.folder, facts.sources.dataset_id, images, facts.sources.held_out)
    return fields.Contamination(status=found.status, evidence=found.evidence)


def _dataset(facts: PretrainFacts) -> fields.Dataset:
    found, held_out = facts.sources.facts, facts.sources.held_out
    return fields.Dataset(
        id=facts.sources.dataset_id,
        card_version="+".join(part.card.version for part in facts.sources.parts),
        fingerprint=fields.Fingerprint(all=fingerprint(found), scored=fingerprint(found, held_out)),
        n_cases=fields.CaseCounts(train=len(facts.sources.train), val=0, test=len(held_out)),
        label_map=None,
        excluded=(),
    )


def _split(facts: PretrainFacts) -> fields.Split:
    split = facts.sources.parts[0].split
    if split is None:
        return fields.Split(id="held_out", sha256=None, scored_role=None)
    return fields.Split(id=split.id, sha256=split.sha256, fold=split.fold, n_folds=split.n_folds, scored_role=None)


def _protocol(facts: PretrainFacts) -> fields.Protocol:
    training = facts.config.training
    prepared = [part.meeting.preprocessing for part in facts.sources.parts]
    alike = len({str(pre.spacing) for pre in prepared}) == 1
    return fields.Protocol(
        id=facts.task.name,
        spacing=prepared[0].spacing if alike else None,
        orientation=prepared[0].axcodes,
        intensity=intensity(prepared[0]),
        patch=facts.task.size,
        batch=facts.task.samples,
        patches_per_case=None,
        optimizer=training.optimizer.name,
        lr=training.optimizer.lr,
        schedule=schedule_words(training),
        loss=facts.task.method,
        steps=facts.outcome.steps,
        epochs=None,
        samples_seen=facts.outcome.steps * facts.task.samples,
        selection=fields.Selection(rule=training.selection.rule, configurations_tried=1),
        inference=None,
        batch_norm=batch_norm_words(facts.built.network, training, facts.outcome),
    )


def _reasons(facts: PretrainFacts) -> dict[str, str]:
    drawn = "volumes are drawn at random"
    reasons = {
        "dataset.label_map": "several label maps, or none" if facts.task.labelled else "no labels are used",
        "split.scored_role": _NO_LABELS,
        "protocol.patches_per_case": drawn,
        "protocol.epochs": drawn,
        "protocol.inference": _NO_LABELS,
        "cost.seconds_per_case": _NO_LABELS,
        **submitter_reasons(facts.config.submitter),
    }
    if facts.sources.parts[0].split is None:
        reasons["split.sha256"] = "the held-out volumes are named in the configuration"
    if len({str(part.meeting.preprocessing.spacing) for part in facts.sources.parts}) > 1:
        spacings = {part.card.id: part.meeting.preprocessing.spacing for part in facts.sources.parts}
        reasons["protocol.spacing"] = f"each data set has its own: {spacings}"
    if facts.parent is not None:
        reasons["weights.loading_file_sha256"] = "weights.loaded_fraction says what the parent gave"
    return reasons
