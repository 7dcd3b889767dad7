"""Confidence intervals over queries."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLES = 2000
POWER = 0.8
MOST_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its confidence interval.

    Attributes:
        mean: over the queries.
        low: lower end.
        high: upper end.
        deviation: standard deviation of the values, one for each query; ``None`` where it was not kept.
    """

    mean: float
    low: float
    high: float
    deviation: float | None = None


def bootstrap_interval(
    values: "Tensor", *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of one value for each query (Efron and Tibshirani 1993, chapter 13).

    For two systems that answered the same queries, give the differences: the interval is then paired.

    Args:
        values: (Q,), for instance ``new.hits_at_1.double() - old.hits_at_1.double()``.
        confidence: in (0, 1).
        resamples: how many times Q queries are drawn with replacement.
        seed: of the draws.

    Raises:
        InputError: no query, a value that is not finite, or a confidence outside (0, 1).
    """
    if values.ndim != 1 or len(values) == 0 or not values.isfinite().all():
        raise InputError(f"An interval needs a finite value for each query, at least one: got {tuple(values.shape)}.")
    distinct, counts = np.unique(values.double().cpu().numpy(), return_counts=True)
    return interval_of_counts(distinct, counts, confidence=confidence, resamples=resamples, seed=seed)


def interval_of_counts(
    distinct: NDArray[np.float64],
    counts: NDArray[np.int64],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """``interval`` of values that are known by how often each of them occurs.

    Args:
        distinct: (V,) values, rising.
        counts: (V,) queries with each, at least 1.
        confidence: in (0, 1).
        resamples: how many times the queries are drawn with replacement.
        seed: of the draws.

    Raises:
        InputError: no query, or a confidence outside (0, 1).
    """
    if len(distinct) == 0:
        raise InputError("An interval needs at least one query: there is none.")
    if not 0 < confidence < 1:
        raise InputError(f"A confidence of {confidence} is not usable: give a share between 0 and 1, such as 0.95.")
    # Drawing queries with replacement is drawing how often each distinct value occurs: a few counts in place of Q rows.
    total = int(counts.sum())
    draw = np.random.default_rng(seed)
    at_once = max(1, MOST_AT_ONCE // len(distinct))
    means = np.concatenate(
        [
            draw.multinomial(total, counts / total, size=min(at_once, resamples - start)) @ distinct / total
            for start in range(0, resamples, at_once)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    mean = float(distinct @ counts / total)
    deviation = math.sqrt(float((distinct - mean) ** 2 @ counts / total))
    return Interval(mean, float(low), float(high), deviation)


def queries_needed(deviation: float, distance: float, *, confidence: float = 0.95, power: float = POWER) -> int | None:
    """Queries for an interval of a mean that ends short of a limit, with a given probability (Chow, Shao and Wang 2008, 3.1).

    ``((z_(1+confidence)/2 + z_power) · deviation / distance)²``: the first quantile is the interval's half-width in standard
    errors, the second how much of the distance chance must leave over. For two systems that answered the same queries the
    deviation is that of the paired differences.

    Args:
        deviation: standard deviation of one query's value.
        distance: of the mean from the limit; its sign does not matter.
        confidence: of the interval, in (0, 1).
        power: probability with which the interval ends short of the limit, in (0, 1).

    Returns:
        ``None`` where the mean lies on the limit: no number of queries would do.
    """
    if distance == 0:
        return None
    z = NormalDist()
    return math.ceil(((z.inv_cdf((1 + confidence) / 2) + z.inv_cdf(power)) * deviation / distance) ** 2)


def wilson(share: float, queries: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share of Q queries of which nothing but the share is known (Wilson 1927).

    Args:
        share: in [0, 1].
        queries: Q; of none, everything is possible.
        confidence: in (0, 1).
    """
    if queries == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * queries)) / (1 + z**2 / queries)
    half = z / (1 + z**2 / queries) * math.sqrt(share * (1 - share) / queries + z**2 / (4 * queries**2))
    # At 0 and 1 the interval ends there, but for what rounding adds.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
