"""Parts of a record that every kind of run fills in the same way."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.adapters.build import Built
from harness.cards.model import ModelCard
from harness.data.settings import Preprocessing
from harness.machine import peak_resident_bytes
from harness.records import fields
from harness.training.finetuning import Finetuning, spell
from harness.training.loop import Outcome
from harness.training.settings import Training

__all__ = [
    "batch_norm_words",
    "cost",
    "deterministic_flags",
    "intensity",
    "loss_words",
    "model_part",
    "schedule_words",
    "selection_words",
    "submitter",
    "submitter_reasons",
]

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
    form = {
        "poly": f" power {schedule.power:g}",
        "step": f" x {schedule.gamma:g} every {schedule.step_size} updates",
        "plateau": f" x {schedule.gamma:g} after {schedule.patience} validations without a better one",
    }.get(schedule.name, "")
    words = f"{schedule.name}{form}, warm-up {schedule.warmup_steps}, final fraction {schedule.final_fraction:g}"
    if schedule.hold > 1:
        words += f", changing every {schedule.hold} updates"
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
    planned: fields.Planned | None = None,
) -> fields.Cost:
    """Describe what the run used, beside what was predicted of it; seconds, GPU hours and GiB."""
    on_gpu = device.type == "cuda"
    train, usage = outcome.seconds["train"], outcome.usage
    kwh, peak = usage.get("kwh"), usage.get("allocated")
    resident = peak_resident_bytes()
    now = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else 0.0  # inference counts as well
    return fields.Cost(
        wall={
            "prepare": prepare,
            "train": train,
            "validate": outcome.seconds["validate"],
            "infer": infer,
            "score": score,
        },
        gpu_hours=outcome.ranks * (sum(outcome.seconds.values()) + infer) / 3600 if on_gpu else None,
        peak_gpu_memory=max(peak or 0.0, now) if on_gpu else None,
        allocator="allocated" if on_gpu else None,
        peak_gpu_reserved=usage.get("reserved"),
        energy=fields.Energy(kwh=kwh, measured=True) if kwh is not None else None,
        seconds_per_case=seconds_per_case,
        samples_per_second=outcome.samples / train if train > 0 else None,
        wait_fraction=min(1.0, outcome.wait_seconds / train) if train > 0 else None,
        ranks=outcome.ranks if outcome.ranks > 1 else None,
        resumed=outcome.resumed,
        peak_resident=resident / 2**30 if resident is not None else None,
        planned=planned,
    )


def loss_words(training: Training) -> str:
    """Spell the objective.

    >>> loss_words(Training(steps=1, loss={"squared": True, "batch_dice": True}, accumulate=2))
    '1 Dice (squared, over the batch in 2 parts) + 1 cross entropy'
    """
    loss = training.loss
    forms = ["squared"] if loss.squared else []
    if loss.dice_weighting == "inverse_volume":
        forms.append("generalised")
    if loss.batch_dice:
        forms.append("over the batch" + (f" in {training.accumulate} parts" if training.accumulate > 1 else ""))
    if loss.smooth != 1e-5:
        forms.append(f"smoothing {loss.smooth:g}")
    if loss.include_background:
        forms.append("with background")
    dice = f"{loss.dice:g} Dice" + (f" ({', '.join(forms)})" if forms else "")
    of = "" if loss.cross_entropy_of == "logits" else f" of {loss.cross_entropy_of.replace('_', ' ')}"
    return f"{dice} + {loss.cross_entropy:g} cross entropy{of}"


def selection_words(training: Training, outcome: Outcome) -> str:
    """Spell which weights of the run were scored."""
    words = f"weights of step {outcome.selected_step}"
    if training.ema is not None:
        words += f", moving average with decay {training.ema:g}"
    if outcome.stopped_early:
        words += (
            f"; stopped at step {outcome.steps} after {training.selection.patience} validations without a better one"
        )
    return words


def batch_norm_words(network: nn.Module, training: Training, outcome: Outcome) -> str | None:
    """Say by whose statistics a network was trained that normalises over the batch; None on a single rank."""
    if outcome.ranks == 1 or not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return None
    return f"{'synchronised over' if training.sync_batch_norm else 'statistics of each of'} {outcome.ranks} ranks"
