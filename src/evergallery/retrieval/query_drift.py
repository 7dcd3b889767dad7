"""A test for a drift of the queries: two samples compared again and again, with one bound on all false alarms."""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 4
"""Fixed directions that a query's embedding is seen from."""
FALSE_ALARMS = 0.01
"""Probability that there is ever a false alarm, over all windows that one reference is compared with."""
STRETCHES = (4, 16)
"""Parts of the reference that are compared with its rest."""
LEAST = 0.1
"""A distance below this is no alarm, however sure it is: a tenth of the queries would have to change to make it."""


def kolmogorov_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Largest difference of two samples' distribution functions, in [0, 1] (Smirnov 1939).

    Args:
        first: (N,) values.
        second: (M,) values.
    """
    values = np.sort(np.concatenate([first, second]))
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def dependence(reference: NDArray[np.floating]) -> float:
    """Return how much further stretches of a sample lie from its rest than those of independent draws would; 1 where they do not.

    Searches come in bursts, and by day and night: they tell less than as many that have nothing to do with each other. The
    distances of quarters and of sixteenths, whichever says more, are laid beside their mean for independent draws,
    ``sqrt(π/2) ln 2 sqrt(1/n + 1/m)`` (the mean of Kolmogorov's distribution).

    Args:
        reference: (N, C) values in the order in which they came, by column.
    """
    found = [1.0]
    for parts in STRETCHES:
        distances, means = [], []
        for rows in np.array_split(np.arange(len(reference)), parts):
            rest = np.delete(reference, rows, axis=0)
            columns = zip(reference[rows].T, rest.T, strict=True)
            distances += [kolmogorov_distance(stretch, others) for stretch, others in columns]
            means.append(math.sqrt(math.pi / 2) * math.log(2) * math.sqrt(1 / len(rows) + 1 / len(rest)))
        found.append(float(np.mean(distances) / np.mean(means)))
    return max(found)


def alarm_distance(
    reference: int, window: int, number: int, *, samples: int = 1, rate: float = FALSE_ALARMS, stretch: float = 1.0
) -> float:
    """The distance from which a window differs from the reference, so that all windows together rarely do by chance.

    The k-th window may spend ``rate · 6 / (π² k²)``, which adds up to ``rate`` over all windows: a union bound, which does
    not mind that windows share a reference. The tail is that of Dvoretzky, Kiefer and Wolfowitz for two samples,
    ``2 exp(-2 d² n m / (n + m))`` (Wei and Dudley 2012).

    Args:
        reference: n, values in the reference.
        window: m, values in the window.
        number: k of the window, from 1.
        samples: how many statistics share the rate.
        rate: of false alarms in all, in (0, 1).
        stretch: how much further samples like these lie apart than independent ones; see ``dependence``.
    """
    spent = rate * 6 / (math.pi * number) ** 2 / samples
    return max(LEAST, stretch * math.sqrt(math.log(2 / spent) / 2 * (1 / reference + 1 / window)))


def directions(fingerprint: str, dimension: int) -> NDArray[np.float32]:
    """(P, D) unit rows, the same for a generation for ever: fixed before any query comes, so that queries stay comparable."""
    seed = int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:8], "big")
    rows = np.random.default_rng(seed).normal(size=(DIRECTIONS, dimension))
    made: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made
