"""Needs of a method: stated once, and read by the run, the trainer, the benchmark and the table in the docs."""

from dataclasses import dataclass
from typing import Literal

from evergallery.network import HeadKind

OldHead = Literal["never", "optional", "needed"]
TrainedBeside = Literal["nothing", "discriminator", "network"]


@dataclass(frozen=True)
class Needs:
    """The needs of a method: what it reads, where it begins, and what it cannot change.

    Attributes:
        old_batches: the frozen parent's outputs of every batch.
        old_outputs: the frozen parent's outputs of all training images, once, before the first step: for prototypes.
        old_head: whether it learns from the scores of the parent's classes, which a model from elsewhere does not come with.
        old_images: images of the old classes.
        earlier_means: class means of the generations before the parent, as its memory has them: it estimates their features.
        root: what the root says of every batch: the generation whose space the parent inherited by this very method.
        parent_weights: the network begins with the parent's weights, where it is of the same architecture.
        same_dimension: it compares coordinates with the parent's, so it cannot change the dimension of the embedding.
        head: the only kind of head that it works with; ``None`` for any.
        beside: what it trains beside the network, and throws away with the run.
        own_passes: how often it looks at all training images through the network as it stands.
        closed_form: it has one for the neck of a frozen backbone, which needs no parent.
    """

    old_batches: bool = False
    old_outputs: bool = False
    old_head: OldHead = "never"
    old_images: bool = False
    earlier_means: bool = False
    root: bool = False
    parent_weights: bool = True
    same_dimension: bool = False
    head: HeadKind | None = None
    beside: TrainedBeside = "nothing"
    own_passes: int = 0
    closed_form: bool = False

    @property
    def parent(self) -> bool:
        """Return whether the method learns from a frozen parent."""
        return self.old_batches or self.old_outputs

    @property
    def fixed(self) -> tuple[str, ...]:
        """The parts of a network that follow from these needs alone, by the names of their options."""
        if self.head is None:
            return ()
        # A simplex has a corner for each class of the whole line, and one dimension less.
        return ("head", "dim") if self.head == "simplex" else ("head",)

    def cells(self, old_images_per_class: int | None) -> dict[str, str]:
        """The columns of the table in the docs that follow from these needs, in words.

        Args:
            old_images_per_class: how many the method takes at most; ``None`` for all.
        """
        return {
            "old head": "no" if self.old_head == "never" else "yes",
            "old images": "no"
            if not self.old_images
            else f"{old_images_per_class} of a class"
            if old_images_per_class
            else "all",
            "second network": {"nothing": "no", "discriminator": "a discriminator", "network": "yes"}[self.beside],
            "width": "same" if self.same_dimension else "may change",
            "cost": self.cost(),
        }

    def cost(self) -> str:
        """Return what the method costs beside one forward and one backward pass for each new image, in words."""
        parts = []
        if self.old_images:
            parts += ["the kept images" if self.parent_weights else "all images, longer training"]
        if self.parent:
            parts += [" + ".join(["parent"] * self.old_batches + ["pass"] * self.old_outputs)]
        if self.own_passes:
            parts += [f"{self.own_passes} passes of the new network"]
        if self.root:
            parts += ["later the root", "served beside its root"]
        if self.beside == "network":
            parts += ["a second training"]
        return ", ".join(parts) or "none"
