"""L2: the baseline of BCT (Shen et al., CVPR 2020) and of hot-refresh (Zhang et al., ICLR 2022)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evergallery.losses import fit_width, unit_mean_squared_error
from evergallery.methods.method import Method, Step, classification_and_triplet


@dataclass(frozen=True)
class L2(Method):
    """Mean squared error of the unit embeddings to the parent's, beside the loss on the new images.

    OpenCompatible's form; openBCT's learns from this term alone. Features of another width are cut first, as openBCT
    does, or padded with zeros.

    Attributes:
        triplet_margin: in units of cosine similarity.
        weight: 10 in the L2 baseline of MixBCT. The error is a mean over coordinates too: 2 / D of the cosine distance.
    """

    name: ClassVar[str] = "l2"
    needs_parent: ClassVar[bool] = True
    triplet_margin: float = 1.0
    weight: float = 10.0

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``squared error``."""
        old = step.parent.features
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "squared error": self.weight * unit_mean_squared_error(fit_width(step.new.features, old.shape[1]), old),
        }
