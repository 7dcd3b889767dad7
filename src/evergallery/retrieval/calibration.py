"""From a cosine to the probability that query and item are of the same class, for one pair of generations.

Scores of different pairs do not share a scale: new queries lie closer to vectors of their own generation than to those of
an older one, match or not. Each pair (generation of the query, generation of the item) therefore has a sigmoid of its own,
fitted on held-out images, and one ranking over vectors of several generations goes by the probability.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Calibration:
    """``p(match | score) = σ(slope · score + intercept)``; rising, so it never reorders one pair's results."""

    slope: float
    intercept: float

    def probability(self, score: float) -> float:
        """Of a match, for a cosine in [-1, 1]."""
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, self.slope * score + self.intercept))))

    def score_at(self, probability: float) -> float:
        """The cosine at which a match has this probability, in (0, 1); it may lie outside [-1, 1]."""
        return (math.log(probability / (1 - probability)) - self.intercept) / self.slope
