"""Models Genesis in nnU-Net version 1: the variant pretrained on LUNA16 for nnU-Net users.

Weights by Zhou et al. (arXiv:2004.07882), huggingface.co/MrGiovanni/ModelsGenesis. The names in the file are the names
in our network. The authors' loader prints one line and trains from scratch when a convolution does not fit; here that
is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from harness.adapters.interface import Adapter, Task, rename, take_options
from harness.cards.model import ModelCard
from harness.checkpoints.input_channels import fit_stem
from harness.checkpoints.matching import Translation
from harness.errors import UserError
from harness.networks.nnunet_generic import NNUNetGeneric

__all__ = ["ADAPTER"]

_HEADS = "seg_outputs."
_STEM = "conv_blocks_context.0.blocks.0.conv.weight"
_CONTEXT = re.compile(r"^conv_blocks_context\.(\d+)\.(?:0\.)?blocks\.0\.conv\.weight$")
_OPTIONS = {"pool_kernels": None, "deep_supervision": False, "stem": "keep"}


class ModelsGenesisNNUNet(Adapter):
    """The published U-Net with fresh logits layers.

    Options: ``pool_kernels`` (poolings of the task; transposed convolutions of another size than the file's start
    afresh, as with the authors), ``deep_supervision`` (logits of every scale in training, as nnU-Net trains) and
    ``stem`` (what to do when the data have not one channel: ``keep`` refuses, ``average``, ``slice``, ``fresh``).
    """

    name = "models_genesis_nnunet"
    version = "2"
    output = r"^seg_outputs\."
    stages = tuple(rf"^conv_blocks_context\.{number}\." for number in range(6))

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return an `NNUNetGeneric`; see `Adapter.build`."""
        chosen = take_options(self.name, options, _OPTIONS)
        if task.kind == "classification":
            raise UserError(f"{card.id} has no classification network here. Use a segmentation task.")
        facts = dict(card.architecture)
        if task.kind == "segmentation":
            facts |= {"in_channels": task.in_channels, "num_classes": task.out_channels}
            facts["pool_kernels"] = chosen["pool_kernels"] or facts["pool_kernels"]
        return NNUNetGeneric(deep_supervision=chosen["deep_supervision"], **facts)

    def recognise(self, source: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read poolings, kernels, widths, channels and classes."""
        facts: dict[str, Any] = {}
        ups = [source[f"tu.{number}.weight"] for number in range(len(source)) if f"tu.{number}.weight" in source]
        if ups and all(up.ndim == 5 for up in ups):
            facts["pool_kernels"] = [list(up.shape[2:]) for up in reversed(ups)]
        stages = {int(found[1]): tensor for name, tensor in source.items() if (found := _CONTEXT.match(name))}
        if ups and sorted(stages) == list(range(len(ups) + 1)) and all(t.ndim == 5 for t in stages.values()):
            facts["conv_kernels"] = [list(stages[number].shape[2:]) for number in sorted(stages)]
            facts["base_features"], facts["in_channels"] = stages[0].shape[:2]
        if (head := source.get("seg_outputs.0.weight")) is not None:
            facts["num_classes"] = head.shape[0]
        return facts

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Map every name to itself; logits, and transposed convolutions of another pooling, are fresh, and said so."""
        del card
        state = network.state_dict()
        if task.kind == "published":
            return rename(source, {name: name for name in state}, {}, {})
        fresh = {name: f"logits of the new {task.kind} task" for name in state if name.startswith(_HEADS)}
        skipped = {name: "logits of the pretext task" for name in source if name.startswith(_HEADS)}
        for name in state:
            if name.startswith("tu.") and name in source and source[name].shape[2:] != state[name].shape[2:]:
                fresh[name] = skipped[name] = "the task pools by other factors here"
        translation = rename(source, {name: name for name in state}, fresh, skipped)
        rule = take_options(self.name, task.options, _OPTIONS)["stem"]
        return fit_stem(translation, [_STEM], task.in_channels, rule)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return the contracting path."""
        del card
        return ("conv_blocks_context.",)

    def named_outputs(self, card: ModelCard, network: nn.Module, volume: Tensor) -> dict[str, Tensor]:
        """Return ``bottleneck`` and ``out_logits``."""
        del card
        if not isinstance(network, NNUNetGeneric):
            raise TypeError(f"expected nnU-Net's network, got {type(network).__name__}")
        return network.named_outputs(volume)


ADAPTER = ModelsGenesisNNUNet()
