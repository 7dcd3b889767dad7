"""Joint training: all images, old and new, from scratch."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.methods.method import Method, Role, Step, classification_and_triplet
from evergallery.methods.needs import Needs


@dataclass(frozen=True)
class Joint(Method[None]):
    """The upper bound on recall, and the price that the other methods avoid.

    It needs every image ever seen, and since it starts from scratch its space has nothing in common with the
    parent's: the whole gallery must be extracted again.
    """

    name: ClassVar[str] = "joint"
    needs: ClassVar[Needs] = Needs(old_images=True, parent_weights=False)
    role: ClassVar[Role] = "bound"
    triplet_margin: float = 1.0

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification`` and ``triplet``."""
        return classification_and_triplet(step, self.triplet_margin)
