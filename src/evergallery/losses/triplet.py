"""Batch-hard triplets (Hermans et al. 2017)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def batch_hard_triplet(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over the non-zero terms of ``max(0, cos(a, n) - cos(a, p) + margin)``, hardest p and n of each anchor a.

    Args:
        embeddings: (B, D), of any norm.
        labels: classes (B,).
        margin: in units of cosine similarity.

    Returns:
        A scalar; zero, with a graph, where no anchor has both a positive and a negative.
    """
    unit = F.normalize(embeddings)
    cosines = unit @ unit.T
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    has_both = positive.any(1) & (~same).any(1)
    farthest = cosines.masked_fill(~positive, torch.inf).amin(1)
    nearest = cosines.masked_fill(same, -torch.inf).amax(1)
    terms = F.relu((nearest - farthest)[has_both] + margin)
    return terms.sum() / (terms > 0).sum().clamp(min=1)
