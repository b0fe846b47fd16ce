"""What a model family provides: a network for a task, and a pure mapping of a file's tensors onto it."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from harness.cards.model import ModelCard
from harness.checkpoints.matching import Translation
from harness.errors import UserError, unknown_name

__all__ = ["Adapter", "Task", "rename", "take_options"]


@dataclass(frozen=True)
class Task:
    """What the network is asked to do.

    Attributes
    ----------
    kind : {"segmentation", "classification", "published"}
        ``published`` asks for the network exactly as in the file, with its own head.
    in_channels : int
        Image channels the data have.
    out_channels : int
        Output channels: for segmentation one per class with the background (softmax) or one per region (sigmoid).
    patch : tuple of int, optional
        Size of the volumes the network will see, in the network's own axes; some architectures are built for one.
    options : mapping
        The protocol's choices for this family, for `Adapter.translate`; ``build`` sets it to the options it is given.
    """

    kind: Literal["segmentation", "classification", "published"]
    in_channels: int = 1
    out_channels: int = 1
    patch: tuple[int, int, int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Adapter(abc.ABC):
    """A model family. Holds no state; does no I/O.

    Attributes
    ----------
    name : str
        The name of its file, which cards refer to.
    version : str
        Changes whenever the same file and task would give another network.
    output : str
        Pattern of the names of the layers that give a task's logits; a linear probe trains them alone. Without one
        there is no linear probe.
    stages : tuple of str
        Patterns of the names of the encoder's stages, from the input to the bottleneck, for learning rates that fall
        with the distance from the decoder. Without them the encoder is one stage.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    output: ClassVar[str] = "$^"
    stages: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def build(self, card: ModelCard, task: Task, options: Mapping[str, Any]) -> nn.Module:
        """Return the network with fresh initialisation.

        Segmentation networks map (batch, in_channels, a, b, c), in the axes of the card's contract, to logits
        (batch, out_channels, a, b, c) of the same grid, or to a list of such, finest first (deep supervision).

        Parameters
        ----------
        card : ModelCard
            Its ``architecture`` gives the family's own arguments.
        task : Task
            What is asked for.
        options : mapping
            The protocol's choices for this family; an unknown one is a UserError.
        """

    def recognise(self, source: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the architecture arguments that the file itself proves, read from names and shapes.

        They are compared with the card's before anything is built; what the card leaves open (the head of a file that
        may have one) they settle for ``Task("published")``. Whatever a damaged file no longer proves is left out.
        """
        del source
        return {}

    @abc.abstractmethod
    def translate(self, card: ModelCard, source: Mapping[str, Tensor], network: nn.Module, task: Task) -> Translation:
        """Say, in the network's names, what becomes of every tensor of the file. Pure: nothing is copied.

        Of ``network`` the names, shapes and buffers count; its parameters may not have their starting values yet.
        """

    @abc.abstractmethod
    def encoder_prefixes(self, card: ModelCard) -> tuple[str, ...]:
        """Return prefixes of the network's names that make up the pretrained encoder."""

    def published_tensors(self, card: ModelCard, network: nn.Module) -> dict[str, Tensor]:
        """Return what a published file of this network would hold, under its names without the card's prefix.

        The inverse of `translate`, with which the conformance kit forges a file. Override where names, axes or the
        set of tensors in the file are not those of the network.
        """
        del card
        return dict(network.state_dict())

    def named_outputs(self, card: ModelCard, network: nn.Module, volume: Tensor) -> dict[str, Tensor]:
        """Return the published network's outputs under the names used for parity with the authors' own code.

        ``network`` was built with ``Task("published")``. Override where there is more than the final output.
        """
        del card
        return {"out": network(volume)}


def take_options(family: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the protocol's network options over the family's defaults; an unknown name is a UserError."""
    for name in options:
        if name not in defaults:
            raise unknown_name(f"network option of {family}", name, defaults)
    return {**defaults, **options}


def rename(
    source: Mapping[str, Tensor], names: Mapping[str, str], fresh: Mapping[str, str], skipped: Mapping[str, str]
) -> Translation:
    """Build a `Translation` that only renames.

    Parameters
    ----------
    source : mapping of str to Tensor
        The file's tensors.
    names : mapping of str to str
        Name in the network to name in the file; a name that the file lacks is left out (and so reported missing).
    fresh, skipped : mapping of str to str
        As in `Translation`; they win over ``names``.
    """
    kept = {
        target: origin
        for target, origin in names.items()
        if origin in source and target not in fresh and origin not in skipped
    }
    if not kept:
        raise UserError(
            f"None of the {len(source)} entries of the file has a place in this network (the first is "
            f"{next(iter(source), 'none')!r}). The file belongs to another model or layout."
        )
    return Translation(
        tensors={target: source[origin] for target, origin in kept.items()},
        sources=kept,
        fresh=fresh,
        skipped={origin: reason for origin, reason in skipped.items() if origin in source},
    )
