"""The gate: named conditions that a generation must meet before it answers queries."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergallery.errors import InputError, fault_of
from evergallery.holdings.holdings import Holdings
from evergallery.retrieval.bootstrap import Interval, wilson
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.figures import interval_in_points, percent

FILE = "gate.toml"

DEFAULT = """\
# What a new generation must show on held-out images before `evergallery promote` lets it answer queries: alone, against the
# generation that answers now, and in the vectors of every other generation that the gallery holds. Points are percentage
# points of recall@1. Remove a line to drop its condition; self_test alone is dropped by  self_test = false

# The new generation in vectors of its own, minus the generation that answers now in its own, all classes: the lower end of
# the paired confidence interval must not lie below this. At -1 everything is refused that is not shown to be at most a point
# worse; 0 asks for proof that it is at least as good, which takes thousands of queries where it is hardly better. A file
# without this line asks for -1.
self_test = -1.0

# New queries in old vectors, minus the old generation alone, all classes: the lower end of the paired confidence interval
# must not lie below this. With 2 500 queries the interval reaches some 2 points to each side; a stricter figure needs more.
cross_test = -2.0

# Points that the new generation, alone, may lose on the classes that the old one knew.
forgetting = 1.0

# Percent of the queries that were answered rightly and would now be answered wrongly. Small networks flip some 10 each way
# while their recall stays the same; for large ones, 2 is within reach: lower this to what yours do.
negative_flips = 15.0

# Queries below which nothing is concluded.
queries = 200

# Of every interval.
confidence = 0.95
"""


@dataclass(frozen=True)
class Condition:
    """One condition of the gate beside what was measured.

    Attributes:
        name: of the condition.
        required: what the policy asks for.
        measured: what was found, or why nothing was.
        met: ``None`` where it could not be measured, which is told and refuses nothing.
    """

    name: str
    required: str
    measured: str
    met: bool | None

    @property
    def failed(self) -> bool:
        """Return whether it was measured and is not met."""
        return self.met is False

    def __str__(self) -> str:
        result = "not measured" if self.met is None else "met" if self.met else "NOT MET"
        return f"{result}: {self.name}: {self.measured}, required {self.required}"


@dataclass(frozen=True)
class Scope:
    """The part of two spaces that is compared.

    Attributes:
        alone: each generation in vectors of its own.
        searched: new queries in the old vectors.
    """

    alone: bool = True
    searched: bool = True


ALL = Scope()


class Gate(BaseModel):
    """The policy of a workspace; see ``DEFAULT`` for what each figure means. ``None``, or ``False``, drops a condition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A policy that was written before this condition was known is held to it.
    self_test: Annotated[float, Field(strict=True, ge=-100, le=100)] | Literal[False] = -1.0
    cross_test: float | None = Field(default=None, ge=-100, le=100)
    forgetting: float | None = Field(default=None, ge=-100, le=100)
    negative_flips: float | None = Field(default=None, ge=0, le=100)
    queries: int = Field(default=1, ge=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)

    @classmethod
    def read(cls, path: Path) -> "Gate":
        """Read a policy; a workspace without the file has the default one.

        Raises:
            InputError: it is not TOML, or has a name or value that no condition has.
        """
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else DEFAULT
            return cls.model_validate(tomllib.loads(text))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not TOML ({error}): correct it, or delete it for the default gate.") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{path}: {'.'.join(map(str, first['loc']))} is not usable ({fault_of(error)}): the gate knows "
                f"{', '.join(cls.model_fields)}."
            ) from error

    def conditions(self, evidence: Evidence, scope: Scope = ALL) -> tuple[Condition, ...]:
        """Every condition with its figure.

        Args:
            evidence: new queries in old vectors, and each generation alone.
            scope: what is compared.
        """
        found = [
            self._queries(evidence),
            self._self_test(evidence) if scope.alone else None,
            self._cross_test(evidence) if scope.searched else None,
            self._negative_flips(evidence) if scope.searched else None,
            self._forgetting(evidence),
        ]
        return tuple(condition for condition in found if condition)

    def compatible(self, evidence: Evidence) -> bool:
        """Return whether new queries serve in the old vectors: the conditions on the pair, whatever the number of queries."""
        pair = (self._cross_test(evidence), self._negative_flips(evidence))
        return all(condition.met for condition in pair if condition)

    def alone(self, evidence: Evidence) -> bool:
        """Return whether the new generation in vectors of its own meets the condition on it, whatever the number of queries."""
        condition = self._self_test(evidence)
        return condition is None or bool(condition.met)

    def incompatible(self, evidence: Evidence) -> bool:
        """Return whether it is shown that new queries do not serve in the old vectors.

        The cross-test's interval lies below what the policy asks for, or the flips' Wilson interval above it.
        """
        low, _ = wilson(evidence.negative_flips, evidence.queries, confidence=self.confidence)
        crossed = self.cross_test is not None and 100 * evidence.cross_change.high < self.cross_test
        return crossed or (self.negative_flips is not None and 100 * low > self.negative_flips)

    def serves_through(self, direct: Evidence, adapted: Evidence) -> bool:
        """Return whether queries go through an adapter: it is stored, and meets what the direct route does not."""
        return not adapted.estimated and self.compatible(adapted) and not self.compatible(direct)

    def _queries(self, evidence: Evidence) -> Condition:
        return Condition("queries", f"at least {self.queries}", str(evidence.queries), evidence.queries >= self.queries)

    def _self_test(self, evidence: Evidence) -> Condition | None:
        if self.self_test is False:
            return None
        return _at_least("self-test", self.self_test, evidence.self_change, f"alone, against {evidence.old} alone")

    def _cross_test(self, evidence: Evidence) -> Condition | None:
        if self.cross_test is None:
            return None
        return _at_least("cross-test", self.cross_test, evidence.cross_change, f"against {evidence.old} alone")

    def _negative_flips(self, evidence: Evidence) -> Condition | None:
        if self.negative_flips is None:
            return None
        return Condition(
            "negative flips",
            f"at most {self.negative_flips:g} %",
            percent(evidence.negative_flips),
            100 * evidence.negative_flips <= self.negative_flips,
        )

    def _forgetting(self, evidence: Evidence) -> Condition | None:
        if self.forgetting is None:
            return None
        required = f"at most {self.forgetting:g} point{'s' * (self.forgetting != 1)} on old classes"
        if evidence.forgetting is None:
            why = evidence.forgetting_not_measured or "no old class is known"
            return Condition("forgetting", required, why, None)
        met = 100 * evidence.forgetting <= self.forgetting
        return Condition("forgetting", required, f"{100 * evidence.forgetting:.1f} points", met)


def gate_of(holdings: Holdings) -> Gate:
    """Return what a generation must show before it is promoted, from ``gate.toml``.

    Raises:
        InputError: the file cannot be used.
    """
    return Gate.read(holdings.directory / FILE)


def _at_least(name: str, limit: float, change: Interval, of: str) -> Condition:
    return Condition(
        name,
        f"lower end at least {limit:+.1f} points",
        f"{interval_in_points(change)} {of}",
        100 * change.low >= limit,
    )
