"""Fitting a stem to another number of input channels, by a rule that the user names and the load report repeats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from harness.checkpoints.matching import Translation
from harness.errors import UserError, unknown_name

__all__ = ["StemRule", "fit_stem"]

StemRule = Literal["keep", "average", "slice", "fresh"]
"""``keep``: the counts must agree. ``average``: every new channel gets the mean kernel of the file's, scaled so that
equal channels give the response they gave before. ``slice``: the file's first channels. ``fresh``: a new stem."""


def fit_stem(translation: Translation, stem: Sequence[str], channels: int, rule: str) -> Translation:
    """Fit the convolutions that see the image to ``channels`` input channels.

    Parameters
    ----------
    translation : Translation
        As it would be for equal counts.
    stem : sequence of str
        Network names of the tensors to fit; those of five axes have the input channels on the second. The others,
        biases, matter to ``fresh`` alone.
    channels : int
        What the network was built for.
    rule : {"keep", "average", "slice", "fresh"}
        See `StemRule`.

    Raises
    ------
    UserError
        The rule is unknown, or the counts differ and it is ``keep`` or slices more channels than there are.
    """
    if rule not in get_args(StemRule):
        raise unknown_name("stem rule", rule, get_args(StemRule))
    present = [name for name in stem if name in translation.tensors]
    if rule == "fresh":
        return _without(translation, present, "a fresh stem was asked for (stem=fresh)")
    tensors, adapted = dict(translation.tensors), dict(translation.adapted)
    for name in present:
        if tensors[name].ndim == 5 and tensors[name].shape[1] != channels:
            tensors[name], adapted[name] = _fit(tensors[name], channels, rule, name)
    return dataclasses.replace(translation, tensors=tensors, adapted=adapted)


def _fit(weight: Tensor, channels: int, rule: str, name: str) -> tuple[Tensor, str]:
    published = weight.shape[1]
    if rule == "slice" and channels < published:
        return weight[:, :channels].clone(), f"first {channels} of {published} input channels"
    if rule == "average":
        mean = weight.mean(dim=1, keepdim=True) * (published / channels)
        return mean.expand(-1, channels, -1, -1, -1).clone(), (
            f"{published} input channels averaged into each of {channels}, scaled by {published}/{channels}"
        )
    raise UserError(
        f"{name} in the file takes {published} input channel(s) and the data have {channels}; stem={rule} cannot fit "
        "that. Choose a rule in the protocol's network options: stem=average, stem=slice (fewer channels, the first), "
        "or stem=fresh (a new stem)."
    )


def _without(translation: Translation, names: Sequence[str], reason: str) -> Translation:
    return dataclasses.replace(
        translation,
        tensors={name: tensor for name, tensor in translation.tensors.items() if name not in names},
        sources={name: origin for name, origin in translation.sources.items() if name not in names},
        fresh={**translation.fresh, **dict.fromkeys(names, reason)},
        skipped={**translation.skipped, **{translation.sources[name]: reason for name in names}},
    )
