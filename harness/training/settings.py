"""What can be chosen about training. Every field is recorded; a misspelt one is refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.training.finetuning import Finetuning

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
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="Adam and AdamW only")
    eps: float = Field(default=1e-8, gt=0, description="Adam and AdamW only; Keras has 1e-7")


class Schedule(_Settings):
    """How the learning rate changes with the step."""

    name: Literal["constant", "cosine", "poly", "step", "plateau"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0, description="linear rise to the full rate")
    warmup_start: Literal["above_zero", "zero"] = Field(
        default="above_zero",
        description="above_zero: the first update has 1/warmup_steps of the rate; zero: none of it",
    )
    power: float = Field(default=0.9, gt=0, description="poly only")
    step_size: int = Field(default=1000, gt=0, description="step only: updates between two drops")
    gamma: float = Field(default=0.5, gt=0, le=1, description="step and plateau: the rate is multiplied by this")
    hold: int = Field(
        default=1, gt=0, description="the rate changes only every so many updates: those of an epoch, in most recipes"
    )
    final_fraction: float = Field(
        default=0.0, ge=0, le=1, description="share of lr left at the end; plateau: never less"
    )
    patience: int = Field(default=10, gt=0, description="plateau only: validations without a better score until a drop")
    min_delta: float = Field(default=1e-4, ge=0, description="plateau only: what counts as a better score")


class Loss(_Settings):
    """The objective: a weighted sum of soft Dice and cross entropy (binary cross entropy for regions)."""

    dice: float = Field(default=1.0, ge=0)
    cross_entropy: float = Field(default=1.0, ge=0)
    cross_entropy_of: Literal["logits", "probabilities", "softened_probabilities"] = Field(
        default="logits",
        description="softmax only. logits: exact and finite; probabilities: the logarithm of the softmax without a "
        "guard, as PyMIC has it since 2025-08-11, NaN once a logit gap passes about 104; softened_probabilities: of "
        "0.999 p + 0.0005, as PyMIC had it before",
    )
    foreground_weight: float = Field(
        default=1.0,
        gt=0,
        description="of a voxel of any class but background in the cross entropy: small classes start to be learnt "
        "sooner, where few steps are left to find them",
    )
    include_background: bool = Field(default=False, description="whether Dice counts the background class")
    batch_dice: bool = Field(
        default=False, description="Dice over the whole batch, of all ranks, instead of the mean over samples"
    )
    squared: bool = Field(default=False, description="squares in the denominator of Dice, the V-Net form")
    smooth: float = Field(
        default=1e-5, gt=0, description="added to numerator and denominator of Dice; Keras recipes: 1"
    )
    dice_weighting: Literal["uniform", "inverse_volume"] = Field(
        default="uniform", description="inverse_volume: generalised Dice, classes weighted by 1 / volume squared"
    )
    coarse_target: Literal["nearest", "average"] = Field(
        default="nearest",
        description="target of a coarser output: the nearest voxel's class, or shares of classes by average pooling",
    )

    @model_validator(mode="after")
    def _something_to_minimise(self) -> Loss:
        if self.dice + self.cross_entropy == 0:
            raise ValueError("dice and cross_entropy are both 0, so there is nothing to minimise; give one a weight")
        return self


class Selection(_Settings):
    """Which weights of the run are scored."""

    rule: Literal["last", "best_val"] = "last"
    every: int = Field(default=250, gt=0, description="steps between validations (best_val only)")
    patience: int | None = Field(
        default=None, gt=0, description="stop after so many validations without a better score; null: use every step"
    )

    @model_validator(mode="after")
    def _patience_needs_scores(self) -> Selection:
        if self.patience is not None and self.rule != "best_val":
            raise ValueError("patience counts validations, and only rule: best_val validates; set it, or drop patience")
        return self


class Training(_Settings):
    """Budget, optimisation and numerics."""

    steps: int = Field(gt=0, description="optimiser updates at most; never seconds")
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    finetuning: Finetuning = Finetuning()
    loss: Loss = Loss()
    selection: Selection = Selection()
    clip_norm: float | None = Field(default=None, gt=0, description="largest gradient norm; null: no clipping")
    accumulate: int = Field(
        default=1,
        gt=0,
        description="parts that a batch is worked through in: the same update in less memory. Batch norm and batch "
        "Dice then see one part at a time",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of the moving average of the weights, which is then validated and scored; null: none",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="keep only the blocks' inputs and compute the rest again: less memory, same gradients",
    )
    sync_batch_norm: bool = Field(
        default=False, description="batch norm over all ranks; needs CUDA. false: each rank has its own statistics"
    )
    amp: Literal["off", "bf16", "fp16"] = "off"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = True
    checkpoint_every: int = Field(default=200, gt=0, description="steps between resumable checkpoints")
    log_every: int = Field(default=20, gt=0, description="steps between log lines")

    @model_validator(mode="after")
    def _encoder_learns_at_last(self) -> Training:
        if self.finetuning.decoder_steps >= self.steps:
            raise ValueError(
                f"finetuning.decoder_steps is {self.finetuning.decoder_steps} of {self.steps} steps, so the encoder "
                "would never learn; use fewer, or mode: frozen_encoder"
            )
        if self.sync_batch_norm and self.finetuning.mode != "full":
            raise ValueError(
                f"sync_batch_norm replaces batch norm layers, which finetuning.mode {self.finetuning.mode} must keep "
                "as they are; use one of the two"
            )
        return self

    @model_validator(mode="after")
    def _plateau_needs_scores(self) -> Training:
        if self.schedule.name == "plateau" and self.selection.rule != "best_val":
            raise ValueError("schedule: plateau follows validation scores; it needs selection.rule: best_val")
        return self
