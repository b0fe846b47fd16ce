"""What can be chosen about training. Every field is recorded; a misspelt one is refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Loss", "Optimizer", "Schedule", "Selection", "Training"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimizer(_Settings):
    """Which optimiser, and its numbers."""

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="SGD only")
    nesterov: bool = Field(default=False, description="SGD only")


class Schedule(_Settings):
    """How the learning rate changes with the step."""

    name: Literal["constant", "cosine", "poly"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0, description="linear from zero")
    power: float = Field(default=0.9, gt=0, description="poly only")
    final_fraction: float = Field(default=0.0, ge=0, le=1, description="share of lr left at the end")


class Loss(_Settings):
    """The objective: a weighted sum of soft Dice and cross entropy (binary cross entropy for regions)."""

    dice: float = Field(default=1.0, ge=0)
    cross_entropy: float = Field(default=1.0, ge=0)
    include_background: bool = Field(default=False, description="whether Dice counts the background class")
    batch_dice: bool = Field(default=False, description="Dice over the batch instead of per sample")

    @model_validator(mode="after")
    def _something_to_minimise(self) -> Loss:
        if self.dice + self.cross_entropy == 0:
            raise ValueError("dice and cross_entropy are both 0, so there is nothing to minimise; give one a weight")
        return self


class Selection(_Settings):
    """Which weights of the run are scored."""

    rule: Literal["last", "best_val"] = "last"
    every: int = Field(default=250, gt=0, description="steps between validations (best_val only)")


class Training(_Settings):
    """Budget, optimisation and numerics."""

    steps: int = Field(gt=0, description="optimiser updates; never seconds")
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    selection: Selection = Selection()
    clip_norm: float | None = Field(default=None, gt=0, description="largest gradient norm; null: no clipping")
    amp: Literal["off", "bf16", "fp16"] = "off"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = True
    checkpoint_every: int = Field(default=200, gt=0, description="steps between resumable checkpoints")
    log_every: int = Field(default=20, gt=0, description="steps between log lines")
