"""Fitting a stem to other channel counts: each rule's arithmetic, and that none is applied unasked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.checkpoints.input_channels import fit_stem
from harness.checkpoints.matching import Translation
from harness.errors import UserError


def translation(channels: int) -> Translation:
    weight = torch.randn((4, channels, 2, 2, 2), generator=torch.Generator().manual_seed(channels))
    tensors = {"stem.weight": weight, "stem.bias": torch.randn(4), "deep.weight": torch.randn(4, 4, 2, 2, 2)}
    return Translation(tensors=tensors, sources={name: f"file.{name}" for name in tensors})


def fit(channels: int, wanted: int, rule: str) -> tuple[Tensor, Translation]:
    fitted = fit_stem(translation(channels), ["stem.weight", "stem.bias", "absent.weight"], wanted, rule)
    return fitted.tensors.get("stem.weight", torch.empty(0)), fitted


@pytest.mark.parametrize(("channels", "wanted"), [(1, 4), (4, 1), (4, 2), (2, 3)])
def test_average_answers_equal_channels_as_the_file_did(channels: int, wanted: int) -> None:
    image = torch.randn(1, 1, 6, 6, 6)
    before = torch.nn.functional.conv3d(
        image.expand(-1, channels, -1, -1, -1), translation(channels).tensors["stem.weight"]
    )
    weight, fitted = fit(channels, wanted, "average")
    after = torch.nn.functional.conv3d(image.expand(-1, wanted, -1, -1, -1), weight)
    torch.testing.assert_close(before, after)
    assert fitted.adapted == {
        "stem.weight": f"{channels} input channels averaged into each of {wanted}, scaled by {channels}/{wanted}"
    }


def test_slice_takes_the_first() -> None:
    weight, fitted = fit(4, 3, "slice")
    assert torch.equal(weight, translation(4).tensors["stem.weight"][:, :3])
    assert fitted.adapted["stem.weight"] == "first 3 of 4 input channels"


@pytest.mark.parametrize("rule", ["keep", "average", "slice"])
def test_equal_counts_change_nothing(rule: str) -> None:
    weight, fitted = fit(4, 4, rule)
    assert torch.equal(weight, translation(4).tensors["stem.weight"])
    assert fitted.adapted == {}


def test_fresh_drops_weight_and_bias_and_says_so() -> None:
    _, fitted = fit(4, 4, "fresh")
    assert set(fitted.tensors) == set(fitted.sources) == {"deep.weight"}
    assert set(fitted.fresh) == {"stem.weight", "stem.bias"}
    assert set(fitted.skipped) == {"file.stem.weight", "file.stem.bias"}


@pytest.mark.parametrize(("channels", "wanted", "rule"), [(1, 4, "keep"), (4, 1, "keep"), (1, 2, "slice")])
def test_a_rule_that_cannot_fit_is_refused_with_the_others(channels: int, wanted: int, rule: str) -> None:
    with pytest.raises(
        UserError, match=f"takes {channels} input .* data have {wanted}; stem={rule} cannot fit .*average"
    ):
        fit(channels, wanted, rule)


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'average'"):
        fit(1, 1, "averaged")
