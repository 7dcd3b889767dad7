"""Distillation of logits (Hinton et al. 2015; Li and Hoiem, LwF, 2016)."""

from torch import Tensor
from torch.nn import functional as F


def logit_distillation(new: Tensor, old: Tensor, temperature: float = 2.0) -> Tensor:
    """KL( softmax(old / T) || softmax(new / T) ), mean over the batch, without the factor T² (as CSD's code has it).

    Args:
        new: student logits (B, K), of the classes that the teacher knows.
        old: teacher logits (B, K).
        temperature: T > 0.

    Returns:
        A scalar.
    """
    return F.kl_div(
        F.log_softmax(new / temperature, dim=1),
        F.log_softmax(old / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
