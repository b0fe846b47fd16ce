"""The nnU-Net of Models Genesis computes what nnunet 1.7.1 computes."""

from __future__ import annotations

from types import ModuleType

import torch

from harness.networks.nnunet_generic import NNUNetGeneric


def test_the_published_layout_computes_the_authors_outputs(forge: ModuleType) -> None:
    content, stored = forge.manifest("genesis-nnunet"), forge.golden("genesis-nnunet")
    with torch.device("meta"):
        network = NNUNetGeneric(
            in_channels=content["in_channels"],
            num_classes=content["num_classes"],
            pool_kernels=content["pool_op_kernel_sizes"],
            conv_kernels=content["conv_kernel_sizes"],
            base_features=content["base_features"],
            max_features=content["max_features"],
        )
        by_default = NNUNetGeneric()
    ours = [(k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in network.state_dict().items()]
    assert ours == [(entry["name"], tuple(entry["shape"]), entry["dtype"]) for entry in content["entries"]]
    assert [v.shape for v in by_default.state_dict().values()] == [v.shape for v in network.state_dict().values()]
    weights = {name: torch.from_numpy(value) for name, value in forge.checkpoint(content).items()}
    network.load_state_dict(weights, assign=True)
    with torch.inference_mode():
        volume = torch.from_numpy(forge.input_volume(tuple(stored["input_shape"])))
        outputs = network.eval().named_outputs(volume)
    assert set(outputs) == forge.output_names(stored)
    for name, value in outputs.items():
        forge.compare(stored, name, value.numpy(), content["tolerance"])
