"""The record of a fine-tuning run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from torch import nn

from harness.adapters.build import Built
from harness.cards.dataset import DatasetCard
from harness.cards.model import ModelCard
from harness.cards.overlap import contamination_of
from harness.checkpoints.hashing import state_sha256
from harness.config import RunConfig
from harness.data.fingerprint import fingerprint
from harness.data.opening import CellData
from harness.data.reading import as_labels, read
from harness.data.reference import read_reference
from harness.errors import HarnessError
from harness.files import canonical_json, file_sha256, sha256_hex
from harness.footprint import footprint, outputs_of
from harness.overrides import beyond_protocol
from harness.pretraining.seen import FILE_NAME as SEEN_FILE
from harness.pretraining.seen import contamination
from harness.recording.shared import (
    batch_norm_words,
    cost,
    deterministic_flags,
    intensity,
    loss_words,
    model_part,
    schedule_words,
    selection_words,
    submitter,
    submitter_reasons,
)
from harness.records import fields
from harness.records.build import assemble
from harness.records.cases import CaseRow, case_rows
from harness.records.environment import describe
from harness.records.pictures import choose, hash_pictures, write_slices
from harness.records.runfolder import RunFolder
from harness.records.schema import Experiment
from harness.records.store import write
from harness.records.sums import kept_sums
from harness.records.volumes import write_volumes
from harness.resources import shipped
from harness.scoring.definitions import definition
from harness.training.evaluation import Scored
from harness.training.loop import Outcome
from harness.training.zero_training import Rule

__all__ = ["Facts", "write_record"]


@dataclass(frozen=True)
class Facts:
    """Everything a finished run knows about itself."""

    config: RunConfig
    model: ModelCard
    model_folder: Path
    data: CellData
    weights: Path | None
    built: Built
    outcome: Outcome
    scored: Scored
    seeds: Mapping[str, int]
    device: torch.device


def write_record(folder: RunFolder, facts: Facts) -> Path:
    """Assemble the record of a fine-tuning run and write it; return its folder."""
    config, protocol = facts.config, facts.config.protocol
    environment = describe(str(facts.device))
    rows = case_rows(
        facts.scored.rows,
        class_ids=_class_ids(facts.data.card),
        policy=protocol.scoring.policy,
        seconds=facts.scored.case_seconds,
        predictions=facts.scored.hashes,
    )
    if facts.data.card.terms.redistribution:
        _draw_slices(folder, facts, rows)
    metric_ids = [definition(metric).record_id for metric in protocol.scoring.metrics]
    # the rules by which the data met the weights belong to the configuration as it was resolved
    rules = {"input_rules": list(facts.data.rules)} if facts.data.rules else {}
    config_yaml = yaml.safe_dump({**config.science(), **rules}, sort_keys=True, allow_unicode=True)
    changed = beyond_protocol(config.science()["protocol"])
    loading = facts.built.loading()
    planned, unplanned = _planned(facts)
    sums = {case: kept_sums(folder.sums, case) for case in facts.scored.hashes} if protocol.scoring.sums else None
    record = assemble(
        kind=_kind(config),
        model=model_part(facts.model, facts.built, facts.outcome, config.init),
        weights=_weights(facts.model, facts.weights, facts.built, facts.built.network),
        pretraining=_pretraining(facts),
        contamination=_contamination(facts),
        dataset=_dataset(facts),
        split=_split(facts),
        protocol=_protocol(facts),
        seeds=fields.Seeds(**facts.seeds),
        deterministic=deterministic_flags(protocol.training),
        environment=environment,
        cost=cost(
            facts.outcome,
            facts.device,
            prepare=facts.data.seconds,
            infer=sum(facts.scored.case_seconds.values()),
            score=facts.scored.score_seconds,
            seconds_per_case=median(facts.scored.case_seconds.values()),
            planned=planned,
        ),
        submitter=submitter(config.submitter),
        cases=rows,
        config_yaml=config_yaml,
        config_overrides=changed or (),
        loading=loading,
        log_path=folder.log,
        predictions=facts.scored.hashes,
        sums=sums,
        pictures=hash_pictures(folder.record / "slices"),
        evidence=_evidence(facts),
        division=_division(changed),
        policy=protocol.scoring.policy,
        metric_order=metric_ids,
        averaging=dict.fromkeys(metric_ids, protocol.scoring.averaging) if protocol.scoring.averaging else None,
        experiment=_experiment(config),
        reasons={**submitter_reasons(config.submitter), **_untrained(config), **unplanned},
    )
    write(
        folder.record,
        record,
        rows,
        config_yaml,
        loading,
        folder.log,
        facts.scored.hashes,
        packages=environment.packages,
        sums=sums,
    )
    return folder.record


_OF_TRAINING = ("batch", "patches_per_case", "optimizer", "lr", "schedule", "loss")
_OF_NETWORKS = ("patch", "inference.overlap", "inference.blending", "inference.window_batch")


def _kind(config: RunConfig) -> Any:
    if config.init in ("released", "other"):
        return "eval_only" if config.init == "released" else "zero_training_baseline"
    return "probe" if config.protocol.training.finetuning.mode == "linear_probe" else "fine_tune"


def _untrained(config: RunConfig) -> dict[str, str]:
    """Say why nothing is recorded about the training of released weights, nor about that and windows of a rule."""
    if config.init == "released":
        why = "released weights, nothing was trained here"
        return dict.fromkeys([f"protocol.{name}" for name in _OF_TRAINING], why)
    if config.init != "other":
        return {}
    why = "a rule for whole scans without weights: nothing was trained, and no window moved"
    said = dict.fromkeys([f"protocol.{name}" for name in (*_OF_TRAINING, *_OF_NETWORKS)], why)
    return {**said, "pretraining": "a rule without weights", "log_sha256": why}


def _planned(facts: Facts) -> tuple[fields.Planned | None, dict[str, str]]:
    """Predict the run as `harness plan` does, or say why it cannot be predicted."""
    config, card = facts.config, facts.data.card
    protocol, released = config.protocol, config.init == "released"
    if facts.model.rule:
        return None, {"cost.planned": "a rule without a network: there is nothing to predict"}
    outputs = outputs_of(card, protocol.inference.activation)
    try:
        cost = footprint(facts.model, len(card.channels), outputs, protocol, facts.outcome.ranks, trains=not released)
    except HarnessError as error:
        return None, {"cost.planned": str(error)}
    steps = 0 if released else protocol.training.steps
    found = fields.Planned(
        parameters=cost.parameters,
        steps=steps,
        samples=steps * protocol.patches.batch,
        flops_per_step=cost.flops_per_step,
        train_memory=cost.train_bytes / 2**30,
        predict_memory=cost.infer_bytes / 2**30,
    )
    return found, {}


def _weights(card: ModelCard, file: Path | None, built: Built, network: nn.Module) -> fields.Weights:
    """Describe the starting weights and the ones that were scored."""
    final = state_sha256(network.state_dict())
    if file is None or card.checkpoint is None:
        return fields.Weights(
            state_sha256=built.state_sha256, loaded_fraction=0.0, loading_file_sha256=None, final_sha256=final
        )
    described = next((f for f in card.checkpoint.files if f.name == file.name), card.checkpoint.files[0])
    place = described.places[0].where if described.places else card.source
    return fields.Weights(
        source=place,
        file=file.name,
        bytes=file.stat().st_size,
        sha256=file_sha256(file),
        licence=card.licence,
        state_sha256=built.state_sha256,
        loaded_fraction=built.report.encoder.value if built.report else 0.0,
        loading_file_sha256=None,  # filled in by assemble
        final_sha256=final,
    )


def _draw_slices(folder: RunFolder, facts: Facts, rows: list[CaseRow]) -> None:
    """Draw the best, median and worst case, and keep them small for a viewer, where the terms of the data allow it."""
    first = definition(facts.config.protocol.scoring.metrics[0])
    chosen = choose(rows, first.record_id, higher_is_better=first.higher_is_better)
    for role, case in chosen.items():
        files = facts.data.cases[case]
        image = read(files.images[0])
        shown = (
            image.data if image.data.ndim == 3 else image.data[..., 0],
            read_reference(files).labels,
            as_labels(read(folder.predictions / f"{case}.nii.gz")),
        )
        slices, name, window = folder.record / "slices", f"{role}_{case}", _picture_window(facts)
        write_slices(slices, name, *shown, image.grid.spacing, window, image.grid.axcodes)
        write_volumes(slices, name, *shown, image.grid, window)


def _picture_window(facts: Facts) -> tuple[float, float] | None:
    """Show what the network saw, but CT in a soft-tissue window, since a chest window hides every organ border."""
    return (-160.0, 240.0) if facts.data.card.modality == ("CT",) else facts.data.preprocessing.intensity.window


def _class_ids(data: DatasetCard) -> dict[str, int]:
    """Give a number to what is scored: labels by their value, regions from 1 by name, as records do."""
    if data.regions:
        return {name: number for number, name in enumerate(sorted(data.regions), start=1)}
    return {name: values[0] for name, values in data.classes.items()}


def _pretraining(facts: Facts) -> fields.Pretraining | None:
    if facts.weights is None:
        return None
    return fields.Pretraining(datasets=facts.model.pretraining.datasets if facts.model.pretraining else ())


def _contamination(facts: Facts) -> fields.Contamination | None:
    """Say whether pretraining saw the scored data: by content where the volumes are listed, else as the card says."""
    if facts.model.rule:
        evidence = "nothing was pretrained: a rule that looked at the training cases of the split alone"
        return fields.Contamination(status="none", evidence=evidence)
    if facts.weights is None:
        return None
    stated = contamination_of(facts.model, facts.data.card)
    if not (facts.model_folder / SEEN_FILE).is_file():
        if stated is None:
            return fields.Contamination(status="unknown", evidence="the model card says nothing about this data set")
        return fields.Contamination(status=stated.status, evidence=stated.evidence)
    images = {case: found.image_sha256 for case, found in facts.data.report.facts.items()}
    found = contamination(facts.model_folder, facts.data.card.id, images, facts.data.split.scored, facts.data.split)
    if found.status in ("none", "unknown") and stated is not None:
        # other volumes of this data set were seen: the cautious word, with what was found about the scored ones
        return fields.Contamination(status=stated.status, evidence=f"{stated.evidence}; {found.evidence}")
    return fields.Contamination(status=found.status, evidence=found.evidence)


def _dataset(facts: Facts) -> fields.Dataset:
    data, split = facts.data.card, facts.data.split
    return fields.Dataset(
        id=data.id,
        card_version=data.version,
        fingerprint=fields.Fingerprint(
            all=fingerprint(facts.data.report.facts), scored=fingerprint(facts.data.report.facts, split.scored)
        ),
        n_cases=fields.CaseCounts(train=len(split.train), val=len(split.val), test=len(split.test)),
        label_map={str(value): name for value, name in data.labels.items()},
        regions=data.regions,
        remap={str(stored): value for stored, value in data.remap.items()} or None,
        excluded=(),
    )


def _split(facts: Facts) -> fields.Split:
    split = facts.data.split
    role = split.scored_role
    trained_here = facts.config.init != "released"  # how its authors selected a released file is not ours to weaken
    unselected = facts.model.rule is not None or facts.config.protocol.training.selection.rule == "last"
    if trained_here and role == "val_used_for_selection" and unselected:
        role = "val_independent"
    return fields.Split(
        id=split.id,
        sha256=split.sha256,
        fold=split.fold,
        n_folds=split.n_folds,
        scored_role=role,
        label_fraction=split.label_fraction,
        subset_seed=split.subset_seed,
    )


def _protocol(facts: Facts) -> fields.Protocol:
    protocol, pre = facts.config.protocol, facts.data.preprocessing
    training, inference = protocol.training, protocol.inference
    samples = facts.outcome.steps * protocol.patches.batch
    described = fields.Protocol(
        id=protocol.name,
        spacing=pre.spacing,
        orientation=pre.axcodes,
        intensity=intensity(pre),
        patch=protocol.patches.size,
        batch=protocol.patches.batch,
        patches_per_case=protocol.patches.per_case,
        optimizer=training.optimizer.name,
        lr=training.optimizer.lr,
        schedule=schedule_words(training),
        loss=loss_words(training),
        steps=facts.outcome.steps,
        epochs=samples / len(facts.data.split.train),
        samples_seen=samples,
        selection=fields.Selection(
            rule="average"
            if training.ema is not None and training.selection.rule == "last"
            else training.selection.rule,
            note=selection_words(training, facts.outcome),
            configurations_tried=1,
        ),
        inference=fields.Inference(
            overlap=inference.overlap,
            blending=inference.blending + (", border windows repeated" if inference.repeat_border else ""),
            window_batch=inference.window_batch,
            tta=() if inference.tta == "none" else (inference.tta,),
            ensemble_size=1,
            decision="argmax" if inference.activation == "softmax" else "0.5",
            post_processing=(),
        ),
        batch_norm=batch_norm_words(facts.built.network, training, facts.outcome),
    )
    if facts.config.init not in ("released", "other"):
        return described
    note = "nothing was trained" if facts.model.rule else "released weights"
    none = fields.Selection(rule="none", note=note, configurations_tried=None)
    untrained = described.model_copy(update={**dict.fromkeys(_OF_TRAINING), "selection": none})
    if not isinstance(facts.built.network, Rule) or untrained.inference is None:
        return untrained
    unwindowed = {"overlap": None, "blending": None, "window_batch": None, "tta": ()}
    decided = untrained.inference.model_copy(update={**unwindowed, "decision": facts.built.network.decision})
    return untrained.model_copy(update={"patch": None, "inference": decided})


def _experiment(config: RunConfig) -> Experiment | None:
    """Name the experiment that fixed the margin before the run, by the hash of its file where it is a shipped one."""
    fixed = config.registered
    if fixed is None:
        return None
    file = shipped("configs") / "experiment" / f"{fixed.id}.yaml"
    sha256 = file_sha256(file) if file.is_file() else sha256_hex(canonical_json(fixed.model_dump(mode="json")))
    return Experiment(id=fixed.id, sha256=sha256, margin=fixed.margin)


def _evidence(facts: Facts) -> set[Any]:
    """Collect the marks that must follow the result wherever it shows."""
    marks = set(facts.data.card.evidence)
    if facts.weights is not None:
        marks |= set(facts.model.evidence)
        published = {f.sha256 for f in facts.model.checkpoint.files if f.sha256} if facts.model.checkpoint else set()
        if published and file_sha256(facts.weights) not in published:
            marks.add("stand_in_weights")
    return marks


def _division(changed: tuple[str, ...] | None) -> Any:
    """Return ``closed`` where the shipped protocol was followed to the letter; see `harness.overrides`."""
    return "closed" if changed == () else "open"
