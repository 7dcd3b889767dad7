"""The plan of a refresh: its cost and gain, measured on a sample before anything is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError, require_at_least
from evergallery.gallery.items import Item
from evergallery.holdings.spaces import Space
from evergallery.upgrade.options import Option, Recommendation

SHARES = (0.0, 0.25, 0.5, 1.0)
SAMPLE = 1000
LEAST_SAMPLE = 20


@dataclass(frozen=True)
class RefreshProposal:
    """A refresh that somebody thinks of.

    Attributes:
        generation: that would query.
        adapter: that would map the stored vectors, in place of extracting images again.
        images: where to look for the images first, by content.
        shares: of the items at which recall is measured, each in [0, 1].
        orders: names of the orders in which items would be refreshed.
        data_dir: where named sets lie.
        price_per_hour: of this machine, in whatever currency.

    Raises:
        InputError: the price is below 0.
    """

    generation: str
    adapter: str | None
    images: str | Path | ImageSet | None
    shares: Sequence[float]
    orders: Sequence[str]
    data_dir: Path | None = None
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        require_at_least("price_per_hour", self.price_per_hour, 0)


@dataclass(frozen=True)
class PlanBasis:
    """The basis that a plan is measured of.

    Attributes:
        proposal: the refresh.
        asker: the space of the generation that would query.
        target: the space of the new vectors.
        counts: items that are to be refreshed, by the fingerprint of their space.
        sampled: some of them, with their vectors.
        orders: in which recall is measured; ``None`` where too few of them have a label.
    """

    proposal: RefreshProposal
    asker: Space
    target: Space
    counts: Mapping[str, int]
    sampled: Sequence[Item]
    orders: Sequence[str] | None


@dataclass(frozen=True)
class Plan:
    """The price of refreshing the gallery, and what each share of it is expected to give.

    Attributes:
        generation: that would query.
        adapter: that would map the stored vectors, or ``None`` where images are extracted again.
        items: visible items that are not yet in its space, by the name of theirs.
        missing: share of the sample whose image was not found.
        seconds: for all of them, reading and extracting, at the sample's pace.
        bytes: on disk for the new vectors, beside the old ones until these are given up.
        sample: images on which recall was measured.
        queries: of these, those with another image of their class in the sample.
        shares: of the gallery that is refreshed.
        recall: recall@1 by order, one for each share, ranked as ``search`` ranks.
        uncalibrated: the same ranked by raw cosine.
        images: whether images are read; the new vectors follow from the stored ones otherwise.
        options: every way of answering on the sample, with what it gives and costs.
        advice: which of them to take.
    """

    generation: str
    adapter: str | None
    items: Mapping[str, int]
    missing: float
    seconds: float
    bytes: int
    sample: int
    queries: int
    shares: tuple[float, ...]
    recall: Mapping[str, tuple[float, ...]]
    uncalibrated: Mapping[str, tuple[float, ...]]
    images: bool = True
    options: tuple[Option, ...] = ()
    advice: Recommendation | None = None

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        advice = None if self.advice is None else self.advice.text
        return asdict(self) | {"options": [option.to_dict() for option in self.options], "advice": advice}

    def best_order(self) -> str | None:
        """The order with the largest mean recall over the shares between none and all, where the orders differ.

        ``None`` where it leads the order *random* by less than twice the standard error that the difference of two shares
        of so many queries has: chance alone brings that about.
        """
        between = [number for number, share in enumerate(self.shares) if 0 < share < 1]
        if not between:
            return None
        means = {order: float(np.mean([curve[at] for at in between])) for order, curve in self.recall.items()}
        best = max(means, key=lambda order: means[order])
        usual = means.get("random", min(means.values()))
        spread = float(np.sqrt((usual * (1 - usual) + means[best] * (1 - means[best])) / max(1, self.queries)))
        return best if means[best] - usual > 2 * spread else None


@dataclass(frozen=True)
class ExpectedRecall:
    """The recall that is expected of a sample while more and more of it is refreshed.

    Attributes:
        queries: that counted.
        recall: recall@1 by order, one for each share, ranked as ``search`` ranks.
        uncalibrated: the same ranked by raw cosine.
    """

    queries: int
    recall: dict[str, tuple[float, ...]]
    uncalibrated: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class SampleMeasurements:
    """The measurements on a sample.

    Attributes:
        missing: items whose image was not found.
        seconds: spent on all of them.
        images: whether images were read.
        sample: items on which recall was measured.
        curves: their recall by share.
        options: every way of answering on the sample.
        advice: which of them to take.
    """

    missing: int
    seconds: float
    images: bool
    sample: int
    curves: ExpectedRecall
    options: tuple[Option, ...] = ()
    advice: Recommendation | None = None


def share_for(recall: float, shares: Sequence[float], values: Sequence[float]) -> float:
    """The smallest share at which a curve reaches a recall and keeps it.

    Raises:
        InputError: it never does; the message has the best that was reached.
    """
    reached = None
    for share, value in reversed(list(zip(shares, values, strict=True))):
        if value < recall:
            break
        reached = share
    if reached is None:
        raise InputError(
            f"A recall@1 of {recall:g} is not expected at any share: refreshing everything is expected to give "
            f"{values[-1]:.3f} on the sample; ask for less, or leave --until out."
        )
    return reached
