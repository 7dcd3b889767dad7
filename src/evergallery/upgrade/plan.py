"""What a refresh would cost and give, measured on a sample before anything is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evergallery.errors import InputError
from evergallery.gallery.items import Item
from evergallery.retrieval.refresh_curve import mixed_recall
from evergallery.searching.routes import Route
from evergallery.upgrade.options import Option, Recommendation
from evergallery.upgrade.orders import ORDERS, StoredItems

SHARES = (0.0, 0.25, 0.5, 1.0)
SAMPLE = 1000
LEAST_SAMPLE = 20

Vectors = NDArray[np.float32]


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
    """What is to be expected of a sample while more and more of it is refreshed.

    Attributes:
        queries: that counted.
        recall: recall@1 by order, one for each share, ranked as ``search`` ranks.
        uncalibrated: the same ranked by raw cosine.
    """

    queries: int
    recall: dict[str, tuple[float, ...]]
    uncalibrated: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Sample:
    """Stored items with a label and an image, as stored and as refreshed.

    Attributes:
        items: N.
        queries: (N, D) by the generation that would query.
        refreshed: (N, D') the new vectors.
        routes: from the queries to each stored space, by fingerprint, and to the new one.
        new: fingerprint of the new space.
    """

    items: Sequence[Item]
    queries: Vectors
    refreshed: Vectors
    routes: Mapping[str, Route]
    new: str


def expected_recall(
    sample: Sample, found: Mapping[str, int], shares: Sequence[float], orders: Sequence[str]
) -> ExpectedRecall:
    """recall@1 of the sample's images among each other while more and more of them are refreshed."""
    labels = np.unique([str(item.label) for item in sample.items], return_inverse=True)[1]
    numbers = torch.from_numpy(labels)
    count = len(numbers)
    hits = numbers[:, None] == numbers[None, :]
    hits.fill_diagonal_(False)
    before, before_raw = torch.empty(count, count), torch.empty(count, count)
    by_space: dict[str, list[int]] = {}
    for index, item in enumerate(sample.items):
        by_space.setdefault(item.generation, []).append(index)
    calibrated = all(sample.routes[space].calibration for space in (*by_space, sample.new))
    for space, rows in by_space.items():
        vectors = np.stack([sample.items[index].embedding for index in rows])
        before_raw[:, rows], before[:, rows] = _scores(sample.routes[space], sample.queries, vectors, calibrated)
    after_raw, after = _scores(sample.routes[sample.new], sample.queries, sample.refreshed, calibrated)
    for scores in (before, before_raw, after, after_raw):
        scores.fill_diagonal_(-torch.inf)
    curves: dict[str, tuple[float, ...]] = {}
    raw: dict[str, tuple[float, ...]] = {}
    for name in orders:
        order = torch.from_numpy(order_of(name, sample.items, found))
        curves[name] = tuple(mixed_recall(before, after, hits, order=order, shares=shares))
        raw[name] = tuple(mixed_recall(before_raw, after_raw, hits, order=order, shares=shares))
    return ExpectedRecall(int(hits.any(1).sum()), curves, raw)


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


def order_of(name: str, items: Sequence[Item], found: Mapping[str, int]) -> NDArray[np.int64]:
    """(N,) indices of stored items in the order of a name of ``ORDERS``.

    Raises:
        InputError: no such order, or one that needs labels where there are none.
    """
    if name not in ORDERS:
        raise InputError(f"There is no order {name!r}: choose {', '.join(ORDERS)}.")
    return ORDERS[name](
        StoredItems(
            [item.id for item in items],
            [item.embedding for item in items],
            [item.generation for item in items],
            [item.label for item in items],
            [item.added for item in items],
            found,
        )
    )


def _scores(route: Route, queries: Vectors, vectors: Vectors, calibrated: bool) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.from_numpy(route.scores(queries, vectors))
    scale = route.calibration
    return scores, scale.slope * scores + scale.intercept if calibrated and scale else scores
