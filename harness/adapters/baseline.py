"""Reference networks without published weights: a plain residual U-Net and SegResNet, both as MONAI has them.

The cards ``baseline.prior`` and ``baseline.threshold`` are of this family too, and no networks: see
`harness.training.zero_training`.

Rows from scratch that every pretrained number can be held against: a model whose pretrained arm does not beat a plain
U-Net has gained nothing that matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.networks.nets import SegResNet, UNet
from torch import Tensor, nn

from harness.adapters.interface import Adapter, Task, rename, take_options
from harness.cards.model import ModelCard
from harness.checkpoints.matching import Translation
from harness.errors import UserError

__all__ = ["ADAPTER"]

_OPTIONS = {"dropout": 0.0}
_ENCODERS = {"unet": ("model.0.",), "segresnet": ("convInit.", "down_layers.")}
_HEADS = ("model.2.", "conv_final.2.")


class Baseline(Adapter):
    """The network that a card's ``architecture`` names, for any number of channels; option: ``dropout``."""

    name = "baseline"
    version = "1"
    output = r"^(model\.2|conv_final\.2)\."
    stages = (r"^(model\.0|convInit)\.", r"^down_layers\.")

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return a fresh network; see `Adapter.build`."""
        dropout = float(take_options(self.name, options, _OPTIONS)["dropout"])
        if card.rule is not None:
            raise UserError(f"{card.id} is a rule for whole scans and has no network. Run it with init=other.")
        facts = dict(card.architecture)
        kind = facts.pop("network")
        if task.kind == "classification":
            raise UserError(f"{card.id} segments; it has no classification network. Use a segmentation task.")
        classes = 1 if task.kind == "published" else task.out_channels
        channels = {"in_channels": task.in_channels, "out_channels": classes}
        network: nn.Module
        if kind == "unet":
            network = UNet(spatial_dims=3, **channels, **facts, dropout=dropout)
        else:
            network = SegResNet(spatial_dims=3, **channels, **facts, dropout_prob=dropout or None)
        return network

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Map every name to itself, for weights made here; what gives the classes is fresh."""
        del card
        state = network.state_dict()
        if task.kind == "published":
            return rename(source, {name: name for name in state}, {}, {})
        fresh = {name: "output layer of the new task" for name in state if name.startswith(_HEADS)}
        skipped = {name: "output layer of the old task" for name in source if name.startswith(_HEADS)}
        return rename(source, {name: name for name in state}, fresh, skipped)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return the contracting path; of MONAI's nested U-Net the first level stands for it."""
        return _ENCODERS[str(card.architecture["network"])]


ADAPTER = Baseline()
