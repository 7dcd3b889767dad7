"""Distillation of relations from the parent alone (FECD, Chen et al., IEEE TMM 2022, without its estimation)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.losses import metric_loss, relation_distillation
from evergallery.methods.method import Method, Step
from evergallery.methods.needs import Needs
from evergallery.methods.values import MetricLoss, Positive, Weight


@dataclass(frozen=True)
class RelationDistillation(Method[None]):
    """The similarities within a batch remain what they were for the parent.

    Mutual distillation without the second network and without virtual features. FECD's estimate of earlier generations,
    a random scaling within bounds that were set by hand, is left out.

    Attributes:
        loss: on the new images; see ``losses.metric_loss``.
        weight: of the parent's relations.
        temperature: T of the relations.
    """

    name: ClassVar[str] = "relation"
    needs: ClassVar[Needs] = Needs(old_batches=True)
    loss: MetricLoss = "hard-mining"
    weight: Weight = 10.0
    temperature: Positive = 4.0

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``metric`` and ``old relations``; the current network's relations are the reference, as published."""
        return {
            "metric": metric_loss(self.loss)(step.new.features, step.labels),
            "old relations": self.weight
            * relation_distillation(step.new.embeddings, step.parent.embeddings, self.temperature),
        }
