"""Contrastive coding: two views of one sample should be alike, and unlike every other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["nt_xent"]


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
