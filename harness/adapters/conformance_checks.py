"""The checks of the conformance kit. Each returns what it measured, or raises `Violation` with what it found.

A check builds what it needs from fixed seeds; nothing here depends on another check or on published weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters.conformance_forge import REFUSALS, Size, Subject, forge, outputs, sizes, volume
from harness.checkpoints.hashing import state_sha256
from harness.checkpoints.reading import read
from harness.checkpoints.report import LoadReport
from harness.errors import UserError

__all__ = ["CHECKS", "Violation", "saved_bytes"]


class Violation(Exception):  # noqa: N818 - it is a finding, not a fault of the program
    """What a check found wrong."""


def forged_checkpoint(subject: Subject) -> str:
    """Write a file in the published layout, read it, load it, and compare values and answers."""
    built, donor = subject.published(subject.file, seed=2), subject.donor
    report = _report(built.report)
    if report.encoder.total == 0:
        raise Violation(f"no parameter of the network starts with {subject.family.encoder_prefixes(subject.card)}")
    state, wanted = built.network.state_dict(), donor.state_dict()
    filled = [line.name for line in report.lines if line.state in ("loaded", "adapted")]
    other = [name for name in filled if not torch.equal(state[name], wanted[name])]
    if other:
        raise Violation(f"{len(other)} of {len(filled)} tensors hold other values than the file, such as {other[0]}")
    if unused := [line.name for line in report.lines if line.state == "unused"]:
        raise Violation(f"{len(unused)} entries of the file are not used and have no reason, such as {unused[0]}")
    fresh = [line for line in report.lines if line.state == "fresh"]
    said = f"{len(filled)} tensors equal, {report.encoder.total:,} encoder values"
    if fresh:
        reasons = "; ".join(sorted({str(line.reason) for line in fresh}))
        return f"{said}; {len(fresh)} not in the file ({reasons})"
    given = volume(subject.channels, subject.published_patch)
    answers = [subject.family.named_outputs(subject.card, _evaluating(one), given) for one in (built.network, donor)]
    different = [name for name in answers[1] if not torch.equal(answers[0][name], answers[1][name])]
    if different:
        raise Violation(
            f"all tensors agree and the answers do not: {different[0]} depends on something outside the file"
        )
    return f"{said}; outputs {', '.join(answers[0])} equal"


def load_floor(subject: Subject) -> str:
    """Damage the forged file in four ways; each must be refused with an explanation."""
    prefixes = subject.family.encoder_prefixes(subject.card)
    lines = _report(subject.task(subject.file).report).lines
    used = [line for line in lines if line.state in ("loaded", "adapted") and line.name.startswith(prefixes)]
    layout = subject.card.checkpoint
    if layout is None or not used:
        raise Violation("a task loads nothing into the encoder")
    tensors = dict(read(subject.file, layout.weights_key, layout.prefix).tensors)
    names = [str(line.source) for line in used if tensors[str(line.source)].is_floating_point()]
    first, middle, last = names[0], names[len(names) // 2], names[-1]
    spoilt = {
        f"without {first}": _without(tensors, first),
        f"without {last}": _without(tensors, last),
        f"{middle} of another shape": {**tensors, middle: torch.cat([tensors[middle], tensors[middle]])},
        f"{middle} with NaN": {**tensors, middle: torch.full_like(tensors[middle], float("nan"))},
    }
    path = subject.folder / "spoilt"
    for what, content in spoilt.items():
        forge(subject.card, content, path)
        try:
            subject.task(path)
        except UserError:
            continue
        except Exception as error:  # whatever an adapter lets through, it is the finding
            raise Violation(
                f"a file {what} crashes with {type(error).__name__}: {error}, a refusal is wanted"
            ) from error
        raise Violation(f"a file {what} is loaded without complaint")
    return f"{len(spoilt)} damaged files refused; encoder floor {subject.card.floor:g}"


def shapes(subject: Subject) -> str:
    """Ask for several sizes, channels and classes."""
    if not subject.segments:
        return f"no segmentation network; {_classification(subject)}"
    found = [_segmentation(subject, subject.channels, 2, subject.patch)]
    try:  # a short side may be fine beside longer ones, and is far cheaper in networks of many levels
        found.append(_segmentation(subject, subject.channels, 5, _uneven(subject, sizes(subject.card)[0])))
    except Violation:
        found.append(_segmentation(subject, subject.channels, 5, _uneven(subject, subject.patch)))
    try:
        found.append(_segmentation(subject, subject.channels + 1, 3, subject.patch))
    except UserError:
        found.append(f"{subject.channels + 1} channels refused")
    return "; ".join([*found, _classification(subject)])


def gradients(subject: Subject) -> str:
    """Reach every trainable parameter by one training step on two volumes."""
    network = subject.task().network.train()
    _loss(outputs(network, volume(subject.channels, subject.patch, batch=2))).backward()
    trainable = {name: tensor for name, tensor in network.named_parameters() if tensor.requires_grad}
    idle = [name for name, tensor in trainable.items() if tensor.grad is None or not bool(tensor.grad.any())]
    bad = [name for name in trainable.keys() - idle if not bool(torch.isfinite(trainable[name].grad).all())]  # type: ignore[arg-type]
    if bad:
        raise Violation(f"{len(bad)} parameters have NaN or infinite gradients, such as {bad[0]}")
    if idle:
        raise Violation(f"{len(idle)} of {len(trainable)} parameters get no gradient: {_some(idle)}")
    return f"all {len(trainable)} trainable parameters"


def determinism(subject: Subject) -> str:
    """Build, load and answer twice from one seed."""
    pair = [subject.task(seed=3) for _ in range(2)]
    if pair[0].state_sha256 != pair[1].state_sha256:
        raise Violation("two networks built from one seed differ: initialise from torch's global generator")
    if subject.task(subject.file, seed=3).state_sha256 != subject.task(subject.file, seed=3).state_sha256:
        raise Violation("one file loaded twice from one seed gives two networks")
    network, given = pair[0].network.eval(), volume(subject.channels, subject.patch)
    kept = given.clone()
    first, second = _answer(network, given), _answer(network, given)
    if not torch.equal(given, kept):
        raise Violation("the network writes into its input")
    if not torch.equal(first, second):
        raise Violation(f"two answers in evaluation differ by {_gap(first, second):.3g}: something is still random")
    return "same network from one seed; same answer twice"


def eval_train(subject: Subject) -> str:
    """See that evaluation changes nothing and reaches every module, and that training answers finite values."""
    network, given = subject.task().network, volume(subject.channels, subject.patch, batch=2)
    network.eval()
    if stuck := [name for name, module in network.named_modules() if module.training]:
        raise Violation(f"eval() does not reach {_some(stuck)}")
    before = state_sha256(network.state_dict())
    evaluated = _answer(network, given)
    if state_sha256(network.state_dict()) != before:
        raise Violation("answering in evaluation changes parameters or buffers")
    torch.manual_seed(0)
    trained = _answer(network.train(), given)
    if not torch.isfinite(trained).all():
        raise Violation("the answer in training is not finite")
    if trained.shape != evaluated.shape:
        return f"training answers {tuple(trained.shape)}, evaluation {tuple(evaluated.shape)}"
    gap = _gap(trained, evaluated)
    return f"training differs from evaluation by {gap:.3g}" if gap else "training and evaluation answer the same"


def batch_independence(subject: Subject) -> str:
    """Answer for a volume alone as beside another."""
    network, given = subject.task().network.eval(), volume(subject.channels, subject.patch, batch=2)
    alone, beside = _answer(network, given[:1])[0], _answer(network, given)[0]
    gap = _gap(alone, beside)
    if gap > 1e-4 * max(1.0, float(alone.abs().max())):
        raise Violation(f"the answer for a volume changes by {gap:.3g} with what shares its batch")
    return f"largest difference {gap:.2g}"


def half_precision(subject: Subject) -> str:
    """Answer under bfloat16 autocast, finite."""
    network, given = subject.task().network.eval(), volume(subject.channels, subject.patch)
    full = _answer(network, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = _answer(network, given).float()
    if not torch.isfinite(half).all():
        raise Violation("the answer under bfloat16 autocast is not finite")
    return f"bfloat16 finite, off by {_gap(full, half) / max(float(full.abs().max()), 1e-12):.1%} of the largest value"


def export(subject: Subject) -> str:
    """Trace the network with torch.export and compare its answer."""
    network, given = subject.task().network.eval(), volume(subject.channels, subject.patch)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about itself
            exported = torch.export.export(network, (given,)).module()
    except Exception as error:  # the tracer raises whatever the network's code makes it raise
        raise Violation(
            f"torch.export: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        ) from error
    with torch.no_grad():
        gap = _gap(outputs(exported, given)[0], _answer(network, given))
    if gap > 1e-4:
        raise Violation(f"the exported network answers differently, by {gap:.3g}")
    return f"torch.export, largest difference {gap:.2g}"


def parameters(subject: Subject) -> str:
    """Count the published network's parameters and compare with the card."""
    count, stated = _count(subject.published().network), subject.card.parameters
    if count != stated:
        raise Violation(f"the published network has {count} parameters, the card says {stated}")
    return f"{count:,}, as the card says"


def saved_bytes(subject: Subject) -> tuple[int, int]:
    """Measure the parameters, and what one volume of the smallest size keeps for the backward pass, in bytes."""
    network = subject.task().network.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answers = outputs(network, volume(subject.channels, subject.patch, batch=2))
    del answers
    return 4 * _count(network), sum(kept.values()) // 2


CHECKS: dict[str, Callable[[Subject], str]] = {
    check.__name__: check
    for check in (
        forged_checkpoint,
        load_floor,
        shapes,
        gradients,
        determinism,
        eval_train,
        batch_independence,
        half_precision,
        export,
        parameters,
    )
}


def _report(report: LoadReport | None) -> LoadReport:
    assert report is not None
    return report


def _without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {other: tensor for other, tensor in tensors.items() if other != name}


def _evaluating(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def _answer(network: nn.Module, given: Tensor) -> Tensor:
    with torch.no_grad():
        return outputs(network, given)[0]


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def _count(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.parameters())


def _loss(parts: Iterable[Tensor]) -> Any:
    """Weigh every voxel at random, so that no symmetry (softmax, mean of a norm) makes a gradient vanish."""
    generator = torch.Generator().manual_seed(2)
    return sum((part * torch.rand(part.shape, generator=generator)).sum() for part in parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _uneven(subject: Subject, base: Size) -> Size:
    """Return a legal size with three different sides where there is one: swapped axes do not pass."""
    contract = subject.card.contract
    if contract.legal_sizes:
        return max(contract.legal_sizes)
    return base[0], base[1] + contract.divisible_by[1], base[2] + 2 * contract.divisible_by[2]


def _segmentation(subject: Subject, channels: int, classes: int, size: Size) -> str:
    asked = f"{channels}x{'x'.join(map(str, size))} in, {classes} classes"
    network = subject.segmentation(channels, classes, size).eval()
    try:
        answer = _answer(network, volume(channels, size))
    except REFUSALS as error:
        raise Violation(f"{asked}: {(str(error).splitlines() or [''])[0][:200]}") from error
    if tuple(answer.shape) != (1, classes, *size):
        raise Violation(f"{asked}: the answer has shape {tuple(answer.shape)}")
    return asked


def _classification(subject: Subject) -> str:
    try:
        network = subject.classification(4).eval()
    except UserError:
        return "no classification network"
    answer = _answer(network, volume(subject.channels, subject.patch, batch=2))
    if tuple(answer.shape) != (2, 4):
        raise Violation(f"classification into 4 answers shape {tuple(answer.shape)}")
    return "classification"
