"""Is there anything in the features? A linear classifier on frozen ones, solved exactly, so that nothing is tuned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.pretraining.cubes import CubeSampler
from harness.pretraining.randomness import sample_state
from harness.pretraining.volumes import Volumes, cut

__all__ = ["cells", "labelled_cells", "linear_probe", "on_grid_of", "untrained"]

_RIDGE = 1e-2
_NOT_ANNOTATED = -1


def cells(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Pair every cell of a feature grid with the label at its centre.

    Parameters
    ----------
    features : Tensor of shape (batch, channel, a, b, c)
    labels : Tensor of shape (batch, A, B, C)
        Class indices on the grid of the input.

    Returns
    -------
    features : Tensor of shape (cell, channel), float64
    labels : Tensor of shape (cell,), int64
    """
    grid = (features.shape[2], features.shape[3], features.shape[4])
    coarse = F.interpolate(labels[:, None].double(), grid, mode="nearest-exact")[:, 0]
    return features.movedim(1, -1).flatten(0, 3).double().cpu(), coarse.flatten().long().cpu()


def linear_probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Fit a class-balanced ridge regression onto one-hot labels and return its balanced accuracy.

    Parameters
    ----------
    train, test : tuple of Tensor
        Features (n, channel) and labels (n,). Negative labels count as not annotated.

    Returns
    -------
    float
        Mean over the classes of ``test`` that ``train`` knows of the share classified rightly; chance is one over
        their number. NaN where they share fewer than two classes.
    """
    (features, labels), (probes, truth) = (_annotated(*part) for part in (train, test))
    known = torch.unique(labels)
    shared = [value for value in torch.unique(truth) if value in known]
    if len(shared) < 2:
        return float("nan")
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    x = torch.cat([(features - mean) / scale, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    y = (labels[:, None] == known).double()
    weight = (1 / y.sum(0))[y.argmax(1)] / len(known)  # every class weighs the same, all together 1
    normal = x.T @ (weight[:, None] * x) + _RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(normal, x.T @ (weight[:, None] * y))
    asked = torch.cat([(probes - mean) / scale, torch.ones(len(probes), 1, dtype=torch.float64)], 1)
    answer = known[(asked @ solution).argmax(1)]
    return torch.stack([(answer[truth == value] == value).double().mean() for value in shared]).mean().item()


def labelled_cells(
    encode: Callable[[Tensor], Tensor], sampler: CubeSampler, volumes: Volumes, cases: Sequence[str], count: int
) -> tuple[Tensor, Tensor]:
    """Return `cells` of the same ``count`` random cubes of each labelled case; beyond the scan, labels are negative.

    Parameters
    ----------
    encode : callable
        Maps (1, channel, a, b, c) to features (1, width, ...).
    sampler : CubeSampler
        Says how cubes are drawn.
    volumes : Volumes
        Where the labels are.
    cases : sequence of str
        Ids that have labels.
    count : int
        Cubes per case.
    """
    parts = []
    for case in cases:
        label = volumes[case].label
        assert label is not None
        for turn in range(count):
            cube = sampler.draw_from(case, sample_state(0, f"probe {case}", turn))
            # what lies beyond the scan is nobody's background: told from tissue by any encoder, it would hide the rest
            truth = cut(label[None], cube.start, cube.data.shape[1:], (_NOT_ANNOTATED,))
            parts.append(cells(encode(torch.from_numpy(cube.data)[None]), torch.from_numpy(truth)))
    return torch.cat([features for features, _ in parts]), torch.cat([labels for _, labels in parts])


def on_grid_of(chosen: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Join feature maps of several scales on the grid of one: finer ones averaged, coarser ones repeated.

    Parameters
    ----------
    chosen : Tensor of shape (batch, channel, a, b, c)
        Whose grid.
    maps : sequence of Tensor of shape (batch, channels, ...)
        Their sides are whole multiples of the chosen grid's, or divide them.

    Returns
    -------
    Tensor of shape (batch, all channels, a, b, c)
    """
    grid = (chosen.shape[2], chosen.shape[3], chosen.shape[4])
    joined = [
        F.adaptive_avg_pool3d(each, grid) if each.shape[2] > grid[0] else F.interpolate(each, grid, mode="nearest")
        for each in maps
    ]
    return torch.cat(joined, 1)


def untrained(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a network from a seed of its own, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def _annotated(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return features[labels >= 0], labels[labels >= 0]
