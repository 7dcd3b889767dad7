"""Replay: a few images of each old class among the new ones."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.methods.method import Method, Step, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Count


@dataclass(frozen=True)
class Replay(Method[None]):
    """Fine-tuning that may keep some of the old images: between the method that has none and the one that has all.

    Images are drawn at random, as CL2R does (Biondi et al. 2023), not by iCaRL's herding (Rebuffi et al. 2017), and are not
    weighted: a batch holds old and new ones in the proportion in which there are images.

    Attributes:
        old_images_per_class: how many of each old class are kept, its part of the validation included.
        triplet_margin: in units of cosine similarity.
    """

    name: ClassVar[str] = "replay"
    needs: ClassVar[Needs] = Needs(old_images=True)
    old_images_per_class: Count = 20
    triplet_margin: float = 1.0

    def old_images(self) -> int | None:
        """``old_images_per_class``."""
        return self.old_images_per_class

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification`` and ``triplet``."""
        return classification_and_triplet(step, self.triplet_margin)
