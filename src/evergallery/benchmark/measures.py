"""From the embeddings of every generation to both matrices, and what follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.data.evaluation_sets import EvaluationSet
from evergallery.data.image_set import ImageSet
from evergallery.data.tasks import Tasks
from evergallery.devices.computing import computed
from evergallery.evaluation import KS, Protocol, measure
from evergallery.retrieval import continual
from evergallery.retrieval.compatibility import negative_flip_rate, positive_flip_rate
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate
from evergallery.retrieval.refresh_curve import random_order, refresh_curve
from evergallery.retrieval.width import ONE, in_width_of

Vectors = NDArray[np.float32]
METRICS = ("recall@1", "mAP@R")


@dataclass(frozen=True)
class LineageEmbeddings:
    """Generations of one lineage, one for each task, through the same test images.

    Attributes:
        test: N held-out images of all classes; those of classes in no task are an open set of their own.
        tasks: classes of each of T tasks.
        embeddings: T of (N, D), oldest first.
        ks: of recall@k, in the self-tests and the cross-test of the first and the last generation.
        adapted: for a pair (q, g), q > g: query and gallery vectors (N, D) that an adapter has brought together.
    """

    test: ImageSet
    tasks: Tasks
    embeddings: list[Vectors]
    adapted: Mapping[tuple[int, int], tuple[Vectors, Vectors]] = field(default_factory=dict)
    ks: tuple[int, ...] = KS

    def seen(self) -> NDArray[np.bool_]:
        """(N,) which test images are of a class that a task has."""
        classes = {name for task in self.tasks for name in task}
        member: NDArray[np.bool_] = np.array([name in classes for name in self.test.classes])[self.test.labels]
        return member

    def measured(self) -> NDArray[np.bool_]:
        """(N,) which test images the figures of all classes are of: those of a task's class, or all where no query is of one."""
        seen = self.seen()
        return seen if len(self.searched(seen).query) else np.ones_like(seen)

    def searched(self, member: NDArray[np.bool_], ks: tuple[int, ...] = KS) -> Protocol:
        """Queries and gallery among some of the images: each is both, but for those of the parts ``query`` and ``gallery``."""
        part = np.full(len(self.test), "test") if self.test.split is None else self.test.split
        asked, found = (np.flatnonzero(member & (part != name)) for name in ("gallery", "query"))
        return Protocol(self.test, asked, found, "", ks=ks)

    def pair(self, q: int, g: int) -> tuple[Vectors, Vectors]:
        """Queries by generation q and gallery by g; queries of another width are cut, or padded with zeros."""
        if (q, g) in self.adapted:
            return self.adapted[q, g]
        return in_width_of(self.embeddings[q], self.embeddings[g]), self.embeddings[g]


def measures_of(lineage: LineageEmbeddings) -> dict[str, Any]:
    """Everything that one run measures; fractions in [0, 1], matrices as nested lists with ``None`` where undefined."""
    count = len(lineage.tasks)
    first, last = 0, count - 1
    cells = {(q, g): _cell(lineage, q, g) for q in range(count) for g in range(q + 1)}
    compatibility = {
        group: {name: _matrix(cells, group, name, count) for name in METRICS} for group in cells[last, last]
    }
    own, pooled = continual_matrices(lineage)
    old_hits, new_hits = (cells[cell]["all"] for cell in ((first, first), (last, first)))
    return {
        "compatibility": {group: {n: _plain(m) for n, m in found.items()} for group, found in compatibility.items()},
        "continual": {
            "own gallery": {n: _plain(m) for n, m in own.items()},
            "pooled gallery": {n: _plain(m) for n, m in pooled.items()},
        },
        "cells": {
            "old self": cells[first, first]["all"].to_dict(),
            "new self": cells[last, last]["all"].to_dict(),
            "cross": cells[last, first]["all"].to_dict(),
        },
        "derived": {
            **_continual(own["recall@1"], ""),
            **_continual(pooled["recall@1"], " (pooled)"),
            "AC": continual.average_compatibility(compatibility["all"]["recall@1"]),
            "AM": continual.average_multimodel(compatibility["all"]["recall@1"]),
            "BC": continual.backward_compatibility_change(compatibility["all"]["recall@1"]),
            "FC": continual.forward_compatibility_change(compatibility["all"]["recall@1"]),
            "negative flips": negative_flip_rate(_outcomes(old_hits), _outcomes(new_hits)),
            "positive flips": positive_flip_rate(_outcomes(old_hits), _outcomes(new_hits)),
        },
        "refresh": _refresh(lineage, first, last),
        "hits": {
            # One bit for each test image: paired intervals between runs need no embeddings.
            name: np.packbits(cells[cell]["all"].hits_at_1.numpy()).tobytes().hex()
            for name, cell in {"old self": (first, first), "new self": (last, last), "cross": (last, first)}.items()
        },
    }


def evaluated(
    chosen: EvaluationSet,
    old: Vectors,
    new: Vectors,
    between: tuple[Vectors, Vectors] | None = None,
    lengths: tuple[Vectors, Vectors] = (ONE, ONE),
) -> dict[str, dict[str, float]]:
    """Figures of an evaluation set of N images by the first generation, by the last, and by the last in the first one's vectors.

    Args:
        chosen: the set.
        old: (N, D) by the first generation.
        new: (N, D') by the last.
        between: queries and gallery of the cross-test where an adapter has brought them together.
        lengths: (N, 1) of ``old`` and of ``new``, where images count by them.
    """
    query, gallery = between or (in_width_of(new, old), old)
    of_old, of_new = lengths
    old, new, query, gallery = old * of_old, new * of_new, query * of_new, gallery * of_old
    cells = {"old self": (old, old), "new self": (new, new), "cross": (query, gallery)}
    return {name: chosen.figures(*map(torch.from_numpy, pair)) for name, pair in cells.items()}


def _cell(lineage: LineageEmbeddings, q: int, g: int) -> dict[str, RetrievalMetrics]:
    """Old, new and all classes of the tasks, and those of no task among themselves."""
    query, gallery = lineage.pair(q, g)
    seen = lineage.seen()
    last = len(lineage.tasks) - 1
    told = (q, g) in ((0, 0), (last, last), (last, 0))  # The cells whose figures are kept one by one.
    ks = lineage.ks if told else KS
    # Who marks cameras, or queries and gallery, looks at the whole ranking.
    full = told and (lineage.test.cameras is not None or len(lineage.searched(seen | True).query) < len(lineage.test))
    if not np.array_equal(lineage.measured(), seen):
        # A set whose queries are all of classes that nobody learns: one open set, with whatever else its gallery holds.
        found = measure(lineage.searched(lineage.measured(), ks), query, gallery, (), full_ranking=full)["all"]
        return {"unseen": found, "all": found}
    groups = measure(lineage.searched(seen, ks), query, gallery, lineage.tasks[0], full_ranking=full)
    if not seen.all():
        groups["unseen"] = measure(lineage.searched(~seen, ks), query, gallery, (), full_ranking=full)["all"]
    return groups


def continual_matrices(
    lineage: LineageEmbeddings,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """A[t, k] on task k after task t, searched in the task's own gallery and in that of all classes seen so far.

    NaN where there is no image to ask with.
    """
    count = len(lineage.tasks)
    own, pooled = ({name: np.full((count, count), np.nan) for name in METRICS} for _ in range(2))
    names = np.asarray(lineage.test.classes, dtype=object)[lineage.test.labels]
    members = [np.isin(names, np.asarray(task, dtype=object)) for task in lineage.tasks]
    labels = torch.from_numpy(lineage.test.labels)
    for t in range(count):
        vectors = torch.from_numpy(lineage.embeddings[t])
        everything = lineage.searched(np.any(members[: t + 1], axis=0))
        for k in range(t + 1):
            alone = lineage.searched(members[k])
            if len(alone.query) == 0:
                continue
            for matrices, gallery in ((own, alone.gallery), (pooled, everything.gallery)):
                found = computed(
                    len(alone.query) * len(gallery) * vectors.shape[1],
                    evaluate,
                    vectors[alone.query],
                    labels[alone.query],
                    vectors[gallery],
                    labels[gallery],
                    ks=(1,),
                    exclusion=alone.exclusion(alone.query, gallery),
                ).to_dict()
                for name in METRICS:
                    matrices[name][t, k] = found[name]
    return own, pooled


def _continual(matrix: NDArray[np.float64], suffix: str) -> dict[str, float | None]:
    figures = {
        "average recall": continual.average_recall,
        "forgetting": continual.forgetting,
        "backward transfer": continual.backward_transfer,
        "plasticity": continual.plasticity,
    }
    known = not np.isnan(matrix[np.tril_indices(len(matrix))]).any()
    return {f"{name}{suffix}": figure(matrix) if known else None for name, figure in figures.items()}


def _refresh(lineage: LineageEmbeddings, first: int, last: int) -> dict[str, Any] | None:
    """Recall@1 of the last generation's queries while the first one's vectors are replaced, in random order."""
    if (last, first) in lineage.adapted:
        return None
    (query, gallery), replaced = lineage.pair(last, first), lineage.embeddings[last]
    if query.shape[1] != replaced.shape[1]:
        # Each vector is compared in its own width: a query has both, and a stored vector zeros in place of the other.
        query = np.concatenate([query, replaced], axis=1)
        gallery, replaced = (
            np.concatenate([gallery, np.zeros_like(replaced)], axis=1),
            np.concatenate([np.zeros_like(gallery), replaced], axis=1),
        )
    searched = lineage.searched(lineage.measured())
    labels = torch.from_numpy(lineage.test.labels)
    old, new = (torch.from_numpy(vectors)[searched.gallery] for vectors in (gallery, replaced))
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    curve = computed(
        len(searched.query) * old.numel(),
        refresh_curve,
        torch.from_numpy(query)[searched.query],
        labels[searched.query],
        old,
        new,
        labels[searched.gallery],
        order=random_order(len(searched.gallery), seed=0),
        shares=shares,
        exclusion=searched.exclusion(),
    )
    values = [metrics.recall[1] for metrics in curve]
    return {"shares": shares, "recall@1": values, "area": continual.area_under_refresh_curve(shares, values)}


def _matrix(
    cells: Mapping[tuple[int, int], Mapping[str, RetrievalMetrics]], group: str, name: str, count: int
) -> NDArray[np.float64]:
    matrix = np.full((count, count), np.nan)
    for (q, g), found in cells.items():
        matrix[q, g] = found[group].to_dict()[name]
    return matrix


def _outcomes(metrics: RetrievalMetrics) -> torch.Tensor:
    return metrics.hits_at_1[metrics.valid]


def _plain(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in matrix]
