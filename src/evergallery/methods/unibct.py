"""UniBCT: towards universal backward-compatible representation learning (Zhang et al., IJCAI 2022, arXiv 2203.01583)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.losses import fit_width
from evergallery.memory import diffused_class_means
from evergallery.methods.method import Method, Step, Task, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Positive, ShareBelowOne, Weight
from evergallery.network import Outputs

REFRESHES = (10 / 35, 20 / 35)
"""Shares of the training after which prototypes are made anew: epochs 10 and 20 of 35."""


@dataclass(frozen=True)
class UniBCT(Method["RefinedPrototypes"]):
    """A frozen classifier of old prototypes, refined by what the new network has learned of their images.

    Images that are alone in the new space, outliers of their class, weigh less in its prototype. Until the first
    refinement there is nothing better than plain means, and the term is off; a training of one epoch never turns it on.

    The form is that of research code found for it. Changed: the graph is normalised by rows, see
    ``memory.diffused_class_means``, and is one of unit embeddings, whose inner products the temperature suits. Published
    beside ArcFace. Features of another width are cut, or padded with zeros.

    Attributes:
        triplet_margin: in units of cosine similarity.
        weight: of the prototype classifier: unit new features by prototypes of their own length, as in that code.
        share: λ, how much of a prototype comes from the neighbours.
        temperature: τ of the graph.
    """

    name: ClassVar[str] = "unibct"
    needs: ClassVar[Needs] = Needs(old_outputs=True, own_passes=2)
    triplet_margin: float = 1.0
    weight: Weight = 1.0
    share: ShareBelowOne = 0.9
    temperature: Positive = 0.05

    def begin(self, task: Task) -> "RefinedPrototypes":
        """Room for the prototypes."""
        old, present = task.old_outputs.features, torch.bincount(task.labels, minlength=task.classes) > 0
        return RefinedPrototypes(old.new_zeros(task.classes, old.shape[1]), present)

    def epoch_begins(self, state: "RefinedPrototypes", task: Task, progress: float, now: Callable[[], Outputs]) -> None:
        """Refine the prototypes when it is time."""
        due = sum(progress >= share for share in REFRESHES)
        if due > int(state.refreshes):
            state.rows.copy_(
                diffused_class_means(
                    now().embeddings,
                    task.old_outputs.features,
                    task.labels,
                    task.classes,
                    share=self.share,
                    temperature=self.temperature,
                )
            )
            state.refreshes.fill_(due)

    def losses(self, step: Step["RefinedPrototypes"]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``prototypes``."""
        state = step.state
        in_old_space = F.normalize(fit_width(step.new.features, state.rows.shape[1]))
        logits = (in_old_space @ state.rows.T).masked_fill(~state.present, -torch.inf)
        return {
            **classification_and_triplet(step, self.triplet_margin),
            "prototypes": self.weight * (state.refreshes > 0) * F.cross_entropy(logits, step.labels),
        }


class RefinedPrototypes(nn.Module):
    """Prototypes in the old space (K, D_old), and how often they were refined."""

    rows: Tensor
    present: Tensor
    refreshes: Tensor

    def __init__(self, rows: Tensor, present: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("present", present)
        self.register_buffer("refreshes", torch.zeros((), dtype=torch.int64))
