"""BCT: backward-compatible training (Shen, Xiong, Xia and Soatto, CVPR 2020, arXiv 2003.11942)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError
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
        rows: which ones the old head has: ``joined``, its own and means of the new classes; ``old``, its own alone, which hold
            the images of their classes, as in openBCT where new classes hold old ones; ``means``, those of every class with
            images, which is openBCT's synthesised classifier.
    """

    name: ClassVar[str] = "bct"
    needs: ClassVar[Needs] = Needs(old_outputs=True, old_head="optional")
    later: ClassVar[Mapping[str, Any]] = {"rows": "joined"}
    triplet_margin: float = 1.0
    weight: Weight = 1.0
    rows: Literal["joined", "old", "means"] = "joined"

    def begin(self, task: Task) -> "PseudoOldHead":
        """The old head with the rows that it is to have.

        Raises:
            InputError: ``rows`` is ``old``, and no image is of a class that the old head knows.
        """
        head = task.parent_network.head
        if self.rows == "old" and not (task.labels < head.classes).any():
            raise InputError(
                "With rows=old, bct holds images of classes that the old head knows, and none of these images is of one: leave "
                "out  --option rows=old"
            )
        means = class_means(task.old_outputs.features, task.labels, task.classes)
        present = torch.bincount(task.labels, minlength=task.classes) > 0
        own = 0 if self.rows == "means" else head.classes
        classes = head.classes if self.rows == "old" else task.classes
        return PseudoOldHead(head, means[:classes], present[:classes], own)

    def losses(self, step: Step["PseudoOldHead"]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``influence``."""
        logits = step.state(step.new.features)
        held = step.labels < logits.shape[1]
        targets = step.labels.masked_fill(~held, NOT_HELD)
        influence = F.cross_entropy(logits, targets, ignore_index=NOT_HELD, reduction="sum") / held.sum().clamp(min=1)
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "influence": self.weight * influence,
        }


NOT_HELD = -100
"""In place of the label of an image whose class the old head has no row for."""


class PseudoOldHead(nn.Module):
    """Rows that the old head learned, then class means of the old features (K, D_old); all buffers."""

    rows: Tensor
    exists: Tensor

    def __init__(self, head: Head, means: Tensor, present: Tensor, own: int | None = None) -> None:
        """Take the first ``own`` rows from the head, by default all of its own, and the others from means that are present."""
        super().__init__()
        own = head.classes if own is None else own
        self.kind, self.scale = head.kind, head.scale
        learned = torch.arange(len(means)) < own
        old_rows = head.weight.detach().cpu()[:own].to(means.dtype)
        self.register_buffer("rows", torch.cat([old_rows, means[own:]]))
        self.register_buffer("exists", learned | present)

    def forward(self, features: Tensor) -> Tensor:
        """New features (B, D) to logits (B, K) in the old space; -inf for a new class without images."""
        logits = scores(fit_width(features, self.rows.shape[1]), self.rows, self.kind, self.scale)
        return logits.masked_fill(~self.exists, -torch.inf)
