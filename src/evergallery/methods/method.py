"""What every method shares: the step it sees, and what it says about its needs."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from evergallery.losses import batch_hard_triplet
from evergallery.network import Outputs


@dataclass(frozen=True)
class Step:
    """What the networks made of one batch."""

    labels: Tensor
    """(B,) rows of the head: old classes first, in the order in which they came."""
    new: Outputs
    """Of the network that learns."""
    old: Outputs | None = None
    """Of the frozen parent, in evaluation mode and without a graph; None where the method does not ask for it."""

    @property
    def parent(self) -> Outputs:
        """``old``, for methods that declared ``needs_parent``."""
        assert self.old is not None, "only a method with needs_parent reads the parent's outputs"
        return self.old


@dataclass(frozen=True)
class Method(ABC):
    """Hyper-parameters of a way to learn, and its losses.

    A subclass is a frozen dataclass with a ``name``; it knows neither the trainer, nor files, nor devices.
    """

    name: ClassVar[str]
    needs_parent: ClassVar[bool] = False
    """Reads the frozen parent's outputs for the batch."""
    needs_old_images: ClassVar[bool] = False
    """Learns from the images of the old classes too."""
    starts_from_parent: ClassVar[bool] = True
    """The network begins with the parent's weights, not from scratch."""

    @abstractmethod
    def losses(self, step: Step) -> dict[str, Tensor]:
        """Named scalar terms, already weighted; their sum is minimised."""

    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, for the card."""
        return asdict(self)


def classification_and_triplet(step: Step, margin: float) -> dict[str, Tensor]:
    """The loss of a network without a past (CSD's task 0): cross-entropy over all classes, and batch-hard triplets."""
    return {
        "classification": F.cross_entropy(step.new.logits, step.labels),
        "triplet": batch_hard_triplet(step.new.features, step.labels, margin),
    }
