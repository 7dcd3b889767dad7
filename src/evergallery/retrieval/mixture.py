"""Vectors of two embedding spaces under one name, told by their neighbours and by the directions in which they vary.

Two networks that look at the same pictures agree neither on who is near to whom nor on the directions in which vectors differ.
Two groups of pictures seen by one network may have no neighbours in common, but they vary in directions that they share: five
times as much as by chance where it was measured, and twelve times on photographs, where those of two networks agree as much as
chance has it. So a split of the vectors is taken for two spaces only where both are so.

A network that has learned to set its groups apart is another matter: on photographs of cartons and fruit their directions shared
no more than by chance after training. But it sends such groups to opposite sides, which two networks that know nothing of each
other do not.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LEAST = 100
"""Vectors below which nobody can tell."""
LEAST_DIMENSION = 128
"""Dimensions below which directions agree by chance."""
SMALLEST_GROUP = 30
NEIGHBOURS = 5
MIXED_NEIGHBOURS = 0.01
"""Share of the vectors whose nearest is of the other group, up to which two groups are apart."""
DIRECTIONS = 8
SPLITS = 3
"""Directions of the largest variation along which two groups are looked for."""
UNRELATED = 2.0
"""The agreement of two groups' directions, in multiples of chance, up to which they are those of two networks."""
OF_ONE_NETWORK = 4.0
"""The agreement of the two halves of either group from which on agreement says anything of these vectors."""
OPPOSITE = -0.5
"""Cosine of the means of two groups up to which one network has set them apart; that of two networks is what chance makes it."""


def other_space(vectors: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Return which of the vectors lie in another space than the most, where they are plainly of two; ``None`` where they are not.

    Args:
        vectors: (N, D) unit rows; a random sample, since all are compared with all.

    Returns:
        (N,), at most half of them true.
    """
    count, dimension = vectors.shape
    if count < LEAST or dimension < LEAST_DIMENSION:
        return None
    nearest = np.argsort(3 * np.eye(count, dtype=np.float32) - vectors @ vectors.T, axis=1)[:, :NEIGHBOURS]
    for split in _splits(vectors, nearest):
        group = split if 2 * split.sum() <= count else ~split
        if group.sum() < SMALLEST_GROUP:
            continue
        crossing = group[nearest[:, 0]] != group
        if max(crossing[group].mean(), crossing[~group].mean()) > MIXED_NEIGHBOURS:
            continue
        inside, outside = vectors[group], vectors[~group]
        if _cosine(inside.mean(0), outside.mean(0)) <= OPPOSITE:
            continue
        if _agreement(inside, outside) <= UNRELATED and min(map(_own_agreement, (inside, outside))) >= OF_ONE_NETWORK:
            return group
    return None


def _splits(vectors: NDArray[np.float32], nearest: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """Two groups each: what neighbours link and all else; and around two centres."""
    yield from _linked(nearest)
    for direction in _directions(vectors)[:SPLITS]:
        yield _halves(vectors, direction)


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The directions in which vectors (N, D) vary most, (min(N, D), D)."""
    found: NDArray[np.float32] = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2]
    return found


def _halves(vectors: NDArray[np.float32], direction: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The vectors in two groups around two centres (k-means), from the two ends of a direction of large variation."""
    group: NDArray[np.bool_] = (vectors - vectors.mean(0)) @ direction > 0
    for _ in range(20):
        if group.all() or not group.any():
            break
        inside, outside = vectors[group].mean(0), vectors[~group].mean(0)
        moved = vectors @ (inside - outside) > (inside @ inside - outside @ outside) / 2
        if (moved == group).all():
            break
        group = moved
    return group


def _linked(nearest: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """The groups of vectors that are linked by being among each other's nearest, the largest first."""
    names = np.arange(len(nearest))
    while True:
        lowest = np.minimum(names, names[nearest].min(1))
        np.minimum.at(lowest, nearest, lowest[:, None])
        if (lowest == names).all():
            break
        names = lowest
    found, sizes = np.unique(names, return_counts=True)
    return (names == name for name in found[np.argsort(-sizes)])


def _own_agreement(group: NDArray[np.float32]) -> float:
    """Return how far the directions of two halves of a group agree, that are as apart as a group can be split."""
    half = _halves(group, _directions(group)[0])
    return _agreement(group[half], group[~half])


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(first @ second) / max(lengths, 1e-12)


def _agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return how far the directions in which two groups vary most agree, in multiples of chance; 0 of too few vectors."""
    if min(len(first), len(second)) <= DIRECTIONS:
        return 0.0
    cosines = _directions(first)[:DIRECTIONS] @ _directions(second)[:DIRECTIONS].T
    return float(np.square(cosines).sum() / DIRECTIONS**2 * first.shape[1])
