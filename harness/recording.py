"""What a run tells its record: plain facts gathered into the record's own parts. No number is computed here."""

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
from harness.checkpoints.hashing import state_sha256
from harness.config import RunConfig, run_config
from harness.data.check import CheckReport
from harness.data.contract import Meeting
from harness.data.fingerprint import fingerprint
from harness.data.splits import ResolvedSplit
from harness.files import file_sha256
from harness.records import fields
from harness.records.build import assemble
from harness.records.cases import case_rows
from harness.records.environment import describe
from harness.records.runfolder import RunFolder
from harness.records.store import write
from harness.scoring.definitions import definition
from harness.training.evaluation import Scored
from harness.training.loop import Outcome
from harness.training.settings import Training

__all__ = [
    "Facts",
    "deterministic_flags",
    "peak_gpu_memory",
    "schedule_words",
    "submitter",
    "weights_of",
    "write_record",
]

_NOT_STATED = "not stated by whoever ran it"


@dataclass(frozen=True)
class Facts:
    """Everything a finished run knows about itself."""

    config: RunConfig
    model: ModelCard
    data: DatasetCard
    weights: Path | None
    meeting: Meeting
    split: ResolvedSplit
    report: CheckReport
    built: Built
    outcome: Outcome
    scored: Scored
    seeds: Mapping[str, int]
    device: torch.device
    prepare_seconds: float


def write_record(folder: RunFolder, facts: Facts) -> Path:
    """Assemble the record of a fine-tuning run and write it; return its folder."""
    config, protocol = facts.config, facts.config.protocol
    environment = describe(str(facts.device))
    rows = case_rows(
        facts.scored.rows,
        class_ids=_class_ids(facts.data),
        policy=protocol.scoring.policy,
        seconds=facts.scored.case_seconds,
        predictions=facts.scored.hashes,
    )
    config_yaml = yaml.safe_dump(config.science(), sort_keys=True, allow_unicode=True)
    loading = facts.built.report.to_json() if facts.built.report else None
    record = assemble(
        kind="fine_tune",
        model=_model(facts.model, facts.built, config.init),
        weights=weights_of(facts.model, facts.weights, facts.built, facts.built.network),
        pretraining=_pretraining(facts),
        contamination=_contamination(facts),
        dataset=_dataset(facts),
        split=_split(facts),
        protocol=_protocol(facts),
        seeds=fields.Seeds(**facts.seeds),
        deterministic=deterministic_flags(protocol.training),
        environment=environment,
        cost=_cost(facts),
        submitter=submitter(config.submitter),
        cases=rows,
        config_yaml=config_yaml,
        loading=loading,
        log_path=folder.log,
        predictions=facts.scored.hashes,
        evidence=_evidence(facts),
        division=_division(config),
        policy=protocol.scoring.policy,
        metric_order=[definition(metric).record_id for metric in protocol.scoring.metrics],
        reasons={"submitter.handle": _NOT_STATED, **_SUBMITTER_REASONS},
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
    )
    return folder.record


_SUBMITTER_REASONS = {"submitter.affiliation": _NOT_STATED, "submitter.relation": _NOT_STATED}


def submitter(handle: str | None) -> fields.Submitter:
    """Describe who ran it, as far as they said."""
    return fields.Submitter(handle=handle, affiliation=None, relation=None)


def weights_of(card: ModelCard, file: Path | None, built: Built, network: nn.Module) -> fields.Weights:
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


def deterministic_flags(training: Training) -> fields.Deterministic:
    """Read back from torch what was really switched on."""
    return fields.Deterministic(
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        algorithms=torch.are_deterministic_algorithms_enabled(),
        tf32=torch.backends.cuda.matmul.allow_tf32,
        amp=training.amp,
    )


def peak_gpu_memory(device: torch.device) -> float | None:
    """Return the peak of allocated GPU memory of this process in GiB; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def schedule_words(training: Training) -> str:
    """Spell a learning-rate schedule."""
    schedule = training.schedule
    power = f" power {schedule.power:g}" if schedule.name == "poly" else ""
    return f"{schedule.name}{power}, warm-up {schedule.warmup_steps}, final fraction {schedule.final_fraction:g}"


def _class_ids(data: DatasetCard) -> dict[str, int]:
    """Give a number to what is scored: labels by their value, regions from 1."""
    if data.regions:
        return {name: number for number, name in enumerate(data.regions, start=1)}
    return {name: values[0] for name, values in data.classes.items()}


def _model(card: ModelCard, built: Built, init: Any) -> fields.Model:
    parameters = list(built.network.parameters())
    return fields.Model(
        id=card.family,
        variant=card.variant,
        adapter_version=built.adapter_version,
        parameters=fields.Parameters(
            total=sum(p.numel() for p in parameters), trainable=sum(p.numel() for p in parameters if p.requires_grad)
        ),
        init=init,
    )


def _pretraining(facts: Facts) -> fields.Pretraining | None:
    if facts.weights is None:
        return None
    return fields.Pretraining(datasets=facts.model.pretraining.datasets if facts.model.pretraining else ())


def _contamination(facts: Facts) -> fields.Contamination | None:
    """Say whether pretraining saw the scored data: by image hashes where the card has them, else as the card says."""
    if facts.weights is None:
        return None
    seen = set(facts.model.pretraining.images) if facts.model.pretraining else set()
    if seen:
        hit = {case for case, known in facts.report.facts.items() if known.image_sha256 in seen}
        if hit & set(facts.split.scored):
            status, of = "test_overlap", sorted(hit & set(facts.split.scored))
        elif hit:
            status, of = "train_overlap", sorted(hit)
        else:
            status, of = "none", []
        text = f"image hashes compared: {len(hit)} of {len(facts.report.facts)} cases were seen in pretraining"
        return fields.Contamination(status=status, evidence=f"{text} ({', '.join(of[:20])})" if of else text)
    for entry in facts.model.contamination:
        if entry.dataset == facts.data.id:
            return fields.Contamination(status=entry.status, evidence=entry.evidence)
    return fields.Contamination(status="unknown", evidence="the model card says nothing about this data set")


def _dataset(facts: Facts) -> fields.Dataset:
    data, split = facts.data, facts.split
    return fields.Dataset(
        id=data.id,
        card_version=data.version,
        fingerprint=fields.Fingerprint(
            all=fingerprint(facts.report.facts), scored=fingerprint(facts.report.facts, split.scored)
        ),
        n_cases=fields.CaseCounts(train=len(split.train), val=len(split.val), test=len(split.test)),
        label_map={str(value): name for value, name in data.labels.items()},
        regions=data.regions,
        excluded=(),
    )


def _split(facts: Facts) -> fields.Split:
    split = facts.split
    role = split.scored_role
    if role == "val_used_for_selection" and facts.config.protocol.training.selection.rule == "last":
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
    protocol, pre = facts.config.protocol, facts.meeting.preprocessing
    training, inference = protocol.training, protocol.inference
    samples = facts.outcome.steps * protocol.patches.batch
    return fields.Protocol(
        id=protocol.name,
        spacing=pre.spacing,
        orientation=pre.axcodes,
        intensity=fields.Intensity(
            method=pre.intensity.rule,
            window=pre.intensity.window,
            percentiles=pre.intensity.percentiles,
            to=pre.intensity.to,
        ),
        patch=protocol.patches.size,
        batch=protocol.patches.batch,
        patches_per_case=protocol.patches.per_case,
        optimizer=training.optimizer.name,
        lr=training.optimizer.lr,
        schedule=schedule_words(training),
        loss=f"{training.loss.dice:g} Dice + {training.loss.cross_entropy:g} cross entropy",
        steps=facts.outcome.steps,
        epochs=samples / len(facts.split.train),
        samples_seen=samples,
        selection=fields.Selection(
            rule=training.selection.rule,
            note=f"weights of step {facts.outcome.selected_step}",
            configurations_tried=1,
        ),
        inference=fields.Inference(
            overlap=inference.overlap,
            blending=inference.blending,
            window_batch=inference.window_batch,
            tta=() if inference.tta == "none" else (inference.tta,),
            ensemble_size=1,
            decision="argmax" if inference.activation == "softmax" else "0.5",
            post_processing=(),
        ),
    )


def _cost(facts: Facts) -> fields.Cost:
    seconds = facts.outcome.seconds
    on_gpu = facts.device.type == "cuda"
    infer = sum(facts.scored.case_seconds.values())
    return fields.Cost(
        wall={
            "prepare": facts.prepare_seconds,
            "train": seconds["train"],
            "validate": seconds["validate"],
            "infer": infer,
            "score": facts.scored.score_seconds,
        },
        gpu_hours=(sum(seconds.values()) + infer) / 3600 if on_gpu else None,
        peak_gpu_memory=peak_gpu_memory(facts.device),
        allocator="allocated" if on_gpu else None,
        seconds_per_case=median(facts.scored.case_seconds.values()),
        resumed=facts.outcome.resumed,
    )


def _evidence(facts: Facts) -> set[Any]:
    """Collect the marks that must follow the result wherever it shows."""
    marks = set(facts.data.evidence)
    if facts.weights is not None:
        marks |= set(facts.model.evidence)
        published = {f.sha256 for f in facts.model.checkpoint.files if f.sha256} if facts.model.checkpoint else set()
        if published and file_sha256(facts.weights) not in published:
            marks.add("stand_in_weights")
    return marks


def _division(config: RunConfig) -> Any:
    """Return ``closed`` where the shipped protocol was followed to the letter."""
    shipped = run_config([f"model={config.model}", f"dataset={config.dataset}", f"protocol={config.protocol.name}"])
    return "closed" if shipped.protocol == config.protocol else "open"
