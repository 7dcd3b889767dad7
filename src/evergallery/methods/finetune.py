"""Fine-tuning: go on learning with the new images and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from evergallery.losses import metric_loss
from evergallery.methods.method import Method, Role, Step, classification_and_triplet
from evergallery.methods.values import MetricLoss


@dataclass(frozen=True)
class Finetune(Method[None]):
    """Cross-entropy and triplets on the new images, from the parent's weights; also how a first generation learns.

    The baseline that forgets: nothing holds the old categories or the old coordinates.

    Attributes:
        triplet_margin: in units of cosine similarity.
        loss: a metric loss in place of both, see ``losses.metric_loss``: deep metric learning, which leaves the head untrained.
    """

    name: ClassVar[str] = "finetune"
    role: ClassVar[Role] = "baseline"
    later: ClassVar[Mapping[str, Any]] = {"loss": None}
    triplet_margin: float = 1.0
    loss: MetricLoss | None = None

    @property
    def trains_head(self) -> bool:
        """Return whether the head learns, so that a generation after it may learn from its scores."""
        return self.loss is None

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification`` and ``triplet``, or ``metric`` alone."""
        if self.loss is None:
            return classification_and_triplet(step, self.triplet_margin)
        return {"metric": metric_loss(self.loss)(step.new.features, step.labels)}
