"""Calibration: from a cosine to the probability that query and item are of the same class, for one pair of generations.

Scores of different pairs do not share a scale: new queries lie closer to vectors of their own generation than to those of
an older one, match or not. Each pair (generation of the query, generation of the item) therefore has a sigmoid of its own,
fitted on held-out images, and one ranking over vectors of several generations goes by the probability.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """``p(match | score) = σ(slope · score + intercept)``; rising, so it never reorders one pair's results.

    Attributes:
        slope: a of ``1 / (1 + exp(-(a s + b)))``, for a cosine s.
        intercept: b.
        presence: slope and intercept of another sigmoid: of the score of a query's best item, that anything of its class is
            there to be found; ``None`` where it was not measured.
    """

    slope: float
    intercept: float
    presence: tuple[float, float] | None = None

    def probability(self, score: float) -> float:
        """The probability of a match in (0, 1), for a cosine in [-1, 1]."""
        return _sigmoid(self.slope * score + self.intercept)

    def logits(self, scores: "Tensor") -> "Tensor":
        """The logits of these probabilities, for cosines of any shape."""
        return self.slope * scores + self.intercept

    def present(self, best: float) -> float | None:
        """The probability that anything of a query's class is there, for the cosine of its best item, or ``None`` unmeasured."""
        return None if self.presence is None else _sigmoid(self.presence[0] * best + self.presence[1])

    def score_at(self, probability: float) -> float:
        """The cosine at which a match has this probability, in (0, 1); it may lie outside [-1, 1]."""
        return (math.log(probability / (1 - probability)) - self.intercept) / self.slope


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, logit))))
