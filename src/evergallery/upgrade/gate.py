"""The gate: named conditions that a generation must meet before it answers queries, and the verdict in a word."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergallery.errors import InputError
from evergallery.retrieval.bootstrap import Interval
from evergallery.upgrade.evidence import Evidence

FILE = "gate.toml"

DEFAULT = """\
# What a new generation must show on held-out images before `evergallery promote` lets it answer queries: alone, against the
# generation that answers now, and in the vectors of every other generation that the gallery holds. Points are percentage
# points of recall@1. Remove a line to drop its condition; self_test alone is dropped by  self_test = false

# The new generation in vectors of its own, minus the generation that answers now in its own, all classes: the lower end of
# the paired confidence interval must not lie below this. A file without this line asks for it too.
self_test = -2.0

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

Verdict = Literal["compatible", "compatible after an adapter", "needs refresh", "worse"]


@dataclass(frozen=True)
class Condition:
    """One condition of the gate beside what was measured."""

    name: str
    required: str
    measured: str
    met: bool

    def __str__(self) -> str:
        return f"{'met' if self.met else 'NOT MET'}: {self.name}: {self.measured}, required {self.required}"


class Gate(BaseModel):
    """The policy of a workspace; see ``DEFAULT`` for what each figure means. ``None``, or ``False``, drops a condition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A policy that was written before this condition was known is held to it.
    self_test: Annotated[float, Field(strict=True, ge=-100, le=100)] | Literal[False] = -2.0
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
        text = path.read_text() if path.is_file() else DEFAULT
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path} is not TOML ({error}): correct it, or delete it for the default gate.") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{path}: {'.'.join(map(str, first['loc']))} is not usable ({first['msg']}): the gate knows "
                f"{', '.join(cls.model_fields)}."
            ) from error

    def conditions(self, evidence: Evidence, *, searched: bool = True, alone: bool = True) -> tuple[Condition, ...]:
        """Every condition with its figure.

        Args:
            evidence: new queries in old vectors, and each generation alone.
            searched: with the conditions on new queries in the old vectors.
            alone: with the condition on the new generation alone against the old one alone.
        """
        found = [
            self._queries(evidence),
            self._self_test(evidence) if alone else None,
            self._cross_test(evidence) if searched else None,
            self._negative_flips(evidence) if searched else None,
            self._forgetting(evidence),
        ]
        return tuple(one for one in found if one)

    def compatible(self, evidence: Evidence) -> bool:
        """Whether new queries serve in the old vectors: the conditions on the pair, whatever the number of queries."""
        pair = (self._cross_test(evidence), self._negative_flips(evidence))
        return all(one.met for one in pair if one)

    def verdict(self, evidence: Evidence, adapted: Evidence | None = None) -> tuple[Verdict, str]:
        """The verdict and its reason in a sentence.

        Args:
            evidence: new queries in old vectors as they are.
            adapted: the same through an adapter, where there is one.
        """
        new, old = evidence.new, evidence.old
        before, alone = evidence.recall("old self"), evidence.recall("new self")
        cross = (
            f"queries of {new} in vectors of {old} reach recall@1 {_percent(evidence.recall('cross'))}, {old} alone "
            f"{_percent(before)} ({_points(evidence.cross_change.mean)}, {100 * self.confidence:g} % interval "
            f"{_points(evidence.cross_change.low)} to {_points(evidence.cross_change.high)})"
        )
        if self.compatible(evidence):
            return "compatible", f"{cross}."
        if adapted is not None and self.compatible(adapted):
            how = (
                f"an adapter fitted on other held-out images brings them to {_percent(adapted.recall('cross'))}: make one "
                f"with  evergallery adapt {new} {old}"
                if adapted.estimated
                else f"through {adapted.adapter} they reach {_percent(adapted.recall('cross'))}"
            )
            return "compatible after an adapter", f"{cross}; {how}."
        if evidence.self_change.mean <= 0:
            return "worse", (
                f"{new} in vectors of its own reaches recall@1 {_percent(alone)}, {old} {_percent(before)}: refreshing the "
                f"gallery would not pay, and {cross}."
            )
        return "needs refresh", f"{cross}; in vectors of its own {new} reaches {_percent(alone)}."

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
            _percent(evidence.negative_flips),
            100 * evidence.negative_flips <= self.negative_flips,
        )

    def _forgetting(self, evidence: Evidence) -> Condition | None:
        if self.forgetting is None or evidence.forgetting is None:
            return None
        return Condition(
            "forgetting",
            f"at most {self.forgetting:g} point{'s' * (self.forgetting != 1)} on old classes",
            f"{100 * evidence.forgetting:.1f} points",
            100 * evidence.forgetting <= self.forgetting,
        )


def _at_least(name: str, limit: float, change: Interval, of: str) -> Condition:
    return Condition(
        name,
        f"lower end at least {limit:+.1f} points",
        f"{_points(change.mean)} ({_points(change.low)} to {_points(change.high)}) {of}",
        100 * change.low >= limit,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"
