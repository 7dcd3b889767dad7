"""Evergreen: new categories without the old images, in a space that the old vectors still live in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.losses import (
    batch_hard_triplet,
    contrastive_distillation,
    feature_distillation,
    fit_width,
)
from evergallery.memory import Scatter, ScatterTrial, best_emphasis, class_means, discriminant_whitening, emphasis_ranks
from evergallery.methods.method import Method, Role, Solution, Step, Task
from evergallery.methods.needs import Needs
from evergallery.methods.values import PartOfTheWay, Positive, Weight


@dataclass(frozen=True)
class Evergreen(Method["UnitPrototypes"]):
    """CSD's contrast, stronger, around images that stay where the parent put them, among prototypes of every class.

    Each paper lacks what another has. CSD's contrast binds classes across generations but lets single images wander;
    mutual distillation keeps relations, which a rotation of the space leaves as they are, so that old vectors are lost;
    Dual-Tuning's prototypes hold the space but want new images of the old classes. Here every image is held by its own
    old embedding (feature distillation), its class by the parent's embeddings of the batch (contrastive distillation),
    and classes keep their distance from those that are gone by the prototypes that the parent remembers, whose drift
    was followed. Distillation of logits, which says the same more coarsely, is left out: it cost recall here.

    An anchor to the parent alone lets each update drift a little, and many updates drift far. So from the second update
    on, images are held by the embedding of the root as well: the first generation of the line that this method carried
    on, whose vectors are the oldest in the gallery; and the finished weights are averaged with the parent's.

    What is served has two parts, the embedding of the root and that of the network that learned (``expansion``): a query is
    compared with the root's vectors by the first, which never changes, and with those of its own kind by both.

    It needs neither the parent's head nor its images. Features of another width are cut, or padded with zeros.

    Where the backbone is frozen nothing of this has to be learned by steps: the neck is solved from the second moments of
    the features of all images so far, which the lineage keeps in place of the images (``solve``). What it maps stays close
    to the backbone's own features, so that vectors of the untouched network, and of each generation since, stay searchable.

    Attributes:
        triplet_margin: in units of cosine similarity.
        contrastive_weight: of the contrastive distillation.
        contrastive_temperature: its τ.
        anchor_weight: of the feature distillation. More keeps old vectors better and learns less.
        root_weight: of the same to the root, where that is not the parent itself.
        new_share: how far the embedder goes from the parent's weights to the trained ones, where the parent is not the
            root.
        prototype_weight: of the cross-entropy over the prototypes.
        prototype_scale: of cosines in it.
        expansion: serve the root's embeddings beside those of the network that learns. It costs a second network and as many
            dimensions more; without it, an update on images of another kind can lose the old vectors.
        shrinkage: of the whitening of a frozen backbone's features; see ``discriminant_whitening``.
        emphasis: of the known classes in it; ``None`` chooses it on held-out parts of the new images.
    """

    name: ClassVar[str] = "evergreen"
    needs: ClassVar[Needs] = Needs(old_batches=True, old_outputs=True, root=True, closed_form=True)
    role: ClassVar[Role] = "own"
    triplet_margin: float = 1.0
    contrastive_weight: Weight = 6.0
    contrastive_temperature: Positive = 0.07
    anchor_weight: Weight = 30.0
    root_weight: Weight = 30.0
    new_share: PartOfTheWay = 0.5
    prototype_weight: Weight = 1.0
    prototype_scale: Positive = 16.0
    expansion: bool = True
    shrinkage: Positive = 0.2
    emphasis: Weight | None = None

    def solve(
        self, scatter: Scatter, trials: Callable[[], Sequence[ScatterTrial]], earlier: Mapping[str, Any]
    ) -> Solution:
        """The discriminant whitening of the features of all images of the lineage.

        Where the emphasis is chosen, the trials of all tasks so far count alike: one task alone has few images.
        """
        if self.emphasis is not None:
            whitening = discriminant_whitening(scatter, self.shrinkage, self.emphasis)
            return Solution(*whitening, {"emphasis": self.emphasis})
        tasks = int(earlier.get("tasks", 0))
        ranks = emphasis_ranks(trials(), self.shrinkage)
        if tasks:
            ranks = (tasks * torch.tensor(earlier["ranks"], dtype=ranks.dtype) + ranks) / (tasks + 1)
        emphasis = best_emphasis(ranks)
        chosen = {"emphasis": emphasis, "tasks": tasks + 1, "ranks": [round(rank, 6) for rank in ranks.tolist()]}
        return Solution(*discriminant_whitening(scatter, self.shrinkage, emphasis), chosen)

    def weight_share(self, *, carries_on: bool) -> float:
        """Part of the way from the second update on: what nine updates would add up to is averaged away."""
        return self.new_share if carries_on else 1.0

    def begin(self, task: Task) -> "UnitPrototypes":
        """Unit prototypes in the parent's space: of the new images' classes, and of those it remembers."""
        vectors = F.normalize(class_means(task.old_outputs.embeddings, task.labels, task.classes))
        present = torch.bincount(task.labels, minlength=task.classes) > 0
        if task.memory.means:
            classes, remembered = task.memory.prototypes()
            vectors[classes], present[classes] = remembered.to(vectors), True
        return UnitPrototypes(vectors, present)

    def losses(self, step: Step["UnitPrototypes"]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet``, ``contrastive distillation``, ``anchor``, ``prototypes``, perhaps ``root``."""
        new, old, state, labels = step.new, step.parent, step.state, step.labels
        in_old_space = F.normalize(fit_width(new.features, old.features.shape[1]))
        to_prototypes = self.prototype_scale * in_old_space @ state.vectors.T
        terms = {
            "classification": step.classification(),
            "triplet": batch_hard_triplet(new.features, labels, self.triplet_margin),
            "contrastive distillation": self.contrastive_weight
            * contrastive_distillation(in_old_space, old.embeddings, labels, self.contrastive_temperature),
            "anchor": self.anchor_weight * feature_distillation(in_old_space, old.embeddings),
            "prototypes": self.prototype_weight
            * F.cross_entropy(to_prototypes.masked_fill(~state.present, -torch.inf), labels),
        }
        if step.root is not None:
            in_root_space = fit_width(new.features, step.root.embeddings.shape[1])
            terms["root"] = self.root_weight * feature_distillation(in_root_space, step.root.embeddings)
        return terms


class UnitPrototypes(nn.Module):
    """Unit prototypes (K, d_old), and which of them exist (K,)."""

    vectors: Tensor
    present: Tensor

    def __init__(self, vectors: Tensor, present: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.register_buffer("present", present)
