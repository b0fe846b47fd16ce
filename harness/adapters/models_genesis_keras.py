"""Models Genesis: the chest CT U-Net in its Keras layout (HDF5), on our PyTorch network.

The Keras network upsamples by nearest neighbour without weights and uses moving averages with eps 1e-3, so it is not
the network of the PyTorch file: here transposed convolutions with all taps 1 over identical channels stand for the
upsampling, which is the same exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.adapters.interface import Adapter, Task, take_options
from harness.adapters.models_genesis import ModelsGenesis
from harness.cards.model import ModelCard
from harness.checkpoints.matching import Translation
from harness.errors import UserError
from harness.networks.genesis_unet import GenesisClassifier, GenesisUNet

__all__ = ["ADAPTER"]

_EPS = 1e-3  # Keras' default; 1e-5 moves the output by 3e-3
_BLOCKS = ("down_tr64", "down_tr128", "down_tr256", "down_tr512", "up_tr256", "up_tr128", "up_tr64")
_WEIGHTS = {
    "conv": {"kernel": "conv1.weight", "bias": "conv1.bias"},
    "bn": {
        "gamma": "bn1.weight",
        "beta": "bn1.bias",
        "moving_mean": "bn1.running_mean",
        "moving_variance": "bn1.running_var",
    },
}
_LAYER = re.compile(rf"^depth_(\d+)_({'|'.join(_WEIGHTS)})$")
_UP = "upsampling has no weights in Keras; nearest neighbour is written as an identity over channels"
_COUNTER = "Keras keeps no batch counter"


class ModelsGenesisKeras(Adapter):
    """The Keras file: arrays lie at ``model_weights/<layer>/<layer>/<weight>:0``, kernels as (x, y, z, in, out)."""

    name = "models_genesis_keras"
    version = "2"
    output = ModelsGenesis.output
    stages = ModelsGenesis.stages

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return a `GenesisUNet` or `GenesisClassifier` with moving averages and Keras' eps; see `Adapter.build`."""
        chosen = take_options(self.name, options, {"normalization": "running"})
        width = int(card.architecture.get("base_width", 32))
        if task.kind == "classification":
            return GenesisClassifier(task.out_channels, task.in_channels, width, eps=_EPS, **chosen)
        outputs = 1 if task.kind == "published" else task.out_channels
        network = GenesisUNet(task.in_channels, outputs, width, eps=_EPS, **chosen)
        with torch.no_grad():
            for block in (network.up_tr256, network.up_tr128, network.up_tr64):
                _make_nearest(block.up_conv)
        return network

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Map layers in Keras' order onto the blocks; kernels are transposed, heads of another task stay fresh."""
        del card
        state = network.state_dict()
        tensors: dict[str, Tensor] = {}
        sources: dict[str, str] = {}
        adapted: dict[str, str] = {}
        skipped: dict[str, str] = {}
        for path, array in source.items():
            if not path.startswith("model_weights/"):
                skipped[path] = "state of the optimiser"
                continue
            layer, weight = path.split("/")[-2], path.split("/")[-1].split(":")[0]
            target = _target(layer, weight)
            if target is None:
                continue  # reported as unused
            if target.startswith("out_tr.") and task.kind != "published":
                skipped[path] = "output layer of the pretext task"
            elif target not in state:
                skipped[path] = "decoder, not used in classification"
            else:
                is_kernel = weight == "kernel"
                tensors[target] = array.permute(4, 3, 0, 1, 2).contiguous() if is_kernel and array.dim() == 5 else array
                sources[target] = path
                if is_kernel:
                    adapted[target] = "transposed from (x, y, z, in, out)"
        if not tensors:
            raise UserError("No array of the file lies where a Keras Models Genesis file has them (model_weights/…).")
        fresh = {name: _UP for name in state if ".up_conv." in name}
        fresh |= {name: _COUNTER for name in state if name.endswith("num_batches_tracked")}
        if task.kind != "published":
            heads = ("out_tr.", "dense_1.", "dense_2.")
            fresh |= {name: f"output layer of the new {task.kind} task" for name in state if name.startswith(heads)}
        return Translation(tensors, sources, adapted, skipped, fresh)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return the four blocks of the contracting path."""
        del card
        return ("down_tr",)

    def published_tensors(self, card: ModelCard, network: nn.Module) -> dict[str, Tensor]:
        """Return the arrays as Keras lays them out; see `Adapter.published_tensors`."""
        del card
        state = network.state_dict()
        kinds = [(f"depth_{number}_{kind}", kind) for number in range(2 * len(_BLOCKS)) for kind in _WEIGHTS]
        arrays: dict[str, Tensor] = {}
        for layer, kind in [*kinds, ("conv3d_1", "conv")]:
            for weight in _WEIGHTS[kind]:
                if (target := _target(layer, weight)) in state:
                    value = state[str(target)]
                    value = value.permute(2, 3, 4, 1, 0) if weight == "kernel" else value
                    arrays[f"model_weights/{layer}/{layer}/{weight}:0"] = value
        return arrays

    def named_outputs(self, card: ModelCard, network: nn.Module, volume: Tensor) -> dict[str, Tensor]:
        """Return ``out`` after the sigmoid and the output of every second layer, under Keras' layer names."""
        del card
        if not isinstance(network, GenesisUNet):
            raise TypeError(f"expected the published U-Net, got {type(network).__name__}")
        skips = [network.down_tr64(volume)]
        for block in (network.down_tr128, network.down_tr256, network.down_tr512):
            skips.append(block(F.max_pool3d(skips[-1], 2)))
        up, decoded = skips[-1], []
        for expand, skip in zip((network.up_tr256, network.up_tr128, network.up_tr64), skips[2::-1], strict=True):
            up = expand(up, skip)
            decoded.append(up)
        stages = {f"depth_{2 * level + 1}_relu": stage for level, stage in enumerate([*skips, *decoded])}
        return {**stages, "out": torch.sigmoid(network.out_tr(up))}


def _make_nearest(convolution: nn.ConvTranspose3d) -> None:
    """Turn a stride-2 transposed convolution into nearest-neighbour upsampling of every channel."""
    convolution.weight.zero_()
    for channel in range(convolution.in_channels):
        convolution.weight[channel, channel] = 1
    if convolution.bias is not None:
        convolution.bias.zero_()


def _target(layer: str, weight: str) -> str | None:
    """Return the network's name of one array.

    >>> _target("depth_5_conv", "kernel"), _target("conv3d_1", "bias")
    ('down_tr256.ops.1.conv1.weight', 'out_tr.final_conv.bias')
    """
    if found := _LAYER.match(layer):
        block, unit = divmod(int(found[1]), 2)
        name = _WEIGHTS[found[2]].get(weight)
        return f"{_BLOCKS[block]}.ops.{unit}.{name}" if name and block < len(_BLOCKS) else None
    if layer.startswith("conv3d"):  # Keras numbers unnamed layers per session
        return {"kernel": "out_tr.final_conv.weight", "bias": "out_tr.final_conv.bias"}.get(weight)
    return None


ADAPTER = ModelsGenesisKeras()
