"""LwF: learning without forgetting (Li and Hoiem, ECCV 2016, TPAMI 2018)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.losses import logit_distillation
from evergallery.methods.method import Method, Role, Step, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Positive, Weight


@dataclass(frozen=True)
class LwF(Method[None]):
    """The new images, seen by the parent: its scores of the old classes are kept.

    It keeps decisions between classes and promises nothing about coordinates. Published for classification with a head
    for each task; here one head, whose softmax spans all classes, and triplets beside it, as retrieval papers use it.
    The distillation is a divergence: the cross-entropy of the paper less the teacher's entropy, a constant.

    Attributes:
        triplet_margin: in units of cosine similarity.
        logit_weight: of the distillation.
        logit_temperature: its T.
    """

    name: ClassVar[str] = "lwf"
    needs: ClassVar[Needs] = Needs(old_batches=True, old_head="needed")
    role: ClassVar[Role] = "central"
    triplet_margin: float = 1.0
    logit_weight: Weight = 1.0
    logit_temperature: Positive = 2.0

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``logit distillation``."""
        known = step.parent_head.classes
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "logit distillation": self.logit_weight
            * logit_distillation(step.new.logits[:, :known], step.parent.logits[:, :known], self.logit_temperature),
        }
