"""Which parameters of a network are the encoder, its stages and the output: what fine-tuning modes act on."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Parts"]


@dataclass(frozen=True)
class Parts:
    """The division of a network's parameters, by name.

    Attributes
    ----------
    encoder : tuple of str
        Prefixes of the pretrained encoder; the rest is the decoder.
    stages : tuple of str
        Patterns of the encoder's stages from the input on; empty: the encoder is one stage.
    output : str
        Pattern of the layers that give the logits.
    fresh : frozenset of str or None
        Names that kept their initialisation when a file was loaded; None where nothing was loaded.
    """

    encoder: tuple[str, ...]
    stages: tuple[str, ...] = ()
    output: str = "$^"
    fresh: frozenset[str] | None = None

    def in_encoder(self, name: str) -> bool:
        """Tell whether a parameter or module (its name with a final dot) belongs to the encoder."""
        return name.startswith(self.encoder)

    def in_output(self, name: str) -> bool:
        """Tell whether a parameter belongs to a layer that gives the logits."""
        return re.search(self.output, name) is not None

    def reinitialised(self, name: str) -> bool:
        """Tell whether loading a file left this parameter as initialised; False where nothing was loaded."""
        return self.fresh is not None and name in self.fresh

    def distance(self, name: str) -> int:
        """Return how many stages an encoder parameter lies before the decoder: 1 for the deepest stage.

        Raises
        ------
        LookupError
            No stage names the parameter: the adapter's patterns are incomplete.
        """
        if not self.stages:
            return 1
        for number, stage in enumerate(self.stages):
            if re.search(stage, name):
                return len(self.stages) - number
        raise LookupError(f"no stage of the encoder names {name!r}")
