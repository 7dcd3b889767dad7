"""MMD: continual fine-grained retrieval (Chen et al., BMVC 2020, arXiv 2010.08020)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.losses import logit_distillation, maximum_mean_discrepancy
from evergallery.methods.method import Method, Step, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Positive, Weight


@dataclass(frozen=True)
class MMD(Method[None]):
    """Soft labels keep the old classes, and the distribution of the embeddings stays that of the parent's.

    Inferred: both weights, which could not be found; the discrepancy of unit embeddings; the bandwidth. The research
    code that was found has a kernel so wide that it hardly acts, see ``losses.maximum_mean_discrepancy``.

    Attributes:
        triplet_margin: in units of cosine similarity.
        logit_weight: λ₁, of the distillation of logits.
        logit_temperature: its T.
        mmd_weight: λ₂, of the squared discrepancy.
        bandwidth: σ of the Gaussian kernel, in units of distance between unit embeddings.
    """

    name: ClassVar[str] = "mmd"
    needs: ClassVar[Needs] = Needs(old_batches=True, old_head="needed", same_dimension=True)
    triplet_margin: float = 1.0
    logit_weight: Weight = 1.0
    logit_temperature: Positive = 2.0
    mmd_weight: Weight = 1.0
    bandwidth: Positive = 0.5

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet``, ``logit distillation`` and ``discrepancy``."""
        known = step.parent_head.classes
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "logit distillation": self.logit_weight
            * logit_distillation(step.new.logits[:, :known], step.parent.logits[:, :known], self.logit_temperature),
            "discrepancy": self.mmd_weight
            * maximum_mean_discrepancy(step.new.embeddings, step.parent.embeddings, self.bandwidth),
        }
