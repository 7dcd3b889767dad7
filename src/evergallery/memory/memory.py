"""The memory of a generation: class means of its lineage, carried along as the space drifts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.memory.drift import Weighting, estimate_drift
from evergallery.memory.prototypes import class_means
from evergallery.memory.scatter import Scatter
from evergallery.network import Outputs


@dataclass(frozen=True)
class ClassMeans:
    """The classes of one generation's task, as the generation that holds this memory sees them.

    Attributes:
        classes: (K,) rows of the head.
        raw: (K, D) means of raw embeddings, moved along by the estimated drift.
        unit: (K, D) means of unit embeddings at first; once moved, unit rows in the direction of ``raw``.
        drift: (K, D) how far ``raw`` has moved since the generation that saw the images.
    """

    classes: Tensor
    raw: Tensor
    unit: Tensor
    drift: Tensor

    @classmethod
    def measured(cls, outputs: Outputs, labels: Tensor) -> "ClassMeans":
        """Measure the means from outputs of N training images without augmentation, and their labels (N,)."""
        classes, index = torch.unique(labels, return_inverse=True)
        raw, unit = (class_means(x, index, len(classes)) for x in (outputs.features, outputs.embeddings))
        return cls(classes, raw, unit, torch.zeros_like(raw))

    def moved(self, drift: Tensor) -> "ClassMeans":
        """The means in a space in which they lie ``drift`` (K, D) further on."""
        raw = self.raw + drift
        return replace(self, raw=raw, unit=F.normalize(raw), drift=self.drift + drift)


@dataclass(frozen=True)
class TrainingOutputs:
    """The outputs of a generation and of its parent of the same N training images, without augmentation.

    Attributes:
        labels: (N,) of the images.
        new: the generation's.
        old: its parent's; ``None`` without a parent.
    """

    labels: Tensor
    new: Outputs
    old: Outputs | None = None


@dataclass(frozen=True)
class Memory:
    """Class means of every generation of a lineage by name, oldest first; the last are those of its own task."""

    means: Mapping[str, ClassMeans] = field(default_factory=dict)
    scatter: Scatter | None = None
    """Scatter of the features of a frozen backbone, of every image of the lineage that went through it; ``None`` elsewhere."""

    def after(
        self,
        name: str,
        outputs: TrainingOutputs,
        weighting: Weighting = "clamped",
        ancestors: Mapping[str, tuple[ClassMeans, Outputs]] | None = None,
    ) -> "Memory":
        """The memory of the generation that follows; ``self`` is its parent's.

        Only the parent is asked how far its space moved, so drift accumulates from generation to generation and no
        older one has to be kept. Who kept them can name them as ``ancestors``: then each one's drift is estimated in
        one jump, from its own means and its own outputs. Where the dimension changed there is no drift to follow:
        older means are dropped.

        Args:
            name: of the following generation.
            outputs: its own, and its parent's.
            weighting: of the images in the estimate of drift.
            ancestors: by name, the means that a generation measured itself, and its outputs of the same images.
        """
        moved = {}
        new = outputs.new
        for ancestor, carried in self.means.items():
            means, before = (ancestors or {}).get(ancestor, (carried, outputs.old))
            if before is not None and before.features.shape[1] == new.features.shape[1]:
                step = estimate_drift(means.unit, before.embeddings, before.features, new.features, weighting)
                moved[ancestor] = means.moved(step)
        return Memory({**moved, name: ClassMeans.measured(new, outputs.labels)})

    def earlier(self) -> list[ClassMeans]:
        """The means of all generations but the last, oldest first: those whose features have to be estimated."""
        return list(self.means.values())[:-1]

    def prototypes(self) -> tuple[Tensor, Tensor]:
        """Classes (K,) and unit prototypes (K, D) of all tasks; a class seen twice is taken where it was seen last."""
        latest = {
            int(label): vector
            for means in self.means.values()
            for label, vector in zip(means.classes, F.normalize(means.raw), strict=True)
        }
        return torch.tensor(list(latest), dtype=torch.int64), torch.stack(list(latest.values()))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the memory by name, as a file holds them."""
        means = {
            f"{name}/{part}": getattr(means, part)
            for name, means in self.means.items()
            for part in ("classes", "raw", "unit", "drift")
        }
        return means | (self.scatter.tensors() if self.scatter is not None else {})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], order: tuple[str, ...]) -> "Memory":
        """Read a memory from the tensors of a file, its generations in ``order``."""
        parts = ("classes", "raw", "unit", "drift")
        means = {name: ClassMeans(*(tensors[f"{name}/{part}"] for part in parts)) for name in order}
        return cls(means, Scatter.from_tensors(tensors))
