"""Feature distillation, as CL2R has it (Biondi et al., ACM TOMM 2023, arXiv 2211.09032)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.losses import FeatureDistance, feature_distillation
from evergallery.methods.method import Method, Step, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Weight


@dataclass(frozen=True)
class FeatureDistillation(Method[None]):
    """Every image stays where the parent put it: the plainest way to keep stored vectors searchable.

    CL2R distils on replayed images of old classes, under a simplex head; here on the new images, since there are no
    others. Its weight grows with ``sqrt(new classes / old classes)``; here it is constant.

    Attributes:
        triplet_margin: in units of cosine similarity.
        weight: of the distillation; 5 in CL2R's configurations.
        distance: ``cosine`` as in CL2R, or ``squared`` on raw features; see ``losses.feature_distillation``.
    """

    name: ClassVar[str] = "feature-distillation"
    needs: ClassVar[Needs] = Needs(old_batches=True, same_dimension=True)
    triplet_margin: float = 1.0
    weight: Weight = 5.0
    distance: FeatureDistance = "cosine"

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``feature distillation``."""
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "feature distillation": self.weight
            * feature_distillation(step.new.features, step.parent.features, self.distance),
        }
