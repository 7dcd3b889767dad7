"""CL2R: compatible lifelong learning representations (Biondi, Pernici, Bruni, Del Bimbo; ACM TOMM 2023, arXiv 2211.09032)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.methods.method import Method, Step, Task
from evergallery.methods.needs import Needs
from evergallery.methods.values import Count, PartOfBatch, Weight


@dataclass(frozen=True)
class CL2R(Method["OldClasses"]):
    """CoReS's fixed corners, a few old images, and their features held where the parent has them.

    Three parts that others have alone: ``cores``, which learns from all images from scratch; ``replay``, which holds no
    feature; ``feature-distillation``, which distils on new images.

    Attributes:
        old_images_per_class: how many of each old class are kept, its part of the validation included; published: 20.
        weight: w₀ of the distillation, which grows with ``sqrt(new classes / old classes)``, and stands as it is where no class
            is new; 5 in the published configurations
            (default of its code: 10).
        old_share: of each batch that is old images; published: half. By default a batch holds old and new ones in the
            proportion in which there are images.
    """

    name: ClassVar[str] = "cl2r"
    needs: ClassVar[Needs] = Needs(old_batches=True, old_images=True, same_dimension=True, head="simplex")
    later: ClassVar[Mapping[str, Any]] = {"old_share": None}
    old_images_per_class: Count = 20
    weight: Weight = 5.0
    old_share: PartOfBatch | None = None

    def old_images(self) -> int | None:
        """``old_images_per_class``."""
        return self.old_images_per_class

    def share_of_old_images(self) -> float | None:
        """``old_share``."""
        return self.old_share

    def begin(self, task: Task) -> "OldClasses":
        """Return how many classes are old, and the weight that follows from it."""
        new = task.classes - task.old_classes
        # More images of the same classes, which the published code does not meet: they would not be held at all.
        growth = math.sqrt(new / max(task.old_classes, 1)) if new else 1.0
        return OldClasses(task.old_classes, self.weight * growth)

    def losses(self, step: Step["OldClasses"]) -> dict[str, Tensor]:
        """Terms ``classification``, features not normalised, and ``feature distillation`` on the images of old classes."""
        old = step.labels < step.state.old_classes
        apart = 1 - F.cosine_similarity(step.new.features, step.parent.features)
        held = torch.where(old, apart, 0.0).sum() / old.sum().clamp(min=1)
        return {
            "classification": step.classification(),
            "feature distillation": step.state.weight * held,
        }


class OldClasses(nn.Module):
    """The old classes of CL2R: how many there are, and the weight that follows from it."""

    def __init__(self, old_classes: int, weight: float) -> None:
        super().__init__()
        self.old_classes = old_classes
        self.weight = weight
