"""MIS-FM: PCT-Net and FMUNet, pretrained with Volume Fusion.

Weights by Wang et al. (arXiv:2306.16925), github.com/openmedlab/MIS-FM. The names in the file are the names in our
networks. PyMIC, which the authors train with, keeps whatever fits and drops the rest without a word; here every
tensor that is not used has a reason, and the pretext head goes only where it is asked for.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.interface import Adapter, Task, rename, take_options
from harness.cards.model import ModelCard
from harness.checkpoints.adapting import repeat_input_channel
from harness.checkpoints.matching import Translation
from harness.errors import UserError
from harness.networks.fmunet import FMUNet
from harness.networks.pctnet import PCTNet
from harness.networks.pctnet_attention import SwinLayer

__all__ = ["ADAPTER"]

_LOGITS = re.compile(r"(\.out_conv\d\.conv|^out_layers\.\d)\.2\.(weight|bias)$")
_STEM = re.compile(r"^(embeddings\.\d\.proj|project)\.weight$")
_ENCODERS = {
    "pctnet": ("embeddings.", "pyramid_ct.down", "pyramid_ct.convtrans_e"),
    "fmunet": ("project.", "encoder."),
}


class MISFM(Adapter):
    """The published network with fresh logits layers of the task's class count.

    Options: ``resolution_mode`` (0, 1 or 2; how many of the first levels leave z alone), ``deep_supervision``
    (logits of four scales in training) and ``pretext_head`` (``fresh``, or ``published`` to start from the logits
    layers of the pretext task, as PyMIC does silently whenever the task happens to have as many classes).
    PCT-Net is built for one input size, the task's patch.
    """

    name = "mis_fm"
    version = "2"
    output = _LOGITS.pattern
    stages = (
        r"^embeddings\.\d\.(proj|conv0)\.|^project\.|^encoder\.en_conv0\.",
        r"^embeddings\.\d\.(down1|conv1)\.|^encoder\.(down0|en_conv1)\.",
        r"^embeddings\.\d\.down2\.|^pyramid_ct\.convtrans_e2\.|^encoder\.(down1|en_conv2)\.",
        r"^pyramid_ct\.(down3|convtrans_e3)\.|^encoder\.(down2|en_conv3)\.",
        r"^pyramid_ct\.(down4|convtrans_e4)\.|^encoder\.(down3|en_conv4)\.",
    )

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return a `PCTNet` or an `FMUNet`; see `Adapter.build`."""
        facts = dict(card.architecture)
        network, classes, mode = facts.pop("network"), facts.pop("num_classes"), facts.pop("resolution_mode")
        defaults = {"resolution_mode": mode, "deep_supervision": False, "pretext_head": "fresh"}
        chosen = take_options(self.name, options, defaults)
        if task.kind == "classification":
            raise UserError(f"{card.id} segments; MIS-FM has no classification network. Use a segmentation task.")
        arguments = {
            **facts,
            "in_channels": task.in_channels,
            "num_classes": classes if task.kind == "published" else task.out_channels,
            "deep_supervision": chosen["deep_supervision"],
            "keep_head": task.kind == "published" or _wants_pretext_head(chosen["pretext_head"], task, classes),
        }
        if network == "fmunet":
            return FMUNet(res_mode=chosen["resolution_mode"], **arguments)
        size = task.patch or card.contract.patch
        if size is None:
            raise UserError(f"{card.id} is built for one input size, and neither task nor card gives it. Set a patch.")
        return PCTNet(resolution_mode=chosen["resolution_mode"], input_size=size, **arguments)

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Map every name to itself, and say what stays fresh: logits of another task, biases of a shrunken window."""
        if not isinstance(network, PCTNet | FMUNet):
            raise TypeError(f"expected PCT-Net or FMUNet, got {type(network).__name__}")
        state = network.state_dict()
        fresh: dict[str, str] = {}
        skipped: dict[str, str] = {}
        if not network.keep_head:
            fresh |= {name: f"logits of the new {task.kind} task" for name in state if _LOGITS.search(name)}
            skipped |= {name: "logits of the pretext task" for name in source if _LOGITS.search(name)}
        unfilled = _window_entries(network, source)
        tables = [name for name in unfilled if name.endswith("bias_table")]
        if tables and task.kind == "published":
            raise UserError(
                f"{card.id} cannot answer as published at this input size: {unfilled[tables[0]]}, so that "
                f"{len(tables)} bias tables of the file do not fit. Give a larger input, such as {card.contract.patch}."
            )
        fresh |= unfilled
        skipped |= unfilled
        translation = rename(source, {name: name for name in state}, fresh, skipped)
        return _with_stem(translation, card, network.in_channels)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return the contracting half, the bottleneck included."""
        return _ENCODERS[card.architecture["network"]]

    def named_outputs(self, card: ModelCard, network: nn.Module, volume: Tensor) -> dict[str, Tensor]:
        """Return ``out0`` to ``out3`` and ``bottleneck``, for PCT-Net also ``embed_x2``."""
        del card
        if not isinstance(network, PCTNet | FMUNet):
            raise TypeError(f"expected PCT-Net or FMUNet, got {type(network).__name__}")
        return network.named_outputs(volume)


def _wants_pretext_head(choice: object, task: Task, published_classes: int) -> bool:
    if choice not in ("fresh", "published"):
        raise UserError(f"pretext_head is {choice!r}; it is 'fresh' or 'published'.")
    if choice == "published" and task.out_channels != published_classes:
        raise UserError(
            f"pretext_head=published needs {published_classes} output channels, as the file has; the task has "
            f"{task.out_channels}. Leave pretext_head=fresh."
        )
    return choice == "published"


def _window_entries(network: nn.Module, source: Mapping[str, Tensor]) -> dict[str, str]:
    """Name the attention entries that the file need not or cannot give, with the reason.

    Raises
    ------
    UserError
        The file gives a position index other than the network's: it belongs to another attention.
    """
    reasons: dict[str, str] = {}
    for path, layer in network.named_modules():
        if not isinstance(layer, SwinLayer):
            continue
        for number, block in enumerate(layer.blocks):
            table, index = (f"{path}.blocks.{number}.attn.relative_position_{part}" for part in ("bias_table", "index"))
            own = block.get_buffer("attn.relative_position_index")
            if layer.window < layer.full_window:
                reason = f"the small input shrinks this window from {layer.full_window} to {layer.window} voxels"
                reasons |= {table: reason, index: reason}
            elif index not in source:
                reasons[index] = "computed from the window size"
            elif source[index].shape == own.shape and not torch.equal(source[index], own):
                raise UserError(
                    f"{index} in the file differs from the authors' index for a window of {layer.window} voxels. "
                    "The file belongs to another version of PCT-Net, whose attention does not compute the same."
                )
    return reasons


def _with_stem(translation: Translation, card: ModelCard, channels: int) -> Translation:
    if channels == len(card.contract.channels):
        return translation
    tensors, adapted = dict(translation.tensors), dict(translation.adapted)
    for name in filter(_STEM.search, translation.tensors):
        if tensors[name].ndim == 5 and tensors[name].shape[1] == 1:  # any other shape is refused when it is matched
            tensors[name], adapted[name] = repeat_input_channel(tensors[name], channels)
    return dataclasses.replace(translation, tensors=tensors, adapted=adapted)


ADAPTER = MISFM()
