"""Fine-tuning: go on learning with the new images and nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.methods.method import Method, Role, Step, classification_and_triplet


@dataclass(frozen=True)
class Finetune(Method[None]):
    """Cross-entropy and triplets on the new images, from the parent's weights; also how a first generation learns.

    The baseline that forgets: nothing holds the old categories or the old coordinates.
    """

    name: ClassVar[str] = "finetune"
    role: ClassVar[Role] = "baseline"
    triplet_margin: float = 1.0

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification`` and ``triplet``."""
        return classification_and_triplet(step, self.triplet_margin)
