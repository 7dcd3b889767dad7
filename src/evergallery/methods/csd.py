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
from evergallery.methods.method import Method, Need, Step


@dataclass(frozen=True)
class CSD(Method):
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
    needs_parent: ClassVar[bool] = True
    reads_old_head: ClassVar[Need] = "needed"
    same_dimension: ClassVar[bool] = True
    triplet_margin: float = 1.0
    logit_weight: float = 1.0
    logit_temperature: float = 2.0
    contrastive_weight: float = 1.0
    contrastive_temperature: float = 0.07
    teacher_only: bool = False

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet``, ``logit distillation`` and ``contrastive distillation``."""
        new, old = step.new, step.parent
        assert step.old_head is not None
        old_classes = step.old_head.classes
        return {
            "classification": new_class_cross_entropy(new.logits, step.labels, old_classes),
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
