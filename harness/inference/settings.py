"""What a protocol chooses about inference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.cards.base import Fact

__all__ = ["Inference"]

Positive = Annotated[int, Field(gt=0)]


class Inference(Fact):
    """Sliding window, test-time flips, and how logits become labels."""

    overlap: float = Field(default=0.5, ge=0, lt=1, description="part of a window that the next one covers again")
    blending: Literal["gaussian", "constant"] = Field(
        default="gaussian", description="weight of a voxel within its window; the Gaussian has sigma = side / 8"
    )
    repeat_border: bool = Field(
        default=False,
        description="PyMIC's windows: one per step that begins inside the volume, those beyond the border moved back, "
        "so that several lie there at the same place and count several times",
    )
    window_batch: int = Field(
        default=1,
        gt=0,
        description="windows per call of the network; one is fastest on a CPU. Networks that normalise over the batch "
        "give other results with another number",
    )
    patch: tuple[Positive, Positive, Positive] | None = Field(default=None, description="null: the training patch")
    tta: Literal["none", "flips"] = Field(
        default="none", description="flips: mean of the logits over the eight mirror images of every window"
    )
    activation: Literal["softmax", "sigmoid"] = Field(
        default="softmax", description="softmax: exclusive classes, argmax; sigmoid: regions, each above 0.5"
    )
    restoration: Literal["logits", "labels"] = Field(
        default="logits",
        description="where the spacing was changed: interpolate logits at the scan's own voxels and decide there, or "
        "decide first and bring labels back by nearest neighbour",
    )
    amp: Literal["off", "bf16", "fp16"] = Field(default="off", description="precision of the network's own arithmetic")
