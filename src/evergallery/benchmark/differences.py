"""Differences of two methods, seed by seed: the mean, and the interval of Student's t."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

T_975 = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706, 6: 2.4469, 7: 2.3646, 8: 2.3060, 9: 2.2622}
"""Quantiles of Student's t by degrees of freedom; beyond them see ``_quantile``."""


def _quantile(freedom: int) -> float:
    """The 0.975 quantile of Student's t; beyond nine degrees of freedom by its expansion around that of a normal variable.

    Fisher and Cornish 1960, three terms: less than 0.001 too small.
    """
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    expanded: float = z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
    return T_975.get(freedom, expanded)


def half_interval(differences: Sequence[float]) -> float | None:
    """Return half of the 95 % interval of a mean by Student's t; ``None`` where there is one value alone."""
    freedom = len(differences) - 1
    if freedom < 1:
        return None
    return _quantile(freedom) * statistics.stdev(differences) / math.sqrt(len(differences))


@dataclass(frozen=True)
class Difference:
    """One method minus another over the seeds that both have, in points of a column.

    Attributes:
        mean: over the seeds.
        half: half of its 95 % interval by Student's t; ``None`` for one seed.
        seeds: how many.
    """

    mean: float
    half: float | None
    seeds: int

    @classmethod
    def of(cls, apart: Sequence[float]) -> "Difference":
        """Return that of what lies between the two, seed by seed; there is at least one."""
        return cls(statistics.fmean(apart), half_interval(apart), len(apart))

    @property
    def shown(self) -> bool:
        """Return whether the seeds show an order of the two."""
        return self.half is not None and abs(self.mean) > self.half

    def text(self) -> str:
        """Return it as a table has it: in parentheses where no order is shown."""
        text = f"{self.mean:+.1f}".replace("-", "−")
        if self.half is None:
            return f"({text}, one seed)"
        return f"{text} ± {self.half:.1f}" if self.shown else f"({text} ± {self.half:.1f})"
