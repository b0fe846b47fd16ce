"""Parts of a record that every kind of run fills in the same way."""

from __future__ import annotations

from typing import Any

import torch

from harness.adapters.build import Built
from harness.cards.model import ModelCard
from harness.data.settings import Preprocessing
from harness.records import fields
from harness.training.finetuning import Finetuning, spell
from harness.training.loop import Outcome
from harness.training.settings import Training

__all__ = ["cost", "deterministic_flags", "intensity", "model_part", "schedule_words", "submitter", "submitter_reasons"]

_NOT_STATED = "not stated by whoever ran it"


def submitter(handle: str | None) -> fields.Submitter:
    """Describe who ran it, as far as they said."""
    return fields.Submitter(handle=handle, affiliation=None, relation=None)


def submitter_reasons(handle: str | None) -> dict[str, str]:
    """Give the reasons for what `submitter` leaves open."""
    names = ["affiliation", "relation"] if handle else ["handle", "affiliation", "relation"]
    return {f"submitter.{name}": _NOT_STATED for name in names}


def deterministic_flags(training: Training) -> fields.Deterministic:
    """Read back from torch what was really switched on."""
    return fields.Deterministic(
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        algorithms=torch.are_deterministic_algorithms_enabled(),
        tf32=torch.backends.cuda.matmul.allow_tf32,
        amp=training.amp,
    )


def schedule_words(training: Training) -> str:
    """Spell a learning-rate schedule."""
    schedule = training.schedule
    power = f" power {schedule.power:g}" if schedule.name == "poly" else ""
    words = f"{schedule.name}{power}, warm-up {schedule.warmup_steps}, final fraction {schedule.final_fraction:g}"
    return words if training.finetuning == Finetuning() else f"{words}; {spell(training.finetuning)}"


def model_part(card: ModelCard, built: Built, outcome: Outcome, init: Any) -> fields.Model:
    """Describe the network and how it started."""
    return fields.Model(
        id=card.family,
        variant=card.variant,
        adapter_version=built.adapter_version,
        parameters=fields.Parameters(
            total=sum(p.numel() for p in built.network.parameters()), trainable=outcome.trainable
        ),
        init=init,
    )


def intensity(preprocessing: Preprocessing) -> fields.Intensity:
    """Describe how voxel values became inputs."""
    rule = preprocessing.intensity
    return fields.Intensity(method=rule.rule, window=rule.window, percentiles=rule.percentiles, to=rule.to)


def cost(
    outcome: Outcome,
    device: torch.device,
    *,
    prepare: float,
    infer: float,
    score: float,
    seconds_per_case: float | None,
) -> fields.Cost:
    """Describe what the run used; seconds, GPU hours and GiB."""
    on_gpu = device.type == "cuda"
    return fields.Cost(
        wall={
            "prepare": prepare,
            "train": outcome.seconds["train"],
            "validate": outcome.seconds["validate"],
            "infer": infer,
            "score": score,
        },
        gpu_hours=(sum(outcome.seconds.values()) + infer) / 3600 if on_gpu else None,
        peak_gpu_memory=torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None,
        allocator="allocated" if on_gpu else None,
        seconds_per_case=seconds_per_case,
        resumed=outcome.resumed,
    )
