"""CSD: contrastive supervised distillation (Barletti, Biondi, Pernici, Bruni, Del Bimbo; ICIAP 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.losses import (
    batch_hard_triplet,
    contrastive_distillation,
    logit_distillation,
    new_class_cross_entropy,
)
from evergallery.methods.method import Method, Role, Step
from evergallery.methods.needs import Needs
from evergallery.methods.values import Positive, Weight


@dataclass(frozen=True)
class CSD(Method[None]):
    """New classes without the old images; the parent teaches by its logits and, contrastively, by its embeddings.

    The published code's quirks, mended: its weights ``lambda_kd`` and ``lambda_csd`` are never applied (here they
    are); its teacher runs with gradients and batch statistics (here frozen, in evaluation mode); the best epoch is
    chosen on test images (here on a validation part).

    Attributes:
        triplet_margin: in units of cosine similarity.
        logit_weight: of the distillation of logits.
        logit_temperature: its T.
        contrastive_weight: of the contrastive distillation.
        contrastive_temperature: its τ.
        teacher_only: contrast the student with the teacher alone, not with itself; not published, an ablation.
    """

    name: ClassVar[str] = "csd"
    needs: ClassVar[Needs] = Needs(old_batches=True, old_head="needed", same_dimension=True)
    role: ClassVar[Role] = "central"
    triplet_margin: float = 1.0
    logit_weight: Weight = 1.0
    logit_temperature: Positive = 2.0
    contrastive_weight: Weight = 1.0
    contrastive_temperature: Positive = 0.07
    teacher_only: bool = False

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet``, ``logit distillation`` and ``contrastive distillation``."""
        new, old = step.new, step.parent
        old_classes = step.parent_head.classes
        return {
            "classification": new_class_cross_entropy(new.logits, step.labels, old_classes, step.label_smoothing),
            "triplet": batch_hard_triplet(new.features, step.labels, self.triplet_margin),
            "logit distillation": self.logit_weight
            * logit_distillation(new.logits[:, :old_classes], old.logits[:, :old_classes], self.logit_temperature),
            "contrastive distillation": self.contrastive_weight
            * contrastive_distillation(
                new.embeddings,
                old.embeddings,
                step.labels,
                self.contrastive_temperature,
                teacher_only=self.teacher_only,
            ),
        }
