"""Figures on the validation part: what is learned, and what is forgotten as far as that can be seen without old images."""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.memory import Memory
from evergallery.network import Network, extract
from evergallery.network.ranks import Ranks
from evergallery.retrieval.compatibility import neighbour_agreement
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate
from evergallery.watching import Stopped

SHOWN = ("recall@1", "mAP@R")
"""The metrics of the validation part by itself."""
FIGURES = (*SHOWN, "recall@1 among old", "agreement")
"""The figures of a validation, in the order in which a card has them."""


@dataclass(frozen=True)
class Reference:
    """The parent's view of the validation part, and its memory of its own classes.

    Attributes:
        embeddings: (N, D) unit rows of the validation images by the parent.
        classes: (K,) rows of the head.
        prototypes: (K, D) unit class means that the parent remembers.
    """

    embeddings: Tensor
    classes: Tensor
    prototypes: Tensor

    @classmethod
    def of(
        cls,
        parent: Network,
        memory: Memory,
        validation: ImageSet | FeatureSet,
        preprocessing: Preprocessing,
        ranks: Ranks,
    ) -> "Reference":
        """Measure the reference by a frozen parent that has a memory."""
        embeddings = torch.from_numpy(extract(parent.embedder, validation, preprocessing, ranks=ranks))
        classes, prototypes = memory.prototypes()
        return cls(embeddings, classes, prototypes.to(embeddings))

    def figures(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Return what an update did to the old space, as far as new images (N, D) of labels (N,) show it.

        ``recall@1 among old``: they are searched among themselves and the class means that the parent remembers. It falls where
        new images come to lie on old classes. ``agreement``: how many of them find the same neighbour among the parent's own
        vectors of them as by the parent itself. It falls where new queries no longer read old vectors.

        Neither sees an old image. Old classes that move into one another, without a new image near them, are not seen, and a
        figure of the whole is that of ``check`` on held-out images of all classes.
        """
        old = len(self.classes)
        gallery = torch.cat([self.prototypes, embeddings])
        itself = Exclusion(torch.arange(old, old + len(labels)))
        among = evaluate(embeddings, labels, gallery, torch.cat([self.classes, labels]), ks=(1,), exclusion=itself)
        if among.queries == 0:
            return {}
        return {"recall@1 among old": among.recall[1], "agreement": neighbour_agreement(embeddings, self.embeddings)}


@dataclass(frozen=True)
class Validation:
    """The validation part of a run.

    Attributes:
        images: of the part, or their features; ``None`` where there is none.
        preprocessing: of the network's input.
        ranks: who share the batches.
        reference: the parent's view of the images, where the epoch is chosen by it too.
    """

    images: ImageSet | FeatureSet | None
    preprocessing: Preprocessing
    ranks: Ranks
    reference: Reference | None

    def figures(self, network: Network, stopping: threading.Event | None = None) -> dict[str, float]:
        """Figures of a network on the part; empty where there is none.

        Raises:
            Stopped: ``stopping`` was set meanwhile, and nobody waits for this rank.
        """

        def go_on(*_: int) -> None:
            if stopping is not None and stopping.is_set() and self.ranks.size == 1:
                raise Stopped

        if self.images is None or len(self.images) == 0:
            return {}
        embeddings = torch.from_numpy(
            extract(network.embedder, self.images, self.preprocessing, on_progress=go_on, ranks=self.ranks)
        )
        labels = torch.from_numpy(self.images.labels)
        itself = Exclusion(torch.arange(len(labels)))
        metrics = evaluate(embeddings, labels, embeddings, labels, ks=(1,), exclusion=itself)
        if metrics.queries == 0:
            return {}
        seen = self.reference.figures(embeddings, labels) if self.reference is not None else {}
        return {name: metrics.values[name] for name in SHOWN} | seen


def score(figures: dict[str, float]) -> float:
    """The figure by which the best epoch is chosen; higher is better.

    Recall@1 among the new images; where there is a reference, the mean of what is learned and of what is kept: recall@1 among
    new images and old class means, and agreement with the parent.
    """
    if "agreement" in figures:
        return (figures["recall@1 among old"] + figures["agreement"]) / 2
    return figures["recall@1"]
