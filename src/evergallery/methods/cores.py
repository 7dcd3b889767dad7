"""CoReS: compatible representations via stationarity (Biondi, Pernici, Bruni, Del Bimbo; TPAMI 2023, arXiv 2111.07632)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.methods.method import Method, Step
from evergallery.methods.needs import Needs


@dataclass(frozen=True)
class CoReS(Method[None]):
    """A classifier that never moves: directions of all classes to come are the corners of a simplex from the beginning.

    Generations are compatible because all of them learn under the same corners, so the first one must learn by this
    method too; the parent is asked for nothing but its order of classes. An image of any class is classified among all
    D + 1 corners. Every generation learns from scratch, from all images so far, as published. Without the old images old
    classes are forgotten like in fine-tuning, although their corners stay reserved: ``finetune`` with a simplex head.

    Features that cannot be negative, such as those of a ResNet without a neck, cannot point into every corner: a linear
    neck can.
    """

    name: ClassVar[str] = "cores"
    needs: ClassVar[Needs] = Needs(old_images=True, parent_weights=False, same_dimension=True, head="simplex")

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """The term ``classification``; features are not normalised, as published."""
        return {"classification": step.classification()}
