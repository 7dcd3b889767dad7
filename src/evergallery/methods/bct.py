"""BCT: backward-compatible training (Shen, Xiong, Xia and Soatto, CVPR 2020, arXiv 2003.11942)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.losses import fit_width
from evergallery.memory import class_means
from evergallery.methods.method import Method, Step, Task, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Weight
from evergallery.network import Head
from evergallery.network.heads import scores


@dataclass(frozen=True)
class BCT(Method["PseudoOldHead"]):
    """The old classifier still reads the new features: ``L = L(new head) + λ L(old head, frozen)``.

    The old head knows none of the new classes; for them it gets rows that are the parent's mean features of their
    images (the paper's synthesised classifier). One softmax spans its own rows and these, so an image of an old class is
    held to the row that the old head learned. Features of another width are cut, or padded with zeros.

    Inferred: the rows are scored as the old head scores its own. Published beside a classification alone.

    Attributes:
        triplet_margin: in units of cosine similarity.
        weight: λ of the influence loss.
    """

    name: ClassVar[str] = "bct"
    needs: ClassVar[Needs] = Needs(old_outputs=True, old_head="optional")
    triplet_margin: float = 1.0
    weight: Weight = 1.0

    def begin(self, task: Task) -> "PseudoOldHead":
        """The old head with a row for every new class."""
        means = class_means(task.old_outputs.features, task.labels, task.classes)
        return PseudoOldHead(task.parent_network.head, means, torch.bincount(task.labels, minlength=task.classes) > 0)

    def losses(self, step: Step["PseudoOldHead"]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``influence``."""
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "influence": self.weight * F.cross_entropy(step.state(step.new.features), step.labels),
        }


class PseudoOldHead(nn.Module):
    """The old head's rows, then class means of the old features (K, D_old); all buffers."""

    rows: Tensor
    exists: Tensor

    def __init__(self, head: Head, means: Tensor, present: Tensor) -> None:
        super().__init__()
        self.kind, self.scale = head.kind, head.scale
        known = torch.arange(len(means)) < head.classes
        old_rows = head.weight.detach().cpu()[: head.classes].to(means.dtype)
        self.register_buffer("rows", torch.cat([old_rows, means[head.classes :]]))
        self.register_buffer("exists", known | present)

    def forward(self, features: Tensor) -> Tensor:
        """New features (B, D) to logits (B, K) in the old space; -inf for a new class without images."""
        logits = scores(fit_width(features, self.rows.shape[1]), self.rows, self.kind, self.scale)
        return logits.masked_fill(~self.exists, -torch.inf)
