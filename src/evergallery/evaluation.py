"""Held-out images through several generations: one extraction each, then every pair of query and gallery."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.data.image_set import ImageSet
from evergallery.data.listing import split_among
from evergallery.devices.computing import computed
from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate
from evergallery.retrieval.relevance import Relevance, evaluate_judged

KS = (1, 5, 10)
GROUPS = ("old", "new", "all")


def searched(words: str, images: ImageSet) -> str:
    """Return ``words``, which say how images are searched, with what a query does not find where they have cameras."""
    return words + ("" if images.cameras is None else ", without images of the query's own identity and camera")


@dataclass(frozen=True)
class Judgements:
    """J judgements on held-out images.

    Attributes:
        query: (J,) index of the image that asks.
        item: (J,) index of the image that is right.
        grade: (J,) how much, above 0; 1 where there are no grades.
    """

    query: NDArray[np.int64]
    item: NDArray[np.int64]
    grade: NDArray[np.float64]

    def among(self, query: NDArray[np.int64], gallery: NDArray[np.int64]) -> Relevance:
        """The judgements on some images (q,) that ask and some (g,) that are asked, by their places among these."""
        images = 1 + max(int(some.max(initial=-1)) for some in (query, gallery, self.query, self.item))
        asked, found = (np.full(images, -1, dtype=np.int64) for _ in range(2))
        asked[query], found[gallery] = np.arange(len(query)), np.arange(len(gallery))
        rows, items = asked[self.query], found[self.item]
        kept = (rows >= 0) & (items >= 0)
        grades = torch.from_numpy(self.grade[kept])
        return Relevance(torch.from_numpy(rows[kept]), torch.from_numpy(items[kept]), grades, len(query), len(gallery))


@dataclass(frozen=True)
class Protocol:
    """The queries and the gallery of a search.

    Attributes:
        images: the held-out images.
        query: (Q,) indices of the queries.
        gallery: (G,) indices of the gallery; an image in both does not find itself.
        description: of both, in words.
        judgements: that say which answers are right, in place of labels; ``None`` where labels do.
        ks: of recall@k and precision@k, ascending.
        full_ranking: whether mAP and mINP are wanted, which sort the whole gallery for every query.
    """

    images: ImageSet
    query: NDArray[np.int64]
    gallery: NDArray[np.int64]
    description: str
    judgements: Judgements | None = None
    ks: tuple[int, ...] = KS
    full_ranking: bool = False

    @property
    def searched(self) -> str:
        """The queries, the gallery, and what a query does not find, in words for the foot of a table."""
        return searched(self.description, self.images)

    def exclusion(self, query: NDArray[np.int64] | None = None, gallery: NDArray[np.int64] | None = None) -> Exclusion:
        """A query does not find itself, nor, where cameras are known, its own label under its own camera.

        Args:
            query: (q,) indices of images in place of all queries.
            gallery: (g,) indices of images in place of the whole gallery.
        """
        query, gallery = self.query if query is None else query, self.gallery if gallery is None else gallery
        place = np.full(len(self.images), -1, dtype=np.int64)
        place[gallery] = np.arange(len(gallery))
        itself = torch.from_numpy(place[query])
        if self.images.cameras is None:
            return Exclusion(itself)
        # Nobody knows of two images without a label that they show the same.
        unknown = -1 - np.arange(len(self.images))
        labels = torch.from_numpy(np.where(self.images.labels < 0, unknown, self.images.labels))
        cameras = torch.from_numpy(np.unique(self.images.cameras, return_inverse=True)[1].astype(np.int64))
        return Exclusion(itself, labels[query], labels[gallery], cameras[query], cameras[gallery])


def ranks_with(further: Sequence[int]) -> tuple[int, ...]:
    """Return the ranks k of every table and further ones, ascending.

    Raises:
        InputError: one is below 1.
    """
    if any(k < 1 for k in further):
        raise InputError(f"Ranks begin at 1, and {min(further)} is none: name ranks such as 1,10,100.")
    return tuple(sorted({*KS, *further}))


def require_both(queries: str | None, gallery: str | None) -> None:
    """Refuse the split of the queries, or of the gallery, alone.

    Raises:
        InputError: one of them is named and the other is not.
    """
    if (queries is None) != (gallery is None):
        raise InputError("Queries and gallery are named together: give both splits or neither.")


def protocol(images: ImageSet, queries: str | None = None, gallery: str | None = None) -> Protocol:
    """Choose queries and gallery from the splits of ``images``.

    Without names: ``query`` against ``gallery`` where the set has these splits; else the images of ``test`` among
    themselves; else all images among themselves, each left out of its own search.

    Raises:
        InputError: only one of two names given, or no such split.
    """
    require_both(queries, gallery)
    splits = set() if images.split is None else set(images.split.tolist())
    if queries is None and {"query", "gallery"} <= splits:
        queries, gallery = "query", "gallery"
    if queries is None and "test" in splits:
        queries = gallery = "test"
    if queries is None:
        everything = np.arange(len(images))
        return Protocol(images, everything, everything, "every image among the others")
    assert gallery is not None, "both are named, or neither"
    queries, gallery = (split_among(name, splits) for name in (queries, gallery))
    chosen = [np.flatnonzero(images.split == name) for name in (queries, gallery)]
    text = f"every image of {queries!r} among the others" if queries == gallery else f"{queries!r} in {gallery!r}"
    return Protocol(images, chosen[0], chosen[1], text)


def measure(
    protocol: Protocol,
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    old_classes: Sequence[str],
    *,
    full_ranking: bool = False,
) -> dict[str, RetrievalMetrics]:
    """Metrics of ``old`` and ``new`` classes, each within its own gallery, and of ``all`` classes pooled.

    Where judgements say which answers are right, queries of old and of new classes search the whole gallery.

    Args:
        protocol: of N held-out images.
        query: embeddings (N, D) by the generation that queries.
        gallery: embeddings (N, D) by the generation that made the gallery.
        old_classes: names of the classes that count as old; every other class is new.
        full_ranking: also mAP and mINP, which sort the whole gallery for every query, where labels say which answers are right.

    Returns:
        By group; a group without a class is left out.
    """
    images = protocol.images
    # The last entry is for images without a label, which are neither.
    known = [*np.isin(np.asarray(images.classes, dtype=object), np.asarray(old_classes, dtype=object)), False]
    is_old = np.asarray(known, dtype=bool)[images.labels]
    if protocol.judgements is not None:
        return _measure_judged(protocol, protocol.judgements, query, gallery, is_old)
    found = {}
    for group, member in zip(GROUPS, (is_old, ~is_old, np.ones_like(is_old)), strict=True):
        q, g = protocol.query[member[protocol.query]], protocol.gallery[member[protocol.gallery]]
        if len(q) == 0 or len(g) == 0:
            continue
        found[group] = computed(
            len(q) * len(g) * query.shape[1],
            evaluate,
            torch.from_numpy(query[q]),
            torch.from_numpy(images.labels[q]),
            torch.from_numpy(gallery[g]),
            torch.from_numpy(images.labels[g]),
            ks=protocol.ks,
            full_ranking=full_ranking,
            exclusion=protocol.exclusion(q, g),
        )
    return found


def _measure_judged(
    protocol: Protocol,
    judgements: Judgements,
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    is_old: NDArray[np.bool_],
) -> dict[str, RetrievalMetrics]:
    labelled = protocol.images.labels >= 0
    found = {}
    for group, member in zip(GROUPS, (is_old, ~is_old & labelled, np.ones_like(is_old)), strict=True):
        q, g = protocol.query[member[protocol.query]], protocol.gallery
        if len(q) == 0 or len(g) == 0:
            continue
        found[group] = computed(
            len(q) * len(g) * query.shape[1],
            evaluate_judged,
            torch.from_numpy(query[q]),
            torch.from_numpy(gallery[g]),
            judgements.among(q, g),
            ks=protocol.ks,
            exclusion=protocol.exclusion(q, g),
        )
    return found
