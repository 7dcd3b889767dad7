"""The verdict on a pair of spaces: a word with its reason, by intervals and never by the sign of a mean."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from evergallery.retrieval.bootstrap import POWER, Interval, queries_needed
from evergallery.upgrade.evidence import Evidence
from evergallery.upgrade.figures import percent, points
from evergallery.upgrade.gate import Gate

Verdict = Literal["compatible", "compatible after an adapter", "needs refresh", "worse", "not shown"]


def verdict(gate: Gate, direct: Evidence, *adapted: Evidence) -> tuple[Verdict, str]:
    """The verdict and its reason in a sentence, which names every route that was measured.

    In this order: *compatible*, where the direct route meets the cross-test and the flips; *compatible after an adapter*, where
    a route through one does; *worse*, where the interval of the new generation alone minus the old one alone lies below 0;
    *needs refresh*, where that interval lies above 0 and every route is shown to be incompatible; and else, or where there are
    fewer queries than the policy asks for, *not shown*.

    Args:
        gate: the policy.
        direct: new queries in old vectors as they are.
        *adapted: the same through adapters.
    """
    pair = _Pair(gate, direct, adapted)
    new, old = direct.new, direct.old
    routes = f"queries of {new} in vectors of {old} reach {direct.metric} {pair.ways()}"
    own, change = direct.score("new self"), pair.interval(direct.self_change)
    alone = f"in vectors of its own {new} reaches {percent(own)} ({change})"
    more = (
        f" Forgetting was not measured: {direct.forgetting_not_measured}."
        if gate.forgetting is not None and direct.forgetting_not_measured
        else ""
    )
    word = pair.word()
    if direct.queries < gate.queries or word == "not shown":
        return "not shown", f"{pair.undecided()}; {routes}; {alone}.{more}"
    if word == "worse":
        return word, f"{alone}: refreshing the gallery would not pay, and {routes}.{more}"
    how = ""
    if word == "compatible after an adapter" and pair.serving().estimated:
        how = f"; make an adapter with  evergallery adapt {new} {old} --pairs IMAGES"
    return word, f"{routes}; {alone}{how}.{more}"


@dataclass(frozen=True)
class _Pair:
    """A pair of spaces, with every route from the one to the other."""

    gate: Gate
    direct: Evidence
    adapted: tuple[Evidence, ...]

    def word(self) -> Verdict:
        """The verdict, whatever the number of queries."""
        if self.gate.compatible(self.direct):
            return "compatible"
        if any(self.gate.compatible(evidence) for evidence in self.adapted):
            return "compatible after an adapter"
        if self.direct.self_change.high < 0:
            return "worse"
        if self.direct.self_change.low > 0 and all(self.gate.incompatible(route) for route in self._routes()):
            return "needs refresh"
        return "not shown"

    def serving(self) -> Evidence:
        """The best route through an adapter among those that serve; stored ones before those that are yet to be made."""
        serving = [evidence for evidence in self.adapted if self.gate.compatible(evidence)]
        return max(serving, key=lambda evidence: (not evidence.estimated, evidence.score("cross")))

    def undecided(self) -> str:
        """Return how many more queries would decide, and what, where the differences stay as they are."""
        word, needed = self._power()
        if needed is None:
            return "no number of queries would decide while the difference that was measured is 0"
        have = self.direct.queries
        total = max(needed, self.gate.queries, have + 1)
        counted = f"{total - have} more quer{'y' if total - have == 1 else 'ies'} would decide"
        return f"{counted}, {total} in all, where the differences stay as they are: {word}, with a power of {100 * POWER:g} %"

    def ways(self) -> str:
        """Every route with its recall@1, or nDCG@1, and its change."""
        ways = [
            f"{percent(route.score('cross'))} {route.path()} ({self.interval(route.cross_change)})"
            for route in self._routes()
        ]
        listed = ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])} and {ways[-1]}"
        return f"{listed}, {self.direct.old} alone {percent(self.direct.score('old self'))}"

    def interval(self, change: Interval) -> str:
        """A change with its interval."""
        confidence = f"{100 * self.gate.confidence:g} % interval"
        return f"{points(change.mean)}, {confidence} {points(change.low)} to {points(change.high)}"

    def _routes(self) -> tuple[Evidence, ...]:
        return self.direct, *self.adapted

    def _power(self) -> tuple[Verdict, int | None]:
        """The verdict that the measured means lead to, and the queries in all that show it."""
        if (word := self.word()) != "not shown":
            return word, self.direct.queries
        routes = [(route, self._queries_to_serve(route)) for route in self._routes()]
        serving = [(needed, route) for route, needed in routes if needed is not None]
        if serving:
            needed, route = min(serving, key=lambda pair: pair[0])
            return ("compatible" if route is self.direct else "compatible after an adapter"), needed
        change = self.direct.self_change
        alone = self._queries_for(change, change.mean)
        if change.mean <= 0 or alone is None:
            return "worse", alone
        failing = [self._queries_to_fail(route) for route in self._routes()]
        known = [queries for queries in failing if queries is not None]
        return "needs refresh", max(alone, *known) if len(known) == len(failing) else None

    def _queries_to_serve(self, route: Evidence) -> int | None:
        """Queries that show a route to be compatible; ``None`` where the measured figures say that it is not."""
        flips = self.gate.negative_flips
        if flips is not None and 100 * route.negative_flips > flips:
            return None
        distance = self._above_limit(route)
        return self._queries_for(route.cross_change, distance) if distance > 0 else None

    def _queries_to_fail(self, route: Evidence) -> int | None:
        """Queries that show a route to be incompatible; ``None`` where the measured figures lie on the limit."""
        if self.gate.incompatible(route):
            return route.queries
        below = self._above_limit(route)
        found = [self._queries_for(route.cross_change, below)] if below < 0 else []
        share, flips = route.negative_flips, self.gate.negative_flips
        if flips is not None and 100 * share > flips:
            over, deviation = share - flips / 100, math.sqrt(share * (1 - share))
            found.append(queries_needed(deviation, over, confidence=self.gate.confidence))
        return min((queries for queries in found if queries is not None), default=None)

    def _above_limit(self, route: Evidence) -> float:
        """Return how far the cross-test's mean lies above what the policy asks for, in [-1, 1]; without a policy 1."""
        limit = self.gate.cross_test
        return 1.0 if limit is None else route.cross_change.mean - limit / 100

    def _queries_for(self, change: Interval, distance: float) -> int | None:
        deviation = _deviation(change, self.direct.queries, self.gate.confidence)
        return queries_needed(deviation, distance, confidence=self.gate.confidence)


def _deviation(change: Interval, queries: int, confidence: float) -> float:
    """The standard deviation of one query's difference; of checks that did not keep it, from the width of the interval."""
    if change.deviation is not None:
        return change.deviation
    half = (change.high - change.low) / 2
    return half * math.sqrt(queries) / NormalDist().inv_cdf((1 + confidence) / 2)
