"""Confidence intervals over queries."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from evergallery.errors import InputError

RESAMPLES = 2000
MOST_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Tensor, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
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
    if values.ndim != 1 or len(values) == 0 or not torch.isfinite(values).all():
        raise InputError(f"An interval needs a finite value for each query, at least one: got {tuple(values.shape)}.")
    if not 0 < confidence < 1:
        raise InputError(f"A confidence of {confidence} is not usable: give a share between 0 and 1, such as 0.95.")
    # Drawing queries with replacement is drawing how often each distinct value occurs: a few counts in place of Q rows.
    distinct, counts = np.unique(values.double().cpu().numpy(), return_counts=True)
    total = len(values)
    draw = np.random.default_rng(seed)
    at_once = max(1, MOST_AT_ONCE // len(distinct))
    means = np.concatenate(
        [
            draw.multinomial(total, counts / total, size=min(at_once, resamples - start)) @ distinct / total
            for start in range(0, resamples, at_once)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(distinct @ counts / total), float(low), float(high))


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
