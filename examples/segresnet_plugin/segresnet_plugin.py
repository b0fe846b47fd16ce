"""SegResNet (Myronenko, arXiv:1810.11654) as MONAI implements it, for files with MONAI's own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.networks.nets import SegResNet
from torch import Tensor, nn

from harness.adapters.interface import Adapter, Task, rename, take_options
from harness.cards.model import ModelCard
from harness.checkpoints.matching import Translation
from harness.errors import UserError

HEAD = "conv_final.2."


class SegResNetAdapter(Adapter):
    """The published network with a fresh last convolution for the task's classes; option: ``dropout_prob``."""

    name = "segresnet"
    version = "1"

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        chosen = take_options(self.name, options, {"dropout_prob": None})
        facts = dict(card.architecture)
        published_channels = facts.pop("out_channels")
        if task.kind == "classification":
            raise UserError(f"{card.id} segments; it has no classification network. Use a segmentation task.")
        outputs = published_channels if task.kind == "published" else task.out_channels
        return SegResNet(in_channels=task.in_channels, out_channels=outputs, **facts, **chosen)

    def recognise(self, source: Mapping[str, Tensor]) -> dict[str, Any]:
        stem, head = source.get("convInit.conv.weight"), source.get(HEAD + "conv.weight")
        facts = {} if stem is None else {"init_filters": stem.shape[0]}
        return facts if head is None else {**facts, "out_channels": head.shape[0]}

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        del card
        state = network.state_dict()
        fresh: dict[str, str] = {}
        skipped: dict[str, str] = {}
        if task.kind != "published":
            fresh = {name: "output layer of the new task" for name in state if name.startswith(HEAD)}
            skipped = {name: "output layer of the published task" for name in source if name.startswith(HEAD)}
        return rename(source, {name: name for name in state}, fresh, skipped)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        del card
        return ("convInit.", "down_layers.")


ADAPTER = SegResNetAdapter()
