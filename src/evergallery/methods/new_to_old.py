"""New embeddings against old ones: the baselines of BCT and of hot-refresh, and RACT (Zhang et al., ICLR 2022)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from evergallery.losses import new_to_old_contrast, new_to_old_triplet
from evergallery.methods.method import Method, Step, classification_and_triplet
from evergallery.methods.needs import Needs
from evergallery.methods.values import Count, Positive, Weight


@dataclass(frozen=True)
class NewToOldContrastive(Method[None]):
    """Each new embedding is nearer to its own old one than to those of other classes, by a softmax.

    OpenCompatible's form, whose only positive is the image's own old vector.

    Attributes:
        triplet_margin: of the loss on the new images, in units of cosine similarity.
        weight: of the contrast.
        temperature: its τ.
        hardest: only the k most similar negatives; all by default.
    """

    name: ClassVar[str] = "contrastive"
    needs: ClassVar[Needs] = Needs(old_batches=True, same_dimension=True)
    triplet_margin: float = 1.0
    weight: Weight = 1.0
    temperature: Positive = 0.05
    hardest: Count | None = None

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``new to old``."""
        contrast = new_to_old_contrast(
            step.new.embeddings, step.parent.embeddings, step.labels, self.temperature, hardest=self.hardest
        )
        return {**classification_and_triplet(step, self.triplet_margin), "new to old": self.weight * contrast}


@dataclass(frozen=True)
class NewToOldTriplet(Method[None]):
    """Each new embedding is nearer to its own old one than to those of other classes, by a margin.

    Attributes:
        triplet_margin: of the loss on the new images, in units of cosine similarity.
        weight: of the new-to-old triplets.
        margin: of the new-to-old triplets, in Euclidean distance.
        hardest: k, the nearest negatives of each image.
    """

    name: ClassVar[str] = "triplet-new-to-old"
    needs: ClassVar[Needs] = Needs(old_batches=True, same_dimension=True)
    triplet_margin: float = 1.0
    weight: Weight = 1.0
    margin: float = 0.8
    hardest: Count = 10

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``new to old``."""
        triplets = new_to_old_triplet(
            step.new.embeddings, step.parent.embeddings, step.labels, self.margin, hardest=self.hardest
        )
        return {**classification_and_triplet(step, self.triplet_margin), "new to old": self.weight * triplets}


@dataclass(frozen=True)
class RACT(Method[None]):
    """Regression-alleviating compatible training: new vectors of other classes are negatives too.

    While a gallery is refreshed item by item, old and new vectors stand side by side in it; a new one of another class
    must not displace an old one that was right. The order of refreshing by uncertainty is no part of training.

    Attributes:
        triplet_margin: of the loss on the new images, in units of cosine similarity.
        form: ``contrastive``, as published, or ``triplet``, as in its code.
        weight: of the compatibility loss.
        temperature: τ of the contrastive form; 0.01 in its recipe.
        margin: of the triplet form, in Euclidean distance.
        hardest: k, the most similar negatives of either kind; 10 in its recipe.
    """

    name: ClassVar[str] = "ract"
    needs: ClassVar[Needs] = Needs(old_batches=True, same_dimension=True)
    triplet_margin: float = 1.0
    form: Literal["contrastive", "triplet"] = "contrastive"
    weight: Weight = 1.0
    temperature: Positive = 0.01
    margin: float = 0.8
    hardest: Count = 10

    def losses(self, step: Step[None]) -> dict[str, Tensor]:
        """Terms ``classification``, ``triplet`` and ``new to old and new``."""
        new, old, labels = step.new.embeddings, step.parent.embeddings, step.labels
        if self.form == "contrastive":
            value = new_to_old_contrast(new, old, labels, self.temperature, hardest=self.hardest, new_negatives=True)
        else:
            value = new_to_old_triplet(new, old, labels, self.margin, hardest=self.hardest, new_negatives=True)
        return {**classification_and_triplet(step, self.triplet_margin), "new to old and new": self.weight * value}
