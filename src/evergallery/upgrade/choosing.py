"""The ways in which a generation could answer, from the last check, with what each gives and costs."""

from dataclasses import dataclass

from evergallery.errors import require_at_least
from evergallery.holdings.answer import Answer
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.kept_evidence import evidence_between
from evergallery.upgrade.options import Option, Recommendation, cost_of, options_of, recommend
from evergallery.upgrade.promotion import comparisons


@dataclass(frozen=True)
class Ways:
    """The ways of answering that can be chosen from.

    Attributes:
        old: the space that most of what would be searched lies in.
        options: every way that was measured.
        advice: which of them to take.
    """

    old: str
    options: tuple[Option, ...]
    advice: Recommendation


def ways(holdings: Holdings, generation: str, price_per_hour: float | None = None) -> Ways | None:
    """Every way in which a generation could answer; ``None`` where no check has measured them.

    Args:
        holdings: of the workspace.
        generation: that would answer.
        price_per_hour: of this machine, in whatever currency.

    Raises:
        InputError: the price is below 0.
        RefusedError: what answers now is gone.
    """
    require_at_least("price_per_hour", price_per_hour, 0)
    new = Space(holdings.generation(generation))
    searched = [comparison.space for comparison in comparisons(holdings, new) if comparison.scope.searched]
    if not searched:
        return None
    held = holdings.gallery.count_by_generation(view=holdings.state.view())
    old = max(searched, key=lambda space: held.get(space.fingerprint, 0))
    evidence = evidence_between(holdings, new, old, Answer(way="direct"))
    # Of checks by earlier versions the outcomes are not known.
    if evidence is None or not any(outcome.way == "refresh" for outcome in evidence.outcomes):
        return None
    policy, cost = gate_of(holdings), cost_of(holdings, new.maker, old, price_per_hour)
    options = options_of(evidence, policy, cost)
    return Ways(old.name, options, recommend(evidence, options, policy, cost))
