"""The record of a pretraining run: what was trained on what, and how far the task beats trivial answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import yaml

from harness.adapters.build import Built
from harness.cards.dataset import DatasetCard
from harness.cards.model import ModelCard
from harness.checkpoints.hashing import state_sha256
from harness.config import PretrainConfig
from harness.data.check import CheckReport
from harness.data.contract import Meeting
from harness.data.fingerprint import fingerprint
from harness.pretraining.recipes import settings as recipe_settings
from harness.pretraining.task import PretextTask
from harness.recording.shared import (
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

__all__ = ["PretrainFacts", "write_pretrain_record"]

_NO_LABELS = "pretraining scores no label map"


@dataclass(frozen=True)
class PretrainFacts:
    """Everything a finished pretraining run knows about itself."""

    config: PretrainConfig
    model: ModelCard
    data: DatasetCard
    meeting: Meeting
    report: CheckReport
    built: Built
    task: PretextTask
    outcome: Outcome
    scores: Mapping[str, float]
    seeds: Mapping[str, int]
    device: torch.device
    prepare_seconds: float
    evaluate_seconds: float


def write_pretrain_record(folder: RunFolder, facts: PretrainFacts) -> None:
    """Assemble the record and write it."""
    config = facts.config
    environment = describe(str(facts.device))
    rows = [
        CaseRow("held_out", 0, "volume", PRETEXT_METRICS[name].record_id, value)
        for name, value in facts.scores.items()
        if name in PRETEXT_METRICS
    ]
    # what the sampler did with the volumes belongs to the configuration as it was resolved
    resolved = {**config.science(), "volumes_as_used": facts.task.facts()}
    config_yaml = yaml.safe_dump(resolved, sort_keys=True, allow_unicode=True)
    record = assemble(
        kind="pretrain",
        model=model_part(facts.model, facts.built, facts.outcome, "scratch"),
        weights=fields.Weights(
            state_sha256=facts.built.state_sha256,
            loaded_fraction=0.0,
            loading_file_sha256=None,
            final_sha256=state_sha256(facts.built.network.state_dict()),
        ),
        dataset=_dataset(facts),
        split=fields.Split(id="held_out", sha256=None, scored_role=None),
        protocol=_protocol(facts),
        seeds=fields.Seeds(**facts.seeds),
        deterministic=deterministic_flags(config.training),
        environment=environment,
        cost=cost(
            facts.outcome,
            facts.device,
            prepare=facts.prepare_seconds,
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
        evidence=facts.data.evidence,
        reasons=_reasons(facts),
    )
    write(folder.record, record, rows, config_yaml, None, folder.log, {}, packages=environment.packages)


def _dataset(facts: PretrainFacts) -> fields.Dataset:
    held_out = facts.config.held_out
    return fields.Dataset(
        id=facts.data.id,
        card_version=facts.data.version,
        fingerprint=fields.Fingerprint(
            all=fingerprint(facts.report.facts), scored=fingerprint(facts.report.facts, held_out)
        ),
        n_cases=fields.CaseCounts(train=len(facts.report.facts) - len(held_out), val=0, test=len(held_out)),
        label_map=None,
        excluded=(),
    )


def _protocol(facts: PretrainFacts) -> fields.Protocol:
    training, pre = facts.config.training, facts.meeting.preprocessing
    batch = int(recipe_settings(facts.config.recipe).model_dump()["batch"])
    return fields.Protocol(
        id=facts.task.name,
        spacing=pre.spacing,
        orientation=pre.axcodes,
        intensity=intensity(pre),
        patch=facts.task.size,
        batch=batch,
        patches_per_case=None,
        optimizer=training.optimizer.name,
        lr=training.optimizer.lr,
        schedule=schedule_words(training),
        loss=facts.task.method,
        steps=facts.outcome.steps,
        epochs=None,
        samples_seen=facts.outcome.steps * batch,
        selection=fields.Selection(rule="last", configurations_tried=1),
        inference=None,
    )


def _reasons(facts: PretrainFacts) -> dict[str, str]:
    drawn = "volumes are drawn at random"
    return {
        "dataset.label_map": "no labels are used",
        "split.sha256": "the held-out volumes are named in the configuration",
        "split.scored_role": _NO_LABELS,
        "protocol.patches_per_case": drawn,
        "protocol.epochs": drawn,
        "protocol.inference": _NO_LABELS,
        "cost.seconds_per_case": _NO_LABELS,
        **submitter_reasons(facts.config.submitter),
    }
