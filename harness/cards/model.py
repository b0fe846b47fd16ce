"""The model card: one published weight set, where its file lives, and the input its weights expect."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.cards.base import Card, Fact
from harness.errors import UserError

__all__ = [
    "Checkpoint",
    "Contamination",
    "DeclaredException",
    "Disclosure",
    "InputContract",
    "Intensity",
    "ModelCard",
    "Place",
    "Pretraining",
    "WeightFile",
]

Evidence = Literal["stand_in_weights", "synthetic_data", "bundled_sample", "self_pretrained"]


class Place(Fact):
    """One place that serves a file, or the folder of the card itself (``kind: beside_card``)."""

    kind: Literal["huggingface", "google_drive", "zenodo", "url", "beside_card", "form"]
    where: str = Field(description="repository id, drive id, URL, path beside the card, or the page with the form")
    path: str | None = Field(default=None, description="path inside the repository or archive")
    revision: str | None = None
    official: bool = True
    note: str | None = None


class WeightFile(Fact):
    """One file under one of its names; two names of the same bytes are two entries with one hash."""

    name: str
    bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    places: tuple[Place, ...] = ()


class Checkpoint(Fact):
    """The file as it lies on disk: names, container, the key that holds the tensors, the prefix of every name."""

    files: tuple[WeightFile, ...] = Field(min_length=1)
    container: Literal["torch_legacy", "torch_zip", "torch", "hdf5", "safetensors"] = "torch"
    weights_key: str | None = Field(default=None, description="top-level entry with the tensors; null: the top level")
    prefix: str = Field(default="", description="what every tensor name starts with on disk")
    published_head: bool = Field(default=False, description="whether the file holds a usable output layer")


class Intensity(Fact):
    """How voxel values become network inputs."""

    rule: Literal["window", "zscore", "zscore_nonzero", "minmax", "none"]
    window: tuple[float, float] | None = Field(default=None, description="clipping range, in HU for CT")
    to: tuple[float, float] | None = Field(default=None, description="range that the window is mapped to")


class InputContract(Fact):
    """What the weights expect of a volume. Enforced and recorded, never a comment."""

    axes: Literal["xyz", "zyx"] = Field(description="order of the network's spatial axes; x is left-right")
    orientation: str | None = Field(default=None, pattern=r"^[RL][AP][SI]$", description="null: not documented")
    spacing: tuple[float, float, float] | None = Field(default=None, description="mm in x, y, z; null: native")
    modality: tuple[str, ...] = Field(min_length=1)
    channels: tuple[str, ...] = Field(min_length=1, description="ordered names")
    intensity: Intensity
    divisible_by: tuple[int, int, int] = Field(default=(1, 1, 1), description="in the network's axes")
    patch: tuple[int, int, int] | None = Field(default=None, description="published patch in the network's axes")
    legal_sizes: tuple[tuple[int, int, int], ...] | None = Field(default=None, description="null: any divisible size")
    notes: tuple[str, ...] = ()


class Contamination(Fact):
    """Whether the pretraining saw a data set that the weights may now be scored on."""

    dataset: str
    status: Literal["none", "train_overlap", "test_overlap", "unlabeled_overlap", "unknown"]
    evidence: str


class Disclosure(Fact):
    """Whether the authors published a part of how the weights were made, and what shows it."""

    state: Literal["public", "partly", "on request", "not published"]
    evidence: str = Field(min_length=1, description="where it is, or where it says that there is none")


class Pretraining(Fact):
    """What the weights were made from."""

    datasets: tuple[str, ...] = ()
    method: str
    steps: int | None = None
    parent: str | None = Field(default=None, description="the weight set that pretraining itself started from")
    fingerprint: str | None = Field(default=None, description="fingerprint of the volumes, where we pretrained")
    split: Disclosure | None = Field(default=None, description="which cases were seen and held out; null: unknown")
    logs: Disclosure | None = Field(default=None, description="of pretraining or of runs from it; null: unknown")
    notes: tuple[str, ...] = ()


class DeclaredException(Fact):
    """A property of the network that the conformance kit would refuse, declared with its reason."""

    check: str
    reason: str


class ModelCard(Card):
    """One weight set: ``family.variant``."""

    id: str = Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")
    adapter: str = Field(description="the file in harness/adapters (or plug-in) that understands this layout")
    version: str = "1"
    aliases: tuple[str, ...] = ()
    architecture: dict[str, Any] = Field(default_factory=dict, description="arguments of the adapter's network")
    checkpoint: Checkpoint | None = Field(default=None, description="null: no published file; from scratch only")
    floor: float = Field(default=1.0, ge=0, le=1, description="fraction of encoder parameters that must load")
    contract: InputContract
    parameters: int | None = Field(default=None, gt=0, description="count with the published head")
    licence: str
    licence_note: str | None = None
    pretraining: Pretraining | None = None
    contamination: tuple[Contamination, ...] = ()
    parity: str = Field(description="what evidence backs that this is the authors' network")
    evidence: tuple[Evidence, ...] = Field(default=(), description="marks that follow every result of these weights")
    exceptions: tuple[DeclaredException, ...] = ()
    supported: bool = True
    unsupported_reason: str | None = None
    citation: str
    source: str
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The first half of the id: ``models_genesis`` of ``models_genesis.chest_ct``."""
        return self.id.split(".")[0]

    @property
    def variant(self) -> str:
        """The second half of the id."""
        return self.id.split(".")[1]

    @property
    def rule(self) -> str | None:
        """What predicts where there is no network: ``mean_shape``, ``intensity_window``; None for every network."""
        named = self.architecture.get("zero_training")
        return None if named is None else str(named)

    def refuse_start(self, init: str) -> None:
        """Refuse a start that this card does not have: ``other`` is the start of what is no network, and its only one.

        Raises
        ------
        UserError
            A network should start from ``other``, or what is no network from anything else.
        """
        if (self.rule is not None) != (init == "other"):
            said = "is a rule without weights or training" if self.rule else "is a network"
            right = "init=other" if self.rule else "init=pretrained, scratch or released"
            raise UserError(f"{self.id} {said}, so it cannot start as init={init}. Use {right}.")

    def refuse_unsupported(self) -> None:
        """Refuse a weight set that is only listed; to be asked before any data are touched.

        Raises
        ------
        UserError
            The card says that it is not supported, and why.
        """
        if not self.supported:
            raise UserError(f"{self.id} is listed, not supported: {self.unsupported_reason}")
