"""LCE: learning compatible embeddings (Meng et al., ICCV 2021, arXiv 2108.01958)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.losses import centre_alignment, cosine_boundary
from evergallery.memory import class_means, smallest_cosines
from evergallery.methods.method import Method, Step, Task, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Weight


@dataclass(frozen=True)
class LCE(Method["Centres"]):
    """The rows of the new head lie on the old class centres, and the new features inside the old class boundaries.

    Centres are the parent's, of the classes that the training images show, old ones among them where there are any.
    Left out: the transformations for other dimensions. Changed: no mirrored images in the centres, since some images
    must not be mirrored. Published beside a classification alone.

    Attributes:
        triplet_margin: in units of cosine similarity.
        alignment_weight: of the rows' mean squared error.
        boundary_weight: of the features' violations.
    """

    name: ClassVar[str] = "lce"
    needs: ClassVar[Needs] = Needs(old_outputs=True, same_dimension=True)
    triplet_margin: float = 1.0
    alignment_weight: Weight = 100.0
    boundary_weight: Weight = 1.0

    def begin(self, task: Task) -> "Centres":
        """Old class centres and boundaries."""
        return Centres(task.old_outputs.embeddings, task.labels, task.classes)

    def losses(self, step: Step["Centres"]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet``, ``alignment`` and ``boundary``."""
        state = step.state
        rows = step.head.weight[: step.head.classes]
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "alignment": self.alignment_weight * centre_alignment(rows, state.centres, state.present),
            "boundary": self.boundary_weight
            * cosine_boundary(step.new.features, step.labels, state.centres, state.boundaries),
        }


class Centres(nn.Module):
    """Unit centres (K, D) of old embeddings, and their least cosine with a member of their class (K,)."""

    centres: Tensor
    boundaries: Tensor
    present: Tensor

    def __init__(self, embeddings: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__()
        centres = F.normalize(class_means(embeddings, labels, classes))
        self.register_buffer("centres", centres)
        self.register_buffer("boundaries", smallest_cosines(embeddings, labels, centres))
        self.register_buffer("present", torch.bincount(labels, minlength=classes) > 0)
