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

FIGURES = ("recall@1", "mAP@R", "recall@1 among old", "agreement")
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


def validate(
    network: Network,
    validation: ImageSet | FeatureSet | None,
    preprocessing: Preprocessing,
    ranks: Ranks,
    stopping: threading.Event | None = None,
    reference: Reference | None = None,
) -> dict[str, float]:
    """Figures on the validation part; raises ``Stopped`` where ``stopping`` is set meanwhile and nobody waits for this rank."""

    def go_on(*_: int) -> None:
        if stopping is not None and stopping.is_set() and ranks.size == 1:
            raise Stopped

    if validation is None or len(validation) == 0:
        return {}
    embeddings = torch.from_numpy(extract(network.embedder, validation, preprocessing, on_progress=go_on, ranks=ranks))
    labels = torch.from_numpy(validation.labels)
    itself = Exclusion(torch.arange(len(labels)))
    metrics = evaluate(embeddings, labels, embeddings, labels, ks=(1,), exclusion=itself)
    if metrics.queries == 0:
        return {}
    seen = reference.figures(embeddings, labels) if reference is not None else {}
    return {"recall@1": metrics.recall[1], "mAP@R": metrics.map_at_r, **seen}


def score(figures: dict[str, float]) -> float:
    """The figure by which the best epoch is chosen; higher is better.

    Recall@1 among the new images; where there is a reference, the mean of what is learned and of what is kept: recall@1 among
    new images and old class means, and agreement with the parent.
    """
    if "agreement" in figures:
        return (figures["recall@1 among old"] + figures["agreement"]) / 2
    return figures["recall@1"]
