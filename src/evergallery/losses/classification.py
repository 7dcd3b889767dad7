"""Cross-entropy of a task that follows others."""

from torch import Tensor
from torch.nn import functional as F


def new_class_cross_entropy(logits: Tensor, labels: Tensor, old_classes: int, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over a softmax of all classes, averaged over the images of new classes (CSD's class weights 0, 1).

    Args:
        logits: (B, K), the first ``old_classes`` columns are old classes.
        labels: (B,) columns.
        old_classes: 0 ≤ old_classes ≤ K.
        label_smoothing: ε.

    Returns:
        A scalar; zero, with a graph, where the batch has no image of a new class.
    """
    is_new = labels >= old_classes
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return losses.where(is_new, 0).sum() / is_new.sum().clamp(min=1)
