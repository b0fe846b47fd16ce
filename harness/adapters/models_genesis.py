"""Models Genesis: the chest CT U-Net in its PyTorch layout.

Weights by Zhou et al. (arXiv:2004.07882), huggingface.co/MrGiovanni/ModelsGenesis. The names in the file are the
names in our network, so the mapping is the identity; what differs per task is the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.interface import Adapter, Task, rename, take_options
from harness.cards.model import ModelCard
from harness.checkpoints.matching import Translation
from harness.networks.genesis_unet import GenesisClassifier, GenesisUNet

__all__ = ["ADAPTER"]

_HEADS = ("out_tr.", "dense_1.", "dense_2.")


class ModelsGenesis(Adapter):
    """U-Net with a fresh softmax head for segmentation, the encoder with two dense layers for classification.

    Options: ``normalization`` is ``batch`` (as the authors' network behaves) or ``running`` (ordinary batch norm).
    """

    name = "models_genesis"
    version = "2"
    output = r"^(out_tr|dense_2)\."
    stages = (r"^down_tr64\.", r"^down_tr128\.", r"^down_tr256\.", r"^down_tr512\.")

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return a `GenesisUNet` or a `GenesisClassifier`; see `Adapter.build`."""
        chosen = take_options(self.name, options, {"normalization": "batch"})
        width = int(card.architecture.get("base_width", 32))
        if task.kind == "classification":
            return GenesisClassifier(task.out_channels, task.in_channels, width, **chosen)
        outputs = 1 if task.kind == "published" else task.out_channels
        return GenesisUNet(task.in_channels, outputs, width, **chosen)

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Map every name to itself; the head of another task is fresh, and said so."""
        del card
        state = network.state_dict()
        fresh: dict[str, str] = {}
        skipped: dict[str, str] = {}
        if task.kind != "published":
            fresh = {name: f"output layer of the new {task.kind} task" for name in state if name.startswith(_HEADS)}
            skipped = {name: "output layer of the pretext task" for name in source if name.startswith("out_tr.")}
        if task.kind == "classification":
            skipped |= {name: "decoder, not used in classification" for name in source if name.startswith("up_tr")}
        return rename(source, {name: name for name in state}, fresh, skipped)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return the four blocks of the contracting path."""
        del card
        return ("down_tr",)

    def named_outputs(self, card: ModelCard, network: nn.Module, volume: Tensor) -> dict[str, Tensor]:
        """Return ``out`` after the sigmoid that the published network holds inside, and ``bottleneck``."""
        del card
        if not isinstance(network, GenesisUNet):
            raise TypeError(f"expected the published U-Net, got {type(network).__name__}")
        return {"out": torch.sigmoid(network(volume)), "bottleneck": network.encode(volume)[-1]}


ADAPTER = ModelsGenesis()
