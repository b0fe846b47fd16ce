"""Med3D (MedicalNet): 3-D ResNet encoders, with a choice of heads.

Weights by Chen, Ma and Zheng (arXiv:1904.00625), github.com/Tencent/MedicalNet, MIT licence. The names in the file are
the names in our network. The released files are encoders: every head is fresh, except that a file written by the
authors' own fine-tuning script holds their ``conv_seg`` head, which the published network then has too.
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
from harness.networks.med3d_decoders import Med3DClassification, Med3DSegmentation
from harness.networks.med3d_resnet import DEPTHS, Med3DResNet

__all__ = ["ADAPTER"]

_ENCODER = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
_BLOCK = re.compile(r"^layer([1-4])\.(\d+)\.")
_OPTIONS = {"decoder": "unet", "shortcut_gradient": False, "stem": "keep"}


class Med3D(Adapter):
    """The authors' dilated ResNet with a decoder to full resolution, or a linear classifier.

    Options: ``decoder`` (``unet``, ``dense_aspp``, or the authors' public head ``conv_seg``), ``shortcut_gradient``
    (whether shortcut A lets gradients through; the authors' does not) and ``stem`` (what to do when the data have not
    one channel: ``keep`` refuses, ``average``, ``slice``, ``fresh``).
    """

    name = "med3d"
    version = "2"
    output = r"^(decoder\.logits|conv_seg\.6|classifier)\."
    stages = (r"^(conv1|bn1)\.", r"^layer1\.", r"^layer2\.", r"^layer3\.", r"^layer4\.")

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return a `Med3DResNet` with the head that the task needs; see `Adapter.build`."""
        chosen = take_options(self.name, options, _OPTIONS)
        facts = card.architecture
        sizes: dict[str, Any] = {
            "depth": facts["depth"],
            "shortcut": facts["shortcut"],
            "shortcut_gradient": chosen["shortcut_gradient"],
            "base_width": facts.get("base_width", 64),
        }
        if task.kind == "classification":
            return Med3DClassification(in_channels=task.in_channels, num_classes=task.out_channels, **sizes)
        if task.kind == "segmentation":
            sizes |= {"in_channels": task.in_channels, "num_classes": task.out_channels}
            return Med3DSegmentation(decoder=chosen["decoder"], **sizes)
        sizes["in_channels"] = facts["in_channels"]
        if "num_classes" not in facts:
            return Med3DResNet(**sizes)
        return Med3DSegmentation(decoder="conv_seg", num_classes=facts["num_classes"], **sizes)

    def recognise(self, source: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read depth, shortcut type and channels, and the classes of ``conv_seg`` where the file has it."""
        blocks = [0, 0, 0, 0]
        for stage, number in (found.groups() for name in source if (found := _BLOCK.match(name))):
            blocks[int(stage) - 1] = max(blocks[int(stage) - 1], int(number) + 1)
        if not all(blocks):
            return {}
        facts: dict[str, Any] = {"shortcut": "B" if any(".downsample.0." in name for name in source) else "A"}
        bottleneck = any(name.endswith(".conv3.weight") for name in source)
        for depth, published in DEPTHS.items():
            if published == tuple(blocks) and (depth >= 50) == bottleneck:
                facts["depth"] = depth
        if "conv1.weight" in source and source["conv1.weight"].ndim == 5:
            facts["base_width"], facts["in_channels"] = source["conv1.weight"].shape[:2]
        if "conv_seg.6.weight" in source:
            facts["num_classes"] = source["conv_seg.6.weight"].shape[0]
        return facts

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Map every name to itself; heads of a new task are fresh, and said so."""
        del card
        if not isinstance(network, Med3DResNet):
            raise TypeError(f"expected a Med3D network, got {type(network).__name__}")
        state = network.state_dict()
        fresh: dict[str, str] = {}
        skipped: dict[str, str] = {}
        if task.kind != "published":
            fresh = {name: f"head of the new {task.kind} task" for name in state if not name.startswith(_ENCODER)}
            skipped = {name: "head of another task" for name in source if name.startswith("conv_seg.")}
        translation = rename(source, {name: name for name in state}, fresh, skipped)
        if task.kind == "published":
            return translation
        rule = take_options(self.name, task.options, _OPTIONS)["stem"]
        return fit_stem(translation, ["conv1.weight"], task.in_channels, rule)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return the stem and the four stages."""
        del card
        return _ENCODER

    def named_outputs(self, card: ModelCard, network: nn.Module, volume: Tensor) -> dict[str, Tensor]:
        """Return ``maxpool``, ``layer1`` to ``layer4``, and ``logits`` (at 1/4) where the file has the head."""
        del card
        if not isinstance(network, Med3DResNet):
            raise TypeError(f"expected a Med3D network, got {type(network).__name__}")
        return network.named_outputs(volume)


ADAPTER = Med3D()
