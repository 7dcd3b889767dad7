"""The gate: named conditions that a generation must meet before it answers queries, and the verdict in a word."""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evergallery.errors import InputError
from evergallery.retrieval.bootstrap import POWER, Interval, queries_needed, wilson
from evergallery.upgrade.evidence import Evidence

FILE = "gate.toml"

DEFAULT = """\
# What a new generation must show on held-out images before `evergallery promote` lets it answer queries: alone, against the
# generation that answers now, and in the vectors of every other generation that the gallery holds. Points are percentage
# points of recall@1. Remove a line to drop its condition; self_test alone is dropped by  self_test = false

# The new generation in vectors of its own, minus the generation that answers now in its own, all classes: the lower end of
# the paired confidence interval must not lie below this. At 0 nothing is promoted that is not shown to be at least as good;
# -2 also lets pass what is shown to be at most two points worse. A file without this line asks for 0.
self_test = 0.0

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

Verdict = Literal["compatible", "compatible after an adapter", "needs refresh", "worse", "not shown"]


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
        """Whether it was measured and is not met."""
        return self.met is False

    def __str__(self) -> str:
        result = "not measured" if self.met is None else "met" if self.met else "NOT MET"
        return f"{result}: {self.name}: {self.measured}, required {self.required}"


class Gate(BaseModel):
    """The policy of a workspace; see ``DEFAULT`` for what each figure means. ``None``, or ``False``, drops a condition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A policy that was written before this condition was known is held to it.
    self_test: Annotated[float, Field(strict=True, ge=-100, le=100)] | Literal[False] = 0.0
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

    def incompatible(self, evidence: Evidence) -> bool:
        """Whether it is shown that new queries do not serve in the old vectors.

        The cross-test's interval lies below what the policy asks for, or the flips' Wilson interval above it.
        """
        low, _ = wilson(evidence.negative_flips, evidence.queries, confidence=self.confidence)
        crossed = self.cross_test is not None and 100 * evidence.cross_change.high < self.cross_test
        return crossed or (self.negative_flips is not None and 100 * low > self.negative_flips)

    def verdict(self, direct: Evidence, *adapted: Evidence) -> tuple[Verdict, str]:
        """The verdict and its reason in a sentence, which names every route that was measured.

        In this order: *compatible*, where the direct route meets the cross-test and the flips; *compatible after an adapter*,
        where a route through one does; *worse*, where the interval of the new generation alone minus the old one alone lies
        below 0; *needs refresh*, where that interval lies above 0 and every route is shown to be incompatible; and else, or
        where there are fewer queries than the policy asks for, *not shown*.

        Args:
            direct: new queries in old vectors as they are.
            *adapted: the same through adapters.
        """
        new, old = direct.new, direct.old
        routes = f"queries of {new} in vectors of {old} reach {direct.metric} {self._ways(direct, adapted)}"
        own, change = direct.score("new self"), self._interval(direct.self_change)
        alone = f"in vectors of its own {new} reaches {_percent(own)} ({change})"
        more = (
            f" Forgetting was not measured: {direct.forgetting_not_measured}."
            if self.forgetting is not None and direct.forgetting_not_measured
            else ""
        )
        word = self._word(direct, adapted)
        if direct.queries < self.queries or word == "not shown":
            return "not shown", f"{self._undecided(direct, adapted)}; {routes}; {alone}.{more}"
        if word == "worse":
            return word, f"{alone}: refreshing the gallery would not pay, and {routes}.{more}"
        how = ""
        if word == "compatible after an adapter" and self._serving(adapted).estimated:
            how = f"; make an adapter with  evergallery adapt {new} {old}"
        return word, f"{routes}; {alone}{how}.{more}"

    def serves_through(self, direct: Evidence, adapted: Evidence) -> bool:
        """Whether queries go through an adapter: it is stored, and meets what the direct route does not."""
        return not adapted.estimated and self.compatible(adapted) and not self.compatible(direct)

    def _word(self, direct: Evidence, adapted: Sequence[Evidence]) -> Verdict:
        """The verdict, whatever the number of queries."""
        if self.compatible(direct):
            return "compatible"
        if any(self.compatible(one) for one in adapted):
            return "compatible after an adapter"
        if direct.self_change.high < 0:
            return "worse"
        if direct.self_change.low > 0 and all(self.incompatible(one) for one in (direct, *adapted)):
            return "needs refresh"
        return "not shown"

    def _serving(self, adapted: Sequence[Evidence]) -> Evidence:
        """The best route through an adapter among those that serve; stored ones before those that are yet to be made."""
        serving = [one for one in adapted if self.compatible(one)]
        return max(serving, key=lambda one: (not one.estimated, one.score("cross")))

    def _undecided(self, direct: Evidence, adapted: Sequence[Evidence]) -> str:
        """How many more queries would decide, and what, where the differences stay as they are."""
        word, needed = self._power(direct, adapted)
        if needed is None:
            return "no number of queries would decide while the difference that was measured is 0"
        total = max(needed, self.queries, direct.queries + 1)
        counted = f"{total - direct.queries} more quer{'y' if total - direct.queries == 1 else 'ies'} would decide"
        return f"{counted}, {total} in all, where the differences stay as they are: {word}, with a power of {100 * POWER:g} %"

    def _power(self, direct: Evidence, adapted: Sequence[Evidence]) -> tuple[Verdict, int | None]:
        """The verdict that the measured means lead to, and the queries in all that show it."""
        if (word := self._word(direct, adapted)) != "not shown":
            return word, direct.queries
        routes = [(one, self._queries_to_serve(one)) for one in (direct, *adapted)]
        serving = [(needed, one) for one, needed in routes if needed is not None]
        if serving:
            needed, one = min(serving, key=lambda pair: pair[0])
            return ("compatible" if one is direct else "compatible after an adapter"), needed
        change = direct.self_change
        alone = queries_needed(
            _deviation(change, direct.queries, self.confidence), change.mean, confidence=self.confidence
        )
        if change.mean <= 0 or alone is None:
            return "worse", alone
        failing = [self._queries_to_fail(one) for one in (direct, *adapted)]
        return "needs refresh", None if None in failing else max(alone, *(one for one in failing if one is not None))

    def _queries_to_serve(self, evidence: Evidence) -> int | None:
        """Queries that show a route to be compatible; ``None`` where the measured figures say that it is not."""
        if self.negative_flips is not None and 100 * evidence.negative_flips > self.negative_flips:
            return None
        distance = self._above_limit(evidence)
        return self._queries_for(evidence, distance) if distance > 0 else None

    def _queries_to_fail(self, evidence: Evidence) -> int | None:
        """Queries that show a route to be incompatible; ``None`` where the measured figures lie on the limit."""
        if self.incompatible(evidence):
            return evidence.queries
        found = [self._queries_for(evidence, distance)] if (distance := self._above_limit(evidence)) < 0 else []
        share = evidence.negative_flips
        if self.negative_flips is not None and 100 * share > self.negative_flips:
            over, deviation = share - self.negative_flips / 100, math.sqrt(share * (1 - share))
            found.append(queries_needed(deviation, over, confidence=self.confidence))
        return min((one for one in found if one is not None), default=None)

    def _above_limit(self, evidence: Evidence) -> float:
        """How far the cross-test's mean lies above what the policy asks for, in [-1, 1]; without a policy 1."""
        return 1.0 if self.cross_test is None else evidence.cross_change.mean - self.cross_test / 100

    def _queries_for(self, evidence: Evidence, distance: float) -> int | None:
        deviation = _deviation(evidence.cross_change, evidence.queries, self.confidence)
        return queries_needed(deviation, distance, confidence=self.confidence)

    def _ways(self, direct: Evidence, adapted: Sequence[Evidence]) -> str:
        """Every route with its recall@1, or nDCG@1, and its change."""
        ways = [
            f"{_percent(one.score('cross'))} {one.path()} ({self._interval(one.cross_change)})"
            for one in (direct, *adapted)
        ]
        listed = ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])} and {ways[-1]}"
        return f"{listed}, {direct.old} alone {_percent(direct.score('old self'))}"

    def _interval(self, change: Interval) -> str:
        return f"{_points(change.mean)}, {100 * self.confidence:g} % interval {_points(change.low)} to {_points(change.high)}"

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
        if self.forgetting is None:
            return None
        required = f"at most {self.forgetting:g} point{'s' * (self.forgetting != 1)} on old classes"
        if evidence.forgetting is None:
            why = evidence.forgetting_not_measured or "no old class is known"
            return Condition("forgetting", required, why, None)
        met = 100 * evidence.forgetting <= self.forgetting
        return Condition("forgetting", required, f"{100 * evidence.forgetting:.1f} points", met)


def _at_least(name: str, limit: float, change: Interval, of: str) -> Condition:
    return Condition(
        name,
        f"lower end at least {limit:+.1f} points",
        f"{_points(change.mean)} ({_points(change.low)} to {_points(change.high)}) {of}",
        100 * change.low >= limit,
    )


def _deviation(change: Interval, queries: int, confidence: float) -> float:
    """Of one query's difference; of checks that did not keep it, from the width of the interval."""
    if change.deviation is not None:
        return change.deviation
    half = (change.high - change.low) / 2
    return half * math.sqrt(queries) / NormalDist().inv_cdf((1 + confidence) / 2)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"
