"""The refresh curve of held-out images: recall while more and more of them have vectors of the new generation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.data.tasks import whole_classes
from evergallery.evaluation import Protocol
from evergallery.retrieval.refresh_curve import mixed_recall
from evergallery.upgrade.orders import ORDERS, StoredItems
from evergallery.upgrade.plan import SAMPLE
from evergallery.upgrade.ways import RouteVectors

SHARES = tuple(step / 20 for step in range(21))
# Held-out images were not added at some time, and nobody has searched for them.
SHOWN_ORDERS = ("random", "uncertain", "typical")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class RefreshCurves:
    """recall@1 by share of the gallery that is refreshed.

    Attributes:
        shares: each in [0, 1].
        ranked: by order of refreshing, ranked by calibrated probability as ``search`` ranks; empty where a scale is missing.
        raw: likewise, ranked by cosine.
        queries: that counted.
        gallery: images searched.
    """

    shares: tuple[float, ...]
    ranked: Mapping[str, tuple[float, ...]]
    raw: Mapping[str, tuple[float, ...]]
    queries: int
    gallery: int

    @property
    def as_searched(self) -> Mapping[str, tuple[float, ...]]:
        """The curves as ``search`` would rank: calibrated where it can be."""
        return self.ranked or self.raw


def measured_curves(
    protocol: Protocol, stored: Vectors, before: RouteVectors, after: RouteVectors, size: int = SAMPLE
) -> RefreshCurves:
    """Refresh a sample of whole classes of the held-out images, in several orders.

    Args:
        protocol: of N held-out labelled images.
        stored: (N, D) vectors before.
        before: queries of the new generation and these vectors, as they are compared.
        after: the same queries and refreshed vectors.
        size: of the sample, about.
    """
    images = protocol.images
    rows = whole_classes([images.classes[label] for label in images.labels], size)
    query, gallery = np.intersect1d(protocol.query, rows), np.intersect1d(protocol.gallery, rows)
    labels = torch.from_numpy(images.labels)
    hits = labels[query][:, None] == labels[gallery][None, :]
    first, second = (torch.from_numpy(way.queries[query] @ way.vectors[gallery].T) for way in (before, after))
    forbidden = forbidden_pairs(protocol, query, gallery)
    items = StoredItems(
        [images.hashes[index] for index in gallery],
        list(stored[gallery]),
        ["old"] * len(gallery),
        [images.classes[label] for label in images.labels[gallery]],
        [""] * len(gallery),
        {},
    )
    ranked: dict[str, tuple[float, ...]] = {}
    raw: dict[str, tuple[float, ...]] = {}
    for name in SHOWN_ORDERS:
        order = torch.from_numpy(ORDERS[name](items))

        def curve(old: Tensor, new: Tensor, order: Tensor = order) -> tuple[float, ...]:
            old, new = old.masked_fill(forbidden, -torch.inf), new.masked_fill(forbidden, -torch.inf)
            return tuple(mixed_recall(old, new, hits, order=order, shares=SHARES))

        raw[name] = curve(first, second)
        if before.scale is not None and after.scale is not None:
            ranked[name] = curve(before.scale.logits(first), after.scale.logits(second))
    return RefreshCurves(SHARES, ranked, raw, int((hits & ~forbidden).any(1).sum()), len(gallery))


def forbidden_pairs(protocol: Protocol, query: NDArray[np.int64], gallery: NDArray[np.int64]) -> Tensor:
    """(q, g) bool: what a query must not find, of the images at these indices."""
    exclusion = protocol.exclusion(query, gallery)
    forbidden = torch.zeros(len(query), len(gallery), dtype=torch.bool)
    if exclusion.itself is not None:
        there = torch.nonzero(exclusion.itself >= 0).flatten()
        forbidden[there, exclusion.itself[there]] = True
    groups = exclusion.groups()
    return forbidden if groups is None else forbidden | (groups[0][:, None] == groups[1][None, :])
