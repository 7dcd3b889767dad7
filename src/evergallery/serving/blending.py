"""One query of several: pictures and stored items that results should be like, and items that they should not be like."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evergallery.errors import InputError
from evergallery.generations.generation import Generation

Vector = NDArray[np.float32]
Look = Callable[[Generation], Awaitable[Vector | None]]
"""The embedding (D,) of a query by a generation; ``None`` where it cannot look."""

LESS = 0.5
"""Weight of what results should not be like against what they should be like."""


def unit(numbers: ArrayLike) -> Vector:
    """A vector (D,) of any length and precision, as a unit vector.

    Raises:
        InputError: it is zero.
    """
    vector = np.asarray(numbers, np.float64)
    largest = float(np.abs(vector).max())
    if largest == 0:
        raise InputError("The vector is zero, and has no direction to search in: give another one.")
    # Scaled first: the squares of large numbers overflow, and those of small ones vanish.
    vector = vector / largest
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def blend(more: Sequence[Vector], less: Sequence[Vector]) -> Vector:
    """The mean of unit vectors (D,) minus half the mean of others, as a unit vector (Rocchio 1971).

    Raises:
        InputError: nothing is left of it.
    """
    if len(more) == 1 and not less:
        return more[0]
    mean = np.mean(more, axis=0, dtype=np.float64)
    return unit(mean - LESS * np.mean(less, axis=0, dtype=np.float64) if less else mean)


@dataclass(frozen=True)
class Query:
    """A query as a generation sees it, and as others do.

    Attributes:
        vector: (D,) of the generation that asks.
        look: of any other generation.
    """

    vector: Vector
    look: Look


def blended(more: Sequence[Query], less: Sequence[Query]) -> Query:
    """Several queries as one; a generation cannot look at it where it cannot look at one of them.

    Raises:
        InputError: nothing is left of it.
    """

    async def look(other: Generation) -> Vector | None:
        found = await asyncio.gather(*(query.look(other) for query in (*more, *less)))
        there = [vector for vector in found if vector is not None]
        return blend(there[: len(more)], there[len(more) :]) if len(there) == len(found) else None

    return Query(blend([query.vector for query in more], [query.vector for query in less]), look)
