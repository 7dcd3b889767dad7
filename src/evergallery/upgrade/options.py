"""Every way of answering beside what it costs, and which of them to take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from evergallery.errors import BusyError, EvergalleryError
from evergallery.generations.generation import Generation
from evergallery.holdings.answer import CHECKED, SECONDS, Answer
from evergallery.holdings.embedding import embed_pixels
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.spaces import Space
from evergallery.upgrade.evidence import Evidence, Outcome
from evergallery.upgrade.figures import percent, points
from evergallery.upgrade.gate import Gate

TOGETHER = 8
"""Images that a model looks at when its pace is measured."""
NEAR = 0.01
"""A way that falls short of a full refresh by no more than this share of the queries is as good as one."""
PARTS = (0.25, 0.5)
"""Shares of a partial refresh that are laid beside the ways."""


@dataclass(frozen=True)
class Cost:
    """The cost of looking at images, as far as it is known.

    Attributes:
        old: seconds for one image by the model of the old vectors; ``None`` where it cannot look at images.
        new: likewise by the new model.
        each: seconds for an image by the new model among many; reading it comes on top.
        items: in the gallery, whose vectors are still the old ones.
        bytes_each: of a new vector on disk.
        follows: whether the vectors of both models follow from one another, so that no image is needed.
        price: of an hour of this machine, in whatever currency.
    """

    old: float | None = None
    new: float | None = None
    each: float | None = None
    items: int | None = None
    bytes_each: int = 0
    follows: bool = False
    price: float | None = None


UNKNOWN = Cost()


@dataclass(frozen=True)
class Option:
    """A way of answering, what it gives, and what it costs.

    Attributes:
        name: in words.
        outcome: what was measured.
        milliseconds: that models take for a query, while nothing is kept; ``None`` where it is not known.
        images: that are embedded for a query at first, beside the query.
        images_kept: the same over the held-out queries in a row, each image once.
        seconds: before it answers so, in all; ``None`` where it is not known.
        bytes: of new vectors.
        money: for these seconds, where the price of an hour is given.
        passes: whether the gate would let it.
    """

    name: str
    outcome: Outcome
    milliseconds: float | None
    images: float
    images_kept: float
    seconds: float | None
    bytes: int | None
    money: float | None
    passes: bool

    def to_dict(self) -> dict[str, Any]:
        """The option as JSON values."""
        return {**vars(self), "outcome": self.outcome.model_dump(mode="json")}


@dataclass(frozen=True)
class Recommendation:
    """A recommendation for a new generation.

    Attributes:
        text: with its reason, and its commands.
        answer: the way to promote with; ``None`` where nothing should be promoted.
        refresh: whether the gallery should be refreshed before.
    """

    text: str
    answer: Answer | None
    refresh: bool = False


def cost_of(holdings: Holdings, new: Generation, old: Space, price: float | None = None) -> Cost:
    """Measure both models on grey pictures, and count what the gallery holds."""
    try:
        held = holdings.gallery.count_by_generation(view=holdings.state.view())
        items: int | None = held.get(old.fingerprint, 0)
    except BusyError:
        items = None
    return Cost(
        old=None if old.adapter else _seconds(holdings, old.maker, 1),
        new=_seconds(holdings, new, 1),
        each=_seconds(holdings, new, TOGETHER),
        items=items,
        bytes_each=4 * new.card.dimension,
        follows=old.adapter is None and holdings.loaded.between(old.maker, new) is not None,
        price=price,
    )


def options_of(evidence: Evidence, gate: Gate, cost: Cost) -> tuple[Option, ...]:
    """Every way that was measured, from doing nothing to a full refresh.

    Args:
        evidence: on the direct route, with the outcomes of every way.
        gate: the policy.
        cost: as far as it is known.
    """

    def option(name: str, outcome: Outcome, passes: bool) -> Option:
        looks = [cost.new]
        if outcome.way in ("dual", "rescore") and outcome.through is None and not cost.follows:
            looks.append(cost.old)
        if outcome.way == "wait":
            looks = [cost.old]
        images = 0.0 if cost.follows else outcome.images
        if images:
            looks.append(None if cost.each is None else images * cost.each)
        known = [look for look in looks if look is not None]
        share = 0.0 if outcome.way == "wait" else outcome.share
        each = 0.0 if cost.follows else cost.each
        seconds = 0.0 if share == 0 else None if cost.items is None or each is None else share * cost.items * each
        return Option(
            name,
            outcome,
            1000 * sum(known) if len(known) == len(looks) else None,
            images,
            0.0 if cost.follows else outcome.images_kept,
            seconds,
            None if cost.items is None else round(share * cost.items) * cost.bytes_each,
            None if cost.price is None or seconds is None else cost.price * seconds / 3600,
            passes,
        )

    made = []
    for outcome in sorted(evidence.outcomes, key=_place):
        part = f", {100 * outcome.share:.0f} % refreshed" if outcome.share else ""
        through = f" through {outcome.through}" if outcome.through and outcome.through != "direct" else ""
        served = _serves(evidence, gate, outcome)
        if outcome.way == "wait":
            made.append(option(f"wait: {evidence.old} answers alone", outcome, True))
        elif outcome.way == "refresh":
            alone = gate.alone(evidence)
            made.append(option("everything refreshed", outcome, alone))
        elif outcome.way in ("direct", "adapter") and outcome.share in (0.0, *PARTS):
            made.append(
                option(
                    f"directly{part}" if outcome.way == "direct" else f"through {outcome.through}{part}",
                    outcome,
                    served,
                )
            )
        elif outcome.way == "dual" and outcome.share in (0.0, *PARTS):
            made.append(option(f"dual query{part}", outcome, served))
        elif outcome.way == "rescore" and outcome.share == 0 and (outcome.through is None or cost.old is None):
            made.append(option(f"re-score {outcome.candidates}{through}", outcome, served))
    return tuple(made)


def recommend(evidence: Evidence, options: Sequence[Option], gate: Gate, cost: Cost) -> Recommendation:
    """The cheapest way that gives what a full refresh gives, or nothing where the new generation is not shown to be better."""
    new, old, alone = evidence.new, evidence.old, evidence.self_change
    interval = f"{points(alone.mean)}, {points(alone.low)} to {points(alone.high)}"
    if evidence.queries < gate.queries or not alone.low > 0:
        shown = "is shown to be worse" if alone.high < 0 else "is not shown to be better"
        return Recommendation(
            f"You do not need this upgrade: {new} alone {shown} than {old} alone ({interval}). Keep {old}.", None
        )
    full = next(option for option in options if option.outcome.way == "refresh")
    promote = f"evergallery promote {new}"
    if cost.follows and full.passes:
        return Recommendation(
            f"Refresh everything: the new vectors follow from the stored ones, and no image is read. Run  evergallery refresh "
            f"{new}  and then  {promote}",
            CHECKED,
            refresh=True,
        )
    for option in options:
        found = option.outcome
        waits = 1000 * SECONDS
        slow = found.way == "rescore" and (option.milliseconds is None or option.milliseconds > waits)
        at_once = found.share == 0 and found.way in ("direct", "adapter", "rescore") and not slow
        if not (at_once and option.passes and full.passes and found.score >= full.outcome.score - NEAR):
            continue
        answer = Answer.of(found.way, found.candidates)
        flags = "" if found.way != "rescore" else f" --candidates {found.candidates}"
        looks = f", at {option.images:.0f} images a query at first" if option.images else ""
        return Recommendation(
            f"Answer so at once, and refresh when you like: {option.name} gives {percent(found.score)} where everything "
            f"refreshed gives {percent(full.outcome.score)} and {old} gives {percent(evidence.score('old self'))}{looks}. "
            f"Run  {promote} --answer {found.way}{flags}",
            answer,
        )
    if not full.passes:
        return Recommendation(f"Do not promote {new} yet: alone it does not pass the gate ({interval}).", None)
    return Recommendation(
        f"Refresh first: everything refreshed gives {percent(full.outcome.score)}, {old} gives "
        f"{percent(evidence.score('old self'))}, and no way before that comes near and passes the gate. Run  evergallery refresh "
        f"{new}  , whose vectors wait in the shadow, and then  {promote}",
        CHECKED,
        refresh=True,
    )


def _serves(evidence: Evidence, gate: Gate, outcome: Outcome) -> bool:
    """Return whether the conditions on a route are met by what was measured at one share."""
    return gate.compatible(
        evidence.model_copy(update={"cross_change": outcome.change, "negative_flips": outcome.negative_flips})
    )


def _place(outcome: Outcome) -> tuple[int, float, int, str]:
    ways = ("wait", "direct", "adapter", "dual", "rescore", "refresh")
    return ways.index(outcome.way), outcome.share, outcome.candidates or 0, outcome.through or ""


def _seconds(holdings: Holdings, maker: Generation, together: int) -> float | None:
    """The seconds that a model takes for each of so many images together; ``None`` where it looks at none."""
    if not maker.extracts:
        return None
    try:
        grey = np.full((together, *maker.preprocessing.shape, 3), 128, np.uint8)
        times = []
        # Each look at an endpoint may cost money.
        for _ in range(1 if maker.is_asked else 3):
            started = time.perf_counter()
            embed_pixels(holdings, grey, maker)
            times.append(time.perf_counter() - started)
    except EvergalleryError:
        # Its function or its file is gone: what it makes may be known all the same.
        return None
    return median(times) / together
