"""From a model card to a network: built for the task, filled from the file, with the report that proves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.adapters.interface import Adapter, Task
from harness.adapters.parts import Parts
from harness.adapters.registry import adapter
from harness.cards.model import ModelCard
from harness.checkpoints.deferring import DeferredInitialisation
from harness.checkpoints.hashing import output_fingerprint, state_sha256
from harness.checkpoints.matching import load
from harness.checkpoints.reading import read
from harness.checkpoints.report import LoadReport
from harness.errors import UserError
from harness.networks.errors import format_size

__all__ = ["Built", "build", "filled", "fixed_answer"]

_SEED, _SIDES = 5, ((32, 32, 32), (64, 64, 64))


@dataclass(frozen=True)
class Built:
    """A network ready to train or to answer.

    Attributes
    ----------
    network : nn.Module
        On the CPU, float32.
    adapter_version : str
        Version of the family's adapter.
    state_sha256 : str
        Hash of the live parameters and buffers, after loading.
    report : LoadReport or None
        None where nothing was loaded (from scratch).
    parts : Parts or None
        What fine-tuning modes act on; None where the network is not a family's own.
    answer : dict of str to str
        ``input`` and ``output``: what the filled network answers to a fixed volume; empty where nobody asked.
    """

    network: nn.Module
    adapter_version: str
    state_sha256: str
    report: LoadReport | None
    parts: Parts | None = None
    answer: Mapping[str, str] = field(default_factory=dict)

    def loading(self) -> dict[str, Any] | None:
        """Return what ``loading.json`` of a run holds: the report, the hash of the live parameters, the answer."""
        if self.report is None:
            return None
        return {"state_sha256": self.state_sha256, "fingerprint": dict(self.answer), **self.report.to_json()}


def build(
    card: ModelCard, task: Task, options: Mapping[str, Any], weights: Path | None, *, answer: bool = False
) -> Built:
    """Build the network of a card; fill it from ``weights``, or leave it as initialised where that is None.

    What stays fresh is initialised from torch's global generator, which the caller seeds. With ``answer`` the filled
    network is asked about a fixed volume, which takes one forward pass.

    Raises
    ------
    UserError
        The card is listed as not supported, the task's patch is of no legal size, the file cannot be read, is of
        another architecture than the card says, or does not fill the network.
    """
    card.refuse_unsupported()
    _refuse_illegal_size(card, task)
    family = adapter(card.adapter)
    task = replace(task, options=dict(options))
    if weights is None:
        network = family.build(card, task, options)
        return Built(network, family.version, state_sha256(network.state_dict()), None, _parts(family, card))
    network, report = filled(card, task, options, weights)
    fresh = frozenset(line.name for line in report.lines if line.state == "fresh")
    parts, state = _parts(family, card, fresh), state_sha256(network.state_dict())
    return Built(network, family.version, state, report, parts, fixed_answer(network, card, task) if answer else {})


def filled(card: ModelCard, task: Task, options: Mapping[str, Any], weights: Path) -> tuple[nn.Module, LoadReport]:
    """Build the network of a card and fill it, without proof: what `build` does before it hashes.

    Starting values are drawn only for what the file leaves fresh.
    """
    family, layout = adapter(card.adapter), card.checkpoint
    if layout is None:
        raise UserError(f"{card.id} has no published file to read {weights} as; use a card that describes it.")
    raw = read(weights, layout.weights_key, layout.prefix, mapped=False)
    card = _agreed(card, family.recognise(raw.tensors), task, weights)
    with DeferredInitialisation() as held_back:
        network = family.build(card, task, options)
    translation = family.translate(card, raw.tensors, network, task)
    report = load(network, raw.tensors, translation, family.encoder_prefixes(card), card.floor, keep=True)
    held_back.finish(network, without=report.filled)
    return network, report


def _refuse_illegal_size(card: ModelCard, task: Task) -> None:
    """Refuse a patch that the contract rules out, before anything is read or built."""
    if task.patch is None or task.kind == "published":
        return
    contract, given = card.contract, format_size(task.patch)
    if contract.legal_sizes and task.patch not in contract.legal_sizes:
        legal = ", ".join(map(format_size, contract.legal_sizes))
        raise UserError(f"{card.id} takes patches of {legal} voxels, not {given}. Set patches.size to one of them.")
    if any(side % step for side, step in zip(task.patch, contract.divisible_by, strict=True)):
        near = [max(1, round(side / step)) * step for side, step in zip(task.patch, contract.divisible_by, strict=True)]
        raise UserError(
            f"{card.id} takes patches whose sides are multiples of {format_size(contract.divisible_by)} "
            f"({', '.join(contract.axes)}), not {given}. The nearest patches.size is {near}."
        )


def _parts(family: Adapter, card: ModelCard, fresh: frozenset[str] | None = None) -> Parts:
    return Parts(family.encoder_prefixes(card), family.stages, family.output, fresh)


def fixed_answer(network: nn.Module, card: ModelCard, task: Task) -> dict[str, str]:
    """Ask about the same random volume every time, of the smallest size that the network takes.

    Returns
    -------
    dict of str to str
        ``input`` describes the volume, ``output`` is `output_fingerprint`, or says why there is none.
    """
    whole, steps = task.patch or card.contract.patch or _SIDES[-1], card.contract.divisible_by
    multiples = [
        tuple(step * -(-wanted // step) for wanted, step in zip(sides, steps, strict=True)) for sides in _SIDES
    ]
    sizes = [tuple(map(min, whole, size)) for size in multiples]
    problem = ""
    for size in dict.fromkeys([*sizes, whole]):
        volume = torch.rand((1, task.in_channels, *size), generator=torch.Generator().manual_seed(_SEED))
        try:
            with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay where they are
                output = output_fingerprint(network, volume)
        except (UserError, RuntimeError, ValueError, AssertionError) as error:  # too small, or built for one size
            problem = (str(error).splitlines() or [type(error).__name__])[0]
            continue
        return {"input": f"uniform 0 to 1, torch seed {_SEED}, shape {tuple(volume.shape)}", "output": output}
    return {"input": "none", "output": f"not measured: {problem}"}


def _agreed(card: ModelCard, found: Mapping[str, Any], task: Task, weights: Path) -> ModelCard:
    """Refuse a file of another architecture than the card's; let it settle what the card leaves open."""
    stated = card.architecture
    differ = [name for name, value in found.items() if name in stated and _plain(stated[name]) != _plain(value)]
    if differ:
        holds, says = ({name: _plain(facts[name]) for name in differ} for facts in (found, stated))
        raise UserError(
            f"{weights} is not the file that {card.id} describes: by its names and shapes it holds {holds}, the card "
            f"says {says}. Use the model whose card says so (`harness list models`), or another file."
        )
    if task.kind != "published":
        return card
    return card.model_copy(update={"architecture": {**stated, **found}})


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
