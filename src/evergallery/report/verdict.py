"""The verdict of a report: the gate on a pair of spaces, condition by condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evergallery.report.measurements import Measurements
from evergallery.report.words import counted, listed, moment
from evergallery.upgrade.gate import Condition

SEARCHED = ("cross-test", "negative flips")
"""Conditions on queries in the vectors of the base."""


def verdict(found: Measurements) -> dict[str, Any]:
    """The gate on the candidate, condition by condition."""
    if found.base is None:
        return {"sentences": [], "conditions": ()}
    for agreed in found.check.agreements:
        return {
            "sentences": [
                f"Queries of {agreed.new} and {agreed.old} have {100 * agreed.overlap:.1f} % of their {agreed.k} nearest "
                f"among the vectors of {agreed.old} in common, and the same first one for {100 * agreed.same_first:.1f} % of "
                f"{counted(agreed.queries, 'query', 'queries')}.",
                "Without labels nobody knows which answers are right, so that the gate cannot judge.",
            ],
            "conditions": (),
        }
    pair = found.updates[found.candidate]
    judged = GateJudgement(found.candidate, found.base, pair.conditions, found.searched, found.promotion)
    return {
        "sentences": [f"{pair.verdict.capitalize()}: {pair.reason}", *gate_sentences(judged)],
        "conditions": judged.shown,
    }


@dataclass(frozen=True)
class GateJudgement:
    """A pair of spaces before the gate.

    Attributes:
        candidate: name of the generation in question.
        base: name of the space whose vectors it would search.
        conditions: of the gate, with what was measured.
        searched: whether queries of the candidate meet vectors of the base: while it answers, or once it does.
        promotion: of the candidate, where it answers queries.
    """

    candidate: str
    base: str
    conditions: Sequence[Condition]
    searched: bool
    promotion: Mapping[str, str | bool | None] | None

    @property
    def shown(self) -> list[Condition]:
        """The conditions that count: those on vectors of the base only where these are searched."""
        return [condition for condition in self.conditions if self.searched or condition.name not in SEARCHED]


def gate_sentences(judged: GateJudgement) -> list[str]:
    """Return what the gate says of a pair, and since when the candidate answers queries where it does."""
    missed = listed([condition.name for condition in judged.shown if condition.failed])
    if judged.promotion is not None:
        sentences = [_answers(judged.candidate, judged.promotion)]
        sentences += [f"By these held-out images it would be refused today; not met: {missed}."] if missed else []
    else:
        sentences = [f"The gate is not passed; not met: {missed}." if missed else "Every condition of the gate is met."]
    if not judged.searched:
        sentences.append(
            f"No vectors of {judged.base} are searched, so that only what {judged.candidate} does in vectors of its own counts."
        )
    return sentences


def _answers(candidate: str, promotion: Mapping[str, str | bool | None]) -> str:
    """Since when the candidate answers queries, and by what right."""
    since = f"{candidate} answers queries since {moment(str(promotion.get('time', '')))}"
    if promotion.get("refused"):
        return f"{since}, against the gate: {promotion['why']}"
    judged = promotion.get("judged")
    return f"{since}; the gate was passed then, judged on {judged}." if judged else f"{since}."
