"""Batch-hard triplets (Hermans et al. 2017), from pytorch-metric-learning."""

from functools import cache
from typing import Any

from torch import Tensor


@cache
def _miner_and_loss(margin: float) -> tuple[Any, Any]:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner

    distance = CosineSimilarity()
    return BatchHardMiner(distance=distance), TripletMarginLoss(margin=margin, distance=distance)


def batch_hard_triplet(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over the non-zero terms of ``max(0, cos(a, n) - cos(a, p) + margin)``, hardest p and n of each anchor a.

    Args:
        embeddings: (B, D), of any norm.
        labels: classes (B,).
        margin: in units of cosine similarity.

    Returns:
        A scalar; zero, with a graph, where no anchor has both a positive and a negative.
    """
    miner, loss = _miner_and_loss(margin)
    value: Tensor = loss(embeddings, labels, miner(embeddings, labels))
    return value
