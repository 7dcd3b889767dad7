"""Cross-entropy on cosines with an angular margin (Deng et al. 2019), where the classifier is the head itself."""

import torch
from torch import Tensor
from torch.nn import functional as F


def arcface(logits: Tensor, labels: Tensor, *, scale: float, margin: float = 0.5) -> Tensor:
    """ArcFace: the angle of the true class grows by a margin before the softmax.

    pytorch-metric-learning's version keeps class weights of its own; here they are the head's, which old features and
    later generations need. Where ``θ + m`` would pass π, the linear continuation of the published code is used.

    Args:
        logits: (B, K) of a cosine head: ``scale · cos θ``.
        labels: (B,).
        scale: of the head, > 0.
        margin: m in radians, 0 ≤ m < π.

    Returns:
        A scalar.
    """
    index = torch.arange(len(labels), device=labels.device)
    # Strictly inside, where the derivative of the arc cosine is finite.
    cosines = (logits[index, labels].to(torch.promote_types(logits.dtype, torch.float32)) / scale).clamp(
        -1 + 1e-6, 1 - 1e-6
    )
    angles = cosines.acos()
    m = cosines.new_tensor(margin)
    moved = torch.where(angles + m <= torch.pi, (angles + m).cos(), cosines - m.sin() * m)
    target = (scale * moved).to(logits.dtype)
    return F.cross_entropy(logits.index_put((index, labels), target), labels)
