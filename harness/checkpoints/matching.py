"""Copying a translated checkpoint into a network, with an account of every tensor and a floor that stops the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harness.checkpoints.report import Fraction, LoadReport, TensorLine
from harness.errors import UserError

__all__ = ["Translation", "load"]


@dataclass(frozen=True)
class Translation:
    """A checkpoint in the network's own names: what an adapter makes of a file. Pure data, nothing copied yet.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        By name in the network, ready to copy.
    sources : mapping of str to str
        Network name to the name in the file, for each of ``tensors``.
    adapted : mapping of str to str
        Network name to the named rule by which the values were changed, for those that were.
    skipped : mapping of str to str
        Name in the file to the reason why it is deliberately not used.
    fresh : mapping of str to str
        Network name to the reason why it deliberately keeps its initialisation.
    """

    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str]
    adapted: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    fresh: Mapping[str, str] = field(default_factory=dict)


def load(
    network: nn.Module,
    source: Mapping[str, Tensor],
    translation: Translation,
    encoder: tuple[str, ...],
    floor: float,
    *,
    keep: bool = False,
) -> LoadReport:
    """Put a translation into a network and account for every tensor on both sides.

    Parameters
    ----------
    network : nn.Module
        Changed in place, and only if the floor is reached.
    source : mapping of str to Tensor
        The file's tensors under their own names, to find what nobody used.
    translation : Translation
        What the adapter made of them.
    encoder : tuple of str
        Prefixes of the network names that make up the encoder; the rest is the decoder.
    floor : float
        Smallest fraction of encoder parameters that must come from the file.
    keep : bool
        Let parameters keep the memory of the tensors that fit as they are, instead of copying them. For a caller that
        drops ``source`` afterwards, and for tensors that were read, not mapped.

    Returns
    -------
    LoadReport
        Everything loaded, adapted, skipped, fresh, missing and unused.

    Raises
    ------
    UserError
        The encoder fraction is below the floor, or a decoder tensor is missing without a stated reason.
    """
    state = network.state_dict()
    lines: list[TensorLine] = []
    accepted: dict[str, Tensor] = {}
    for name, target in state.items():
        line = _judge(name, target, translation)
        lines.append(line)
        if line.state in ("loaded", "adapted"):
            accepted[name] = translation.tensors[name]
    lines += [
        TensorLine(name, "skipped", tuple(tensor.shape), reason=translation.skipped[name], source=name)
        for name, tensor in source.items()
        if name in translation.skipped
    ]
    used = {translation.sources[name] for name in accepted} | set(translation.skipped)
    lines += [
        TensorLine(name, "unused", tuple(tensor.shape), reason="no place in the network", source=name)
        for name, tensor in source.items()
        if name not in used
    ]
    report = LoadReport(
        lines=tuple(lines),
        encoder=_fraction(lines, state, encoder, inside=True),
        decoder=_fraction(lines, state, encoder, inside=False),
        floor=floor,
    )
    _refuse_below_floor(report)
    with torch.no_grad():
        parameters = dict(network.named_parameters(remove_duplicate=False)) if keep else {}
        taken: set[int] = set()
        for name, tensor in accepted.items():
            parameter = parameters.get(name)
            if parameter is not None and tensor.dtype == parameter.dtype and _alone(tensor, taken):
                parameter.data = tensor
            else:
                state[name].copy_(tensor)
    return report


def _alone(tensor: Tensor, taken: set[int]) -> bool:
    """Tell whether nobody else can hold the memory of a tensor, and take it."""
    storage = tensor.untyped_storage()
    if not tensor.is_contiguous() or storage.nbytes() != tensor.nbytes or storage.data_ptr() in taken:
        return False
    taken.add(storage.data_ptr())
    return True


def _judge(name: str, target: Tensor, translation: Translation) -> TensorLine:
    shape = tuple(target.shape)
    if name in translation.fresh:
        return TensorLine(name, "fresh", shape, reason=translation.fresh[name])
    if name not in translation.tensors:
        return TensorLine(name, "missing", shape, reason="not in the file")
    found, origin = translation.tensors[name], translation.sources[name]
    if tuple(found.shape) != shape:
        reason = f"shape {tuple(found.shape)} in the file, {shape} in the network"
        return TensorLine(name, "missing", shape, reason=reason, source=origin)
    if found.is_floating_point() != target.is_floating_point():
        reason = f"type {found.dtype} in the file, {target.dtype} in the network"
        return TensorLine(name, "missing", shape, reason=reason, source=origin)
    if found.is_floating_point() and not _all_finite(found):
        return TensorLine(name, "missing", shape, reason="holds NaN or infinite values", source=origin)
    rule = translation.adapted.get(name)
    if rule is None and found.dtype != target.dtype:
        rule = f"cast from {found.dtype}"
    return TensorLine(name, "adapted" if rule else "loaded", shape, reason=rule, source=origin)


def _all_finite(values: Tensor) -> bool:
    # a sum takes one quick pass and keeps every NaN and infinity; it may overflow, and only then is each value asked
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _fraction(
    lines: list[TensorLine], state: Mapping[str, Tensor], encoder: tuple[str, ...], *, inside: bool
) -> Fraction:
    # counters and position indices are no parameters
    values = {name for name, tensor in state.items() if tensor.is_floating_point()}
    mine = [line for line in lines if line.name in values and line.name.startswith(encoder) == inside]
    mine = [line for line in mine if line.state in ("loaded", "adapted", "missing", "fresh")]
    total = sum(state[line.name].numel() for line in mine)
    loaded = sum(state[line.name].numel() for line in mine if line.state in ("loaded", "adapted"))
    return Fraction(loaded=loaded, total=total)


def _refuse_below_floor(report: LoadReport) -> None:
    missing = [line for line in report.lines if line.state == "missing"]
    if report.encoder.value >= report.floor and not missing:
        return
    first = "; ".join(f"{line.name}: {line.reason}" for line in missing[:3])
    unused = [line.name for line in report.lines if line.state == "unused"]
    raise UserError(
        f"The checkpoint does not fill the network: {report.encoder.loaded} of {report.encoder.total} encoder values "
        f"found ({report.encoder.value:.4f}, need {report.floor:g}), {len(missing)} tensors missing or of another "
        f"shape ({first or 'none'}), {len(unused)} entries of the file unused"
        f"{f' (the first is {unused[0]!r})' if unused else ''}. "
        "Check that file and model belong together; `harness weights inspect FILE` lists what the file holds."
    )
