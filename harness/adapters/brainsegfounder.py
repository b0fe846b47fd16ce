"""BrainSegFounder and other published Swin UNETR weights: pretext files and fine-tuned ones.

Weights by Cox et al. (doi:10.1016/j.media.2024.103301), github.com/lab-smile/BrainSegFounder; the plain Swin UNETR of
NVIDIA and MONAI comes through the same adapter. A card names the order of patch merging, which the file cannot show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from harness.adapters.interface import Adapter, Task, rename, take_options
from harness.cards.model import ModelCard
from harness.checkpoints.input_channels import fit_stem
from harness.checkpoints.matching import Translation
from harness.errors import UserError
from harness.networks.swin_unetr import SwinSSL, SwinUNETR

__all__ = ["ADAPTER", "published_names"]

_ENCODER = "swinViT."
_PRETEXT = ("rotation_", "contrastive_", "conv.", "convTrans3d.", "norm.")
_OUTPUT = "out.conv."
_STEM = (
    "swinViT.patch_embed.proj.weight",
    "swinViT.patch_embed.proj.bias",
    "encoder1.layer.conv1.conv.weight",
    "encoder1.layer.conv3.conv.weight",
)
_BLOCK = re.compile(r"^swinViT\.layers([1-4])\.0\.blocks\.(\d+)\.")
_PATCH = "patch_embed.proj.weight"
_RULES = {
    "swinViT.swinViT.": (r"^swinViT\.", ""),
    "swin_vit.": (r"^swin_vit\.", "swinViT."),
    "encoder.": (r"^encoder\.(patch_embed\.|layers[1-4]\.0\.)(?:0\.)?", r"swinViT.\1"),
    "": (r"^(?=patch_embed\.|layers[1-4]\.0\.)", "swinViT."),
}
"""Where the patch embedding lies in another layout, and what turns its names into the published."""

_OPTIONS = {
    "stem": "keep",
    "drop_rate": 0.0,
    "attn_drop_rate": 0.0,
    "drop_path_rate": 0.0,
    "gradient_checkpointing": False,
}


class BrainSegFounder(Adapter):
    """Swin UNETR for segmentation; the published network is that or the pretext network, as the file is.

    Options: ``stem`` (what to do when the data have another number of channels than the file: ``keep`` refuses,
    ``average``, ``slice``; ``fresh`` installs a new patch embedding, as the authors' BraTS fine-tuning does even for
    equal numbers), ``drop_rate``, ``attn_drop_rate``, ``drop_path_rate`` and ``gradient_checkpointing``.
    """

    name = "brainsegfounder"
    version = "2"
    output = r"^out\."
    stages = (r"\.patch_embed\.", r"\.layers1\.", r"\.layers2\.", r"\.layers3\.", r"\.layers4\.")

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return a `SwinUNETR` or a `SwinSSL`; see `Adapter.build`."""
        chosen = take_options(self.name, options, _OPTIONS)
        del chosen["stem"]
        facts = dict(card.architecture)
        layout, in_channels, out_channels = facts.pop("layout"), facts.pop("in_channels"), facts.pop("out_channels", 0)
        if task.kind == "classification":
            raise UserError(f"{card.id} has no classification network here. Use a segmentation task.")
        if task.kind == "segmentation":
            return SwinUNETR(in_channels=task.in_channels, out_channels=task.out_channels, **facts, **chosen)
        if layout == "pretext":
            return SwinSSL(in_channels=in_channels, **facts, **chosen)
        return SwinUNETR(in_channels=in_channels, out_channels=out_channels, **facts, **chosen)

    def recognise(self, source: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read layout, depths, heads, window, widths and channels.

        Raises
        ------
        UserError
            The file is of a Swin UNETR with extra layers, which would otherwise load without them.
        """
        names = {name: source[origin] for name, origin in published_names(source).items()}
        extra = [name for name in names if re.match(r"swinViT\.(layers\dc|patch_embed\.norm)\.", name)]
        if extra:
            raise UserError(
                f"The file holds {extra[0]!r}: a Swin UNETR with convolutions before each stage (version 2) or a "
                "normalised patch embedding, which is another network than the published ones. It is not supported."
            )
        blocks, heads = [0, 0, 0, 0], [0, 0, 0, 0]
        windows: set[int] = set()
        for name, tensor in names.items():
            if found := _BLOCK.match(name):
                stage = int(found[1]) - 1
                blocks[stage] = max(blocks[stage], int(found[2]) + 1)
                if name.endswith("relative_position_bias_table") and tensor.ndim == 2:
                    heads[stage] = tensor.shape[1]
                    windows.add((round(tensor.shape[0] ** (1 / 3)) + 1) // 2)  # one row per offset, -6 to 6 thrice
        facts: dict[str, Any] = {}
        if all(blocks):
            facts["depths"] = blocks
            facts["layout"] = "segmentation" if any(name.startswith("decoder1.") for name in names) else "pretext"
        if all(heads):
            facts["num_heads"] = heads
        if len(windows) == 1:
            facts["window_size"] = windows.pop()
        stem, output = names.get(_STEM[0]), names.get("out.conv.conv.weight")
        if stem is not None and stem.ndim == 5:
            facts["feature_size"], facts["in_channels"] = stem.shape[:2]
        if output is not None:
            facts["out_channels"] = output.shape[0]
        return facts

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Bring every name into the published form; what the pretext file has no place for is said.

        Raises
        ------
        UserError
            A stored position index is not that of the window: the file belongs to another attention.
        """
        state = network.state_dict()
        origins = published_names(source)
        fresh: dict[str, str] = {}
        skipped: dict[str, str] = {}
        if task.kind != "published":
            skipped = {origin: "pretext head" for name, origin in origins.items() if name.startswith(_PRETEXT)}
            skipped |= {
                origin: "output of another task" for name, origin in origins.items() if name.startswith(_OUTPUT)
            }
            fresh = {name: f"output of the new {task.kind} task" for name in state if name.startswith(_OUTPUT)}
            if not any(name.startswith("decoder1.") for name in origins):
                fresh |= {name: "not part of pretraining" for name in state if not name.startswith(_ENCODER)}
        for name in (name for name in state if name.endswith("relative_position_index")):
            if name not in origins:
                fresh[name] = "computed from the window"
            elif not _same(source[origins[name]], state[name]):
                raise UserError(
                    f"{origins[name]} in the file is not the position index of a window of "
                    f"{card.architecture.get('window_size', 7)} voxels. The file belongs to another attention, which "
                    "does not compute the same."
                )
        wanted = {name: origin for name, origin in origins.items() if name in state}
        translation = rename(source, wanted, fresh, skipped)
        if task.kind == "published":
            return translation
        rule = take_options(self.name, task.options, _OPTIONS)["stem"]
        return fit_stem(translation, _STEM, task.in_channels, rule)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return the Swin transformer: what pretraining gives."""
        del card
        return (_ENCODER,)

    def named_outputs(self, card: ModelCard, network: nn.Module, volume: Tensor) -> dict[str, Tensor]:
        """Return ``hidden0`` to ``hidden4`` and the outputs: the pretext heads' or ``logits``."""
        del card
        if not isinstance(network, SwinSSL | SwinUNETR):
            raise TypeError(f"expected a Swin network, got {type(network).__name__}")
        return network.named_outputs(volume)


def published_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names of BrainSegFounder's files to the names at hand.

    A file is renamed by one rule as a whole, told from where its patch embedding lies, so that a single odd name is
    never mended in silence. Known layouts: BrainSegFounder's own; ``swinViT.`` doubled, as the ATLAS scripts leave it
    when they put it in place of every ``module.``; NVIDIA's ``model_swinvit.pt``, without it and with ``fc1`` and
    ``fc2``; ``swin_vit.`` of early MONAI; ``encoder.layersN.0.0.`` of MONAI's ``ssl_pretrained_weights.pth``. Each may
    have ``module.`` before every name.

    Parameters
    ----------
    names : iterable of str
        Names in the file, its prefix stripped.

    Returns
    -------
    dict of str to str
        Published name to name at hand; a name that no rule covers stands for itself.

    Examples
    --------
    >>> published_names(["patch_embed.proj.weight", "norm.bias"])
    {'swinViT.patch_embed.proj.weight': 'patch_embed.proj.weight', 'norm.bias': 'norm.bias'}
    """
    given = list(names)
    module = "module." if given and all(name.startswith("module.") for name in given) else ""
    bare = {name: name.removeprefix(module) for name in given}
    places = [name.removesuffix(_PATCH) for name in bare.values() if name.endswith(_PATCH)]
    rule = _RULES.get(places[0]) if len(places) == 1 else None
    if rule is None:
        return {name: origin for origin, name in bare.items()}
    renamed = {re.sub(rule[0], rule[1], name): origin for origin, name in bare.items()}
    if any(".mlp.linear1." in name for name in renamed):
        return renamed
    return {re.sub(r"\.mlp\.fc([12])\.", r".mlp.linear\1.", name): origin for name, origin in renamed.items()}


def _same(found: Tensor, own: Tensor) -> bool:
    return found.shape == own.shape and bool((found == own).all())


ADAPTER = BrainSegFounder()
