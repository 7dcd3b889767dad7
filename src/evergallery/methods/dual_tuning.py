"""Dual-Tuning (Bai et al., IEEE TMM 2023, arXiv 2108.02959)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.errors import InputError
from evergallery.losses import arcface, batch_hard_triplet, centre_triplet, fit_width, metric_loss
from evergallery.memory import class_means, robust_class_means
from evergallery.methods.method import Method, Role, Step, Task
from evergallery.methods.needs import Needs
from evergallery.methods.values import MetricLoss, Positive, Share, Weight
from evergallery.network import HeadKind


@dataclass(frozen=True)
class DualTuning(Method["RunningPrototypes"]):
    """New features that the old space can read, and an old space that the new head can read.

    Prototype transfer: the parent's class means of the *new* images, of all classes among them, are a frozen classifier
    of the new features. Mutual structural regularisation: the new features through the old head, and the old features
    through the new head. Backbone, dimension and loss may differ from the parent's; features of another width are cut,
    or padded with zeros.

    The file with the losses is missing from the published code; their form is inferred from its configurations and
    names. Options beyond it say so below. It assumes that the new images cover the classes of the gallery: what they do
    not show is held by the old head alone.

    Attributes:
        loss: on the new images; ``cross-entropy``, ``arcface`` (of a cosine head), or beside the cross-entropy any of
            ``losses.metric_loss`` such as ``triplet`` or ``CircleLoss``.
        label_smoothing: ε of the cross-entropy.
        prototype_weight: of the prototype loss; published: 0.1.
        structure_weight: of each direction of the mutual regularisation; published: 0.2 (default of its code: 0.1).
        prototypes: ``mean`` as published; ``robust`` leaves out the images farthest from their class's mean, outliers
            being the abstract's complaint of old spaces; ``mixed`` mixes in the running means of the new features.
        prototype_loss: ``inner`` products as published (inferred), ``cosine`` with ``scale``, or ``triplet``: a margin
            between the own and the nearest other prototype.
        scale: of the cosine prototype loss.
        margin: of ArcFace in radians, and of the triplet forms in units of cosine similarity; published: 0.3 of triplets.
    """

    name: ClassVar[str] = "dual-tuning"
    needs: ClassVar[Needs] = Needs(old_batches=True, old_outputs=True, old_head="optional")
    role: ClassVar[Role] = "central"
    loss: Literal["cross-entropy", "arcface"] | MetricLoss = "triplet"
    label_smoothing: Share = 0.1
    prototype_weight: Weight = 0.1
    structure_weight: Weight = 0.2
    prototypes: Literal["mean", "robust", "mixed"] = "mean"
    prototype_loss: Literal["inner", "cosine", "triplet"] = "inner"
    scale: Positive = 16.0
    margin: float = 0.3

    @property
    def head_kind(self) -> HeadKind | None:
        """ArcFace is a margin on cosines; every other loss takes any head."""
        return "cosine" if self.loss == "arcface" else None

    def begin(self, task: Task) -> "RunningPrototypes":
        """The parent's class means (K, d_old) of the new images."""
        if self.head_kind not in (None, task.head):
            raise InputError(
                f"ArcFace is a margin on cosines, and the head is {task.head!r}: learn with --head cosine."
            )
        means = robust_class_means if self.prototypes == "robust" else class_means
        present = torch.bincount(task.labels, minlength=task.classes) > 0
        return RunningPrototypes(means(task.old_outputs.features, task.labels, task.classes), present)

    def losses(self, step: Step["RunningPrototypes"]) -> dict[str, Tensor]:
        """Terms of the task, ``prototypes``, ``new in old head`` (where there is one) and ``old in new head``."""
        new, old, state = step.new, step.parent, step.state
        in_old_width = fit_width(new.features, old.features.shape[1])
        terms = {
            **self._task(step),
            "prototypes": self.prototype_weight * self._transfer(in_old_width, step.labels, state),
            "old in new head": self.structure_weight
            * F.cross_entropy(step.head(fit_width(old.features, new.features.shape[1])), step.labels),
        }
        if step.old_head is not None:
            known = step.labels < step.old_head.classes
            rows = F.cross_entropy(
                step.old_head(in_old_width), step.labels.where(known, 0), reduction="none"
            )  # Rows of classes that the old head does not know have no target.
            terms["new in old head"] = self.structure_weight * rows.where(known, 0).sum() / known.sum().clamp(min=1)
        return terms

    def _task(self, step: Step["RunningPrototypes"]) -> dict[str, Tensor]:
        new, labels = step.new, step.labels
        if self.loss == "arcface":
            return {"classification": arcface(new.logits, labels, scale=step.head.scale, margin=self.margin)}
        classification = F.cross_entropy(new.logits, labels, label_smoothing=self.label_smoothing)
        if self.loss == "cross-entropy":
            return {"classification": classification}
        if self.loss == "triplet":
            return {"classification": classification, "metric": batch_hard_triplet(new.features, labels, self.margin)}
        return {"classification": classification, "metric": metric_loss(self.loss)(new.features, labels)}

    def _transfer(self, features: Tensor, labels: Tensor, state: "RunningPrototypes") -> Tensor:
        prototypes = state.mixed(features.detach(), labels) if self.prototypes == "mixed" else state.means
        if self.prototype_loss == "triplet":
            return centre_triplet(features, labels, prototypes, state.present, self.margin)
        if self.prototype_loss == "cosine":
            logits = self.scale * F.normalize(features) @ F.normalize(prototypes).T
        else:
            logits = features @ prototypes.T
        return F.cross_entropy(logits.masked_fill(~state.present, -torch.inf), labels)


class RunningPrototypes(nn.Module):
    """Class means in the old space, and running means of the new features (K, d_old)."""

    means: Tensor
    running: Tensor
    present: Tensor

    def __init__(self, means: Tensor, present: Tensor) -> None:
        super().__init__()
        self.register_buffer("means", means)
        self.register_buffer("running", means.clone())
        self.register_buffer("present", present)

    def mixed(self, features: Tensor, labels: Tensor, *, momentum: float = 0.7, share: float = 0.5) -> Tensor:
        """Half old means, half running means of the new features (constants of the published configuration)."""
        here = torch.bincount(labels, minlength=len(self.running)) > 0
        means = class_means(features, labels, len(self.running))
        self.running = torch.where(here[:, None], momentum * self.running + (1 - momentum) * means, self.running)
        return (1 - share) * self.means + share * self.running
