"""A map of the prototypes of classes before and after an update."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evergallery.retrieval.width import in_width_of

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class PrototypeMap:
    """K classes as two generations see them.

    Attributes:
        classes: (K,) names.
        is_old: (K,) whether the old generation has learned the class.
        before: (K, 2) in the old generation, on the axes of ``after``.
        after: (K, 2) in the new one.
        explained: share of the prototypes' variance that the two axes show.
        moved: (K,) degrees between a class's prototypes before and after.
        apart: (K,) degrees from a class's prototype before to the nearest other one.
        in_place: (K,) whether the prototype after lies nearer to the class's own before than to any other class's.
    """

    classes: tuple[str, ...]
    is_old: NDArray[np.bool_]
    before: Matrix
    after: Matrix
    explained: float
    moved: Matrix
    apart: Matrix
    in_place: NDArray[np.bool_]


def prototypes_of(embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> Matrix:
    """(K, D) unit means of the rows of each class that occurs, in the order of the labels.

    Args:
        embeddings: (N, D).
        labels: (N,).
    """
    _, index = np.unique(labels, return_inverse=True)
    sums = np.zeros((index.max() + 1, embeddings.shape[1]))
    np.add.at(sums, index, embeddings.astype(np.float64))
    return _unit(sums)


def principal_axes(rows: Matrix) -> tuple[Matrix, Matrix, float]:
    """The mean (D,), the two axes (2, D) along which rows (N, D) vary most, and the share of the variance they show.

    The largest entry of an axis is positive, so that the same rows always give the same map.
    """
    mean = rows.mean(0)
    _, spread, axes = np.linalg.svd(rows - mean, full_matrices=False)
    axes, variance = axes[:2], spread**2
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    axes = np.concatenate([axes, np.zeros((2 - len(axes), rows.shape[1]))])
    return mean, axes, float(variance[:2].sum() / variance.sum()) if variance.sum() > 0 else 1.0


def prototype_map(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    old_classes: tuple[str, ...],
) -> PrototypeMap:
    """Prototypes of N labelled images in two generations, on the two main axes of both together.

    Args:
        before: (N, D) by the old generation.
        after: (N, D') by the new one; cut, or padded with zeros, to D.
        labels: (N,) indices into ``classes``.
        classes: names.
        old_classes: those that the old generation has learned.
    """
    present = np.unique(labels)
    old, new = prototypes_of(before, labels), prototypes_of(in_width_of(after, before), labels)
    mean, axes, explained = principal_axes(np.concatenate([old, new]))
    names = tuple(classes[index] for index in present)
    among = old @ old.T
    np.fill_diagonal(among, -1)
    to_old = new @ old.T
    return PrototypeMap(
        names,
        np.isin(np.asarray(names, dtype=object), np.asarray(old_classes, dtype=object)),
        (old - mean) @ axes.T,
        (new - mean) @ axes.T,
        explained,
        _degrees((old * new).sum(1)),
        _degrees(among.max(1)),
        to_old.argmax(1) == np.arange(len(names)),
    )


def _unit(rows: Matrix) -> Matrix:
    found: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return found


def _degrees(cosines: Matrix) -> Matrix:
    found: Matrix = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return found
