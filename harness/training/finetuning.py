"""Which part of the network learns, and how fast: what can be chosen. `harness.training.tuning` does it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Finetuning", "LowRank", "spell"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LowRank(_Settings):
    """Low-rank updates of frozen weights (LoRA, arXiv:2106.09685): ``W + alpha / rank * B A``, with B zero at first."""

    rank: int = Field(default=8, gt=0)
    alpha: float = Field(default=8.0, gt=0)
    on: tuple[Literal["attention", "convolution"], ...] = Field(
        default=("attention", "convolution"),
        min_length=1,
        description="the linear layers inside attention modules, and convolutions; of the encoder",
    )


class Finetuning(_Settings):
    """How a pretrained network is adapted; its twin from scratch is treated in the same way.

    ``full``: everything learns. ``frozen_encoder``: the encoder stays in evaluation mode and gets no gradient; what
    loading left fresh in it (a new stem) learns. ``linear_probe``: the layers that give the logits learn alone.
    ``sawtooth``: for ``decoder_steps`` as with a frozen encoder, the learning rate rising linearly; then everything,
    the schedule with its warm-up beginning anew. ``lora``: as with a frozen encoder, and low-rank updates of its
    weights, which are merged at the end.
    """

    mode: Literal["full", "frozen_encoder", "linear_probe", "sawtooth", "lora"] = "full"
    decoder_steps: int = Field(default=0, ge=0, description="sawtooth only: steps before the encoder learns too")
    encoder_lr_factor: float = Field(default=1.0, gt=0, description="learning rate of the encoder relative to the rest")
    stage_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor on the learning rate per encoder stage away from the decoder"
    )
    lora: LowRank | None = Field(default=None, description="lora only; null there: the defaults")

    @model_validator(mode="after")
    def _belongs_together(self) -> Finetuning:
        if (self.mode == "sawtooth") != (self.decoder_steps > 0):
            raise ValueError(
                f"mode {self.mode} with decoder_steps {self.decoder_steps}: sawtooth needs at least 1 step of the "
                "decoder alone, and no other mode has any; set both or neither"
            )
        if self.lora is not None and self.mode != "lora":
            raise ValueError(f"lora is set, but mode is {self.mode}, which has no low-rank updates; set mode: lora")
        if self.mode in ("frozen_encoder", "linear_probe") and (self.encoder_lr_factor, self.stage_decay) != (1, 1):
            raise ValueError(
                f"mode {self.mode} freezes the encoder, so encoder_lr_factor and stage_decay have nothing to act on; "
                "leave them at 1 or choose mode: full"
            )
        return self


def spell(settings: Finetuning) -> str:
    """Say in words what a record shows.

    >>> spell(Finetuning(mode="sawtooth", decoder_steps=100, encoder_lr_factor=0.1))
    'decoder alone for 100 steps, then all, encoder learning rate x 0.1'
    """
    low = settings.lora or LowRank()
    words = {
        "full": "full fine-tuning",
        "frozen_encoder": "frozen encoder",
        "linear_probe": "linear probe",
        "sawtooth": f"decoder alone for {settings.decoder_steps} steps, then all",
        "lora": f"low-rank updates of the encoder's {' and '.join(low.on)} (rank {low.rank}, alpha {low.alpha:g})",
    }[settings.mode]
    if settings.encoder_lr_factor != 1:
        words += f", encoder learning rate x {settings.encoder_lr_factor:g}"
    if settings.stage_decay != 1:
        words += f", x {settings.stage_decay:g} per encoder stage"
    return words
