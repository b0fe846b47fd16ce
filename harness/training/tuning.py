"""Fine-tuning modes at work: what is frozen at which step, learning rates per part, low-rank updates.

The loop asks three things: the groups for the optimiser, `Tuning.enter` before a step, `Tuning.finish` at the end.
"""

from __future__ import annotations

import types
from typing import Any

from torch import nn

from harness.adapters.parts import Parts
from harness.errors import UserError
from harness.training import low_rank
from harness.training.finetuning import Finetuning, LowRank

__all__ = ["Tuning"]


class Tuning:
    """One fine-tuning mode on one network.

    Parameters
    ----------
    network : nn.Module
        Changed in place: frozen where the mode says so, low-rank updates installed.
    settings : Finetuning
        The mode.
    parts : Parts or None
        What is encoder, output and fresh; needed by every mode but plain full fine-tuning.

    Raises
    ------
    UserError
        The mode needs to know the parts and nobody does, or the network has no such part.
    """

    def __init__(self, network: nn.Module, settings: Finetuning, parts: Parts | None) -> None:
        self._network, self._settings = network, settings
        self._frozen: list[nn.Parameter] = []
        self._held: list[nn.Module] = []
        if settings == Finetuning():
            self._parts = Parts(())
            return
        if parts is None:
            raise UserError(
                f"training.finetuning.mode={settings.mode} acts on a model's encoder, and this run trains a network "
                "without one that was loaded or could be. Leave training.finetuning at its defaults."
            )
        self._parts = parts
        if settings.mode == "linear_probe":
            _refuse_no_probe(network, parts)
        if settings.mode == "lora":
            low_rank.install(network, settings.lora or LowRank(), parts)
        if settings.mode != "full":
            self._freeze()

    @property
    def lead(self) -> int:
        """Number of steps at the beginning in which the encoder waits for the decoder."""
        return self._settings.decoder_steps

    @property
    def trainable(self) -> int:
        """Number of parameters that learn at some step, low-rank updates included."""
        return sum(parameter.numel() for group in self.groups(1.0) for parameter in group["params"])

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups; the first has the full learning rate where any parameter has."""
        later = {id(parameter) for parameter in self._frozen} if self.lead else set()
        by_factor: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, parameter in self._network.named_parameters():
            if parameter.requires_grad or id(parameter) in later:
                by_factor.setdefault(self._factor(name), []).append(parameter)
        return [{"params": found, "lr": lr * factor} for factor, found in by_factor.items() if found]

    def enter(self, step: int) -> bool:
        """Bring the network into the state of the update number ``step`` (from 0); tell whether that changed it."""
        begins = bool(self._frozen) and 0 < self.lead <= step
        if begins:
            for parameter in self._frozen:
                parameter.requires_grad_(True)
            for module in self._held:
                del module.train  # the class's own again
                module.training = self._network.training
            self._frozen, self._held = [], []
        return begins

    def finish(self) -> None:
        """Merge low-rank updates: from here on the network has the names and layers it was built with."""
        if self._settings.mode == "lora":
            low_rank.merge(self._network)

    def _factor(self, name: str) -> float:
        if not self._parts.encoder or not self._parts.in_encoder(name) or self._parts.reinitialised(name):
            return 1.0
        if self._settings.stage_decay == 1:
            return self._settings.encoder_lr_factor
        return self._settings.encoder_lr_factor * self._settings.stage_decay ** self._parts.distance(name)

    def _freeze(self) -> None:
        for name, parameter in self._network.named_parameters():
            if self._is_frozen(name):
                parameter.requires_grad_(False)
                self._frozen.append(parameter)
        if not self._frozen:
            raise UserError(
                f"training.finetuning.mode={self._settings.mode} would freeze nothing: no parameter of the encoder "
                "came from the file. Choose mode full."
            )
        for path, module in self._network.named_modules():
            own = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
            inside = self._settings.mode == "linear_probe" or self._parts.in_encoder(f"{path}.")
            if path and inside and all(self._is_frozen(name) for name in own):
                _stay_in_evaluation(module)
                self._held.append(module)

    def _is_frozen(self, name: str) -> bool:
        if ".parametrizations." in name and not name.endswith(".original"):
            return False  # the low-rank update itself
        if self._settings.mode == "linear_probe":
            return not self._parts.in_output(name)
        return self._parts.in_encoder(name) and not self._parts.reinitialised(name)


def _stay_in_evaluation(module: nn.Module) -> None:
    """Keep one module in evaluation mode whoever calls ``train()`` on the network: no statistics move, no dropout."""
    module.training = False
    module.train = types.MethodType(_train_children_only, module)  # type: ignore[method-assign]


def _train_children_only(module: nn.Module, mode: bool = True) -> nn.Module:
    for child in module.children():
        child.train(mode)
    return module


def _refuse_no_probe(network: nn.Module, parts: Parts) -> None:
    names = [name for name, _ in network.named_parameters()]
    if not any(map(parts.in_output, names)):
        raise UserError(
            "training.finetuning.mode=linear_probe trains the layers that give the logits, and the adapter of this "
            "network names none (`output`). Use mode frozen_encoder."
        )
    between = [name for name in names if parts.reinitialised(name) and not parts.in_output(name)]
    if between:
        raise UserError(
            f"A linear probe of this network is not possible: {len(between)} parameters other than the output layer "
            f"did not come from the file (the first is {between[0]}), and would stay random. Use mode frozen_encoder, "
            "which trains them."
        )
