"""``harness adapter new``: an adapter, its card and its test, to start from. They conform as they are."""

from __future__ import annotations

import re
from pathlib import Path

from harness.adapters.registry import names
from harness.errors import UserError
from harness.files import write_text

__all__ = ["scaffold"]


def scaffold(name: str, folder: Path) -> list[Path]:
    """Write ``NAME.py``, ``NAME.example.yaml`` and ``test_NAME.py``.

    Parameters
    ----------
    name : str
        Of the adapter and of the family that its cards' ids start with.
    folder : Path
        Made where it does not exist; no file in it is overwritten.

    Returns
    -------
    list of Path
        The three files.

    Raises
    ------
    UserError
        The name cannot be a module's, is taken, or a file is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name!r} cannot name an adapter: use lower-case letters, digits and _, a letter first.")
    if name in names():
        raise UserError(f"There is an adapter called {name!r} already. Choose another name.")
    words = {"@NAME@": name, "@CLASS@": "".join(part.capitalize() for part in name.split("_"))}
    files = {f"{name}.py": _ADAPTER, f"{name}.example.yaml": _CARD, f"test_{name}.py": _TEST}
    for file in files:
        if (folder / file).exists():
            raise UserError(f"{folder / file} is there already. Name another folder with --out, or delete it.")
    written = []
    for file, text in files.items():
        for mark, word in words.items():
            text = text.replace(mark, word)
        write_text(folder / file, text)
        written.append(folder / file)
    return written


_ADAPTER = '''"""@CLASS@: say whose network this is, where its weights are and under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from harness.adapters.interface import Adapter, Task, rename, take_options
from harness.cards.model import ModelCard
from harness.checkpoints.matching import Translation
from harness.errors import UserError

__all__ = ["ADAPTER"]


class @CLASS@Network(nn.Module):
    """Replace this by the published network, with the names of its file."""

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv3d(in_channels, width, kernel_size=3, padding=1),
            nn.InstanceNorm3d(width, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv3d(width, 2 * width, kernel_size=2, stride=2),
            nn.ReLU(inplace=True),
        )
        self.decoder = nn.ConvTranspose3d(2 * width, width, kernel_size=2, stride=2)
        self.head = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, a, b, c) to logits (batch, out_channels, a, b, c)."""
        logits: Tensor = self.head(self.decoder(self.encoder(x)))
        return logits


class @CLASS@(Adapter):
    """What the network is for each task, and what becomes of every tensor of the file."""

    name = "@NAME@"
    version = "1"

    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return the network with fresh initialisation; see `Adapter.build`."""
        take_options(self.name, options, {})  # name the family's options and their defaults here
        if task.kind == "classification":
            raise UserError(f"{card.id} segments; it has no classification network. Use a segmentation task.")
        outputs = card.architecture["out_channels"] if task.kind == "published" else task.out_channels
        return @CLASS@Network(task.in_channels, outputs, card.architecture["width"])

    def recognise(self, source: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read what names and shapes prove; a file that contradicts the card is refused."""
        first = source.get("encoder.0.weight")
        return {} if first is None else {"width": first.shape[0]}

    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Map every name to itself; the head of another task is fresh, and said so."""
        del card
        state = network.state_dict()
        fresh: dict[str, str] = {}
        skipped: dict[str, str] = {}
        if task.kind != "published":
            fresh = {name: f"output layer of the new {task.kind} task" for name in state if name.startswith("head.")}
            skipped = {name: "output layer of the published task" for name in source if name.startswith("head.")}
        return rename(source, {name: name for name in state}, fresh, skipped)

    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return what pretraining gives."""
        del card
        return ("encoder.",)


ADAPTER = @CLASS@()
'''

_CARD = """# One card per weight set. Every key is explained in harness/cards/model.py.
id: @NAME@.example
title: "@CLASS@: which network, pretrained on what"
adapter: @NAME@
architecture: {width: 8, out_channels: 2}
parameters: 2330
checkpoint:
  container: torch  # or torch_legacy, hdf5, safetensors
  weights_key: state_dict  # null where the tensors lie at the top level
  prefix: "module."  # what every name starts with on disk
  published_head: true
  files:
    - name: "@NAME@.pth"  # add bytes, sha256 and places where they are published
floor: 1.0
contract:
  axes: xyz
  orientation: null  # null: not documented
  spacing: null  # null: native
  modality: [CT]
  channels: [CT]
  intensity: {rule: window, window: [-1000, 1000], to: [0, 1]}
  divisible_by: [2, 2, 2]
licence: say which
parity: "none yet: compare with the authors' code by `harness adapter forward`"
exceptions: []  # - {check: batch_independence, reason: ...} for what the conformance kit should not refuse
citation: say which paper
source: say which repository
"""

_TEST = '''"""The adapter @NAME@ conforms, and its card declares whatever does not."""

from __future__ import annotations

from pathlib import Path

from harness.adapters.conformance import check


def test_every_card_conforms() -> None:
    for report in check("@NAME@", cards=[Path(__file__).parent]):
        assert not report.failures, report.text()
'''
