"""Joint training: all images, old and new, from scratch."""

from dataclasses import dataclass
from typing import ClassVar

from evergallery.methods.finetune import Finetune
from evergallery.methods.method import Role
from evergallery.methods.needs import Needs


@dataclass(frozen=True)
class Joint(Finetune):
    """The upper bound on recall, and the price that the other methods avoid.

    It needs every image ever seen, and since it starts from scratch its space has nothing in common with the
    parent's: the whole gallery must be extracted again. Its loss is that of fine-tuning.
    """

    name: ClassVar[str] = "joint"
    needs: ClassVar[Needs] = Needs(old_images=True, parent_weights=False)
    role: ClassVar[Role] = "bound"
