"""Contrastive coding: two views of one sample should be alike, and unlike every other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import UserError

__all__ = ["grouped_nt_xent", "nt_xent"]


def nt_xent(embeddings: Tensor, temperature: float = 0.5) -> Tensor:
    """Return the normalised temperature-scaled cross entropy of two views.

    Parameters
    ----------
    embeddings : Tensor of shape (2 N, width)
        Row n and row n + N are two views of one sample.
    temperature : float
        Divides the cosine similarities.

    References
    ----------
    Chen et al., SimCLR, arXiv:2002.05709, equation 1.
    """
    rows = F.normalize(embeddings.float(), dim=1)
    similar = rows @ rows.T / temperature
    similar = similar.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), float("-inf"))
    partner = torch.arange(len(rows), device=rows.device).roll(len(rows) // 2)
    return F.cross_entropy(similar, partner)


def grouped_nt_xent(embeddings: Tensor, views: int, temperature: float = 0.5) -> Tensor:
    """Return the mean of `nt_xent` over groups, which does not depend on how many ranks or parts share a batch.

    Parameters
    ----------
    embeddings : Tensor of shape (n views, width)
        The two views of a sample follow each other.
    views : int
        Rows of a group; views are told apart from those of their own group alone.
    temperature : float
        As for `nt_xent`.

    Raises
    ------
    UserError
        The rows are no whole number of groups.
    """
    if not len(embeddings) or len(embeddings) % views:
        raise UserError(
            f"Contrastive coding tells {views} views apart, and a rank or a part of the batch holds {len(embeddings)}. "
            "Set recipe.contrasted to the scans of one part (published: 2, those of one GPU), or use fewer ranks or a "
            "smaller training.accumulate."
        )
    groups = embeddings.unflatten(0, (-1, views))  # type: ignore[no-untyped-call]
    losses = [nt_xent(torch.cat([group[0::2], group[1::2]]), temperature) for group in groups]
    return torch.stack(losses).mean()
