"""L2: the baseline of BCT (Shen et al., CVPR 2020) and of hot-refresh (Zhang et al., ICLR 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from evergallery.losses import fit_width, unit_mean_squared_error
from evergallery.methods.method import Method, Step, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Weight


@dataclass(frozen=True)
class L2(Method[None]):
    """Squared distance of the unit embeddings to the parent's, beside the loss on the new images.

    OpenCompatible's form, times D: it takes the mean over coordinates too. openBCT's learns from this term alone.
    Features of another width are cut first, as openBCT does, or padded with zeros.

    Attributes:
        triplet_margin: in units of cosine similarity.
        weight: of the squared distance; 10 in the L2 baseline of MixBCT, of the distance itself.
        classification_weight: of the loss on the new images, triplets included; 0 in openBCT.
    """

    name: ClassVar[str] = "l2"
    needs: ClassVar[Needs] = Needs(old_batches=True)
    later: ClassVar[Mapping[str, Any]] = {"classification_weight": 1.0}
    triplet_margin: float = 1.0
    weight: Weight = 10.0
    classification_weight: Weight = 1.0

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``squared distance``."""
        old = step.parent.features
        width = old.shape[1]
        own = classification_and_triplet(step, self.triplet_margin)
        return {
            **{name: self.classification_weight * term for name, term in own.items()},
            "squared distance": self.weight * width * unit_mean_squared_error(fit_width(step.new.features, width), old),
        }
