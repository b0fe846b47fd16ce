"""An ensemble answers with the mean of its members' probabilities, on windows and on whole scans."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from harness.errors import UserError
from harness.inference.ensemble import Ensemble
from harness.inference.settings import Inference
from harness.inference.sliding_window import predict_labels, predict_logits


class Listed(nn.Conv3d):
    """A network with deep supervision: a list, finest first."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        return [super().forward(x), super().forward(x)[:, :, ::2]]


def members() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Conv3d(1, 3, 1), Listed(1, 3, 1), nn.Conv3d(1, 3, 3, padding=1)]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_it_is_the_mean_of_probabilities(activation: Literal["softmax", "sigmoid"]) -> None:
    def chance(logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(1) if activation == "softmax" else logits.sigmoid()

    nets, x = members(), torch.randn(2, 1, 4, 4, 4) * 3
    answers = [net(x)[0] if isinstance(net, Listed) else net(x) for net in nets]
    mean = torch.stack([chance(answer) for answer in answers]).mean(0)
    found = Ensemble(nets, activation)(x)
    assert torch.allclose(chance(found), mean, atol=1e-6)
    if activation == "softmax":
        assert torch.allclose(found.exp(), mean, atol=1e-6)


def test_certain_members_do_not_underflow() -> None:
    def sure(sign: float) -> nn.Module:
        net = nn.Conv3d(1, 2, 1)
        nn.init.zeros_(net.weight)
        net.bias = nn.Parameter(torch.tensor([sign, -sign]) * 500)
        return net

    logits = Ensemble([sure(1.0), sure(1.0), sure(-1.0)], "softmax")(torch.zeros(1, 1, 1, 1, 1)).flatten()
    assert logits.exp().tolist() == pytest.approx([2 / 3, 1 / 3])


def test_a_scan_goes_through_it_like_through_one_network() -> None:
    nets, volume = members(), torch.randn(1, 12, 10, 9)
    settings = Inference(overlap=0.0)
    one = predict_labels(Ensemble(nets, "softmax"), volume, settings, (4, 5, 3), "cpu")
    # without overlap no blending comes in between, so whole-volume averages are the same
    mean = torch.stack([predict_logits(net, volume, settings, (4, 5, 3), "cpu").softmax(0) for net in nets]).mean(0)
    assert (torch.from_numpy(one) == mean.argmax(0)).all()


def test_what_cannot_be_put_together_is_refused() -> None:
    with pytest.raises(UserError, match="at least one trained network"):
        Ensemble([], "softmax")
    with pytest.raises(UserError, match="networks of one task"):
        Ensemble([nn.Conv3d(1, 3, 1), nn.Conv3d(1, 2, 1)], "softmax")(torch.zeros(1, 1, 2, 2, 2))
