"""Every way of answering on the same held-out queries, while more and more of the gallery is refreshed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evergallery.devices.computing import computed
from evergallery.evaluation import Protocol
from evergallery.retrieval.bootstrap import bootstrap_interval
from evergallery.retrieval.calibration import Calibration
from evergallery.retrieval.knn import Exclusion, Neighbours, exclude
from evergallery.retrieval.metrics import count_positives
from evergallery.upgrade.evidence import Outcome, Setting

Vectors = NDArray[np.float32]
BLOCK = 4_000_000
"""Scores of a route that are held at once."""


@dataclass(frozen=True)
class RouteVectors:
    """Queries and vectors of N images as a route compares them, by their inner product.

    Attributes:
        queries: (N, E).
        vectors: (N, E).
        scale: of the scores, where it is known.
    """

    queries: Vectors
    vectors: Vectors
    scale: Calibration | None


@dataclass(frozen=True)
class ComparedVectors:
    """The vectors of N images by which each way of answering searches.

    Attributes:
        old: the old generation in vectors of its own.
        new: the new one in its own.
        routes: new queries in old vectors, by ``direct`` or the name of an adapter.
    """

    old: RouteVectors
    new: RouteVectors
    routes: Mapping[str, RouteVectors]


@dataclass(frozen=True)
class RefreshSimulation:
    """The imagined order of a refresh while the ways of answering are measured.

    Attributes:
        shares: of the gallery that are refreshed, each in [0, 1).
        candidates: numbers of candidates to re-score.
        seed: of the random order of its items.
    """

    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75)
    candidates: Sequence[int] = (10, 20, 50, 100)
    seed: int = 0


USUAL = RefreshSimulation()


def outcomes(
    protocol: Protocol,
    vectors: ComparedVectors,
    *,
    confidence: float,
    simulation: RefreshSimulation = USUAL,
) -> tuple[Outcome, ...]:
    """Return what each way answers, beside the old generation alone on the same queries.

    Items are refreshed in one random order. A ranking over both kinds of vectors goes by calibrated probability where both scales
    are known, and by score otherwise, as ``search`` ranks. Re-scored are the first ones by the old vectors of all items, each of
    which is taken to have its image; those that are refreshed need none.

    Args:
        protocol: of N held-out images, of which it is known which answers are right.
        vectors: of these images.
        confidence: of the intervals, in (0, 1).
        simulation: of the refresh.
    """
    compared = {name: _RouteTensors.of(protocol, route) for name, route in {"": vectors.old, **vectors.routes}.items()}
    after = _RouteTensors.of(protocol, vectors.new)
    searched = sum(route.queries.numel() for route in (after, *compared.values())) * len(protocol.gallery)
    seen = computed(searched, _answers, after, compared, protocol.exclusion(), simulation)
    worth = _Worth(protocol)
    answered = seen.first
    alone = answered[Setting(way="wait")]
    queries = max(1, len(protocol.query))
    return tuple(
        Outcome(
            **key.model_dump(),
            score=worth.mean(first),
            change=bootstrap_interval(worth.of(first) - worth.of(alone), confidence=confidence),
            negative_flips=worth.lost(alone, first),
            images=seen.images[key] / queries if key in seen.images else 0.0,
            images_kept=int(seen.embedded[key].sum()) / queries if key in seen.embedded else 0.0,
        )
        for key, first in answered.items()
    )


@dataclass(frozen=True)
class _RouteTensors:
    """The Q queries and G vectors of a route.

    Attributes:
        queries: (Q, E).
        vectors: (G, E).
        scale: of the scores, where it is known.
    """

    queries: Tensor
    vectors: Tensor
    scale: Calibration | None

    @classmethod
    def of(cls, protocol: Protocol, route: RouteVectors) -> "_RouteTensors":
        """The queries and the gallery of a protocol."""
        query, gallery = route.queries[protocol.query], route.vectors[protocol.gallery]
        return cls(torch.from_numpy(query), torch.from_numpy(gallery), route.scale)


@dataclass(frozen=True)
class _FirstAnswers:
    """The first answers of every way, and which images were looked at again for them.

    Attributes:
        first: (Q,) indices of items.
        images: how many were embedded while a query waited.
        embedded: (G,) whose images.
    """

    first: Mapping[Setting, Tensor]
    images: Mapping[Setting, int]
    embedded: Mapping[Setting, Tensor]


def _answers(
    new: _RouteTensors, routes: Mapping[str, _RouteTensors], exclusion: Exclusion, simulation: RefreshSimulation
) -> _FirstAnswers:
    """Return what every way answers, where the vectors are.

    Args:
        new: the new generation in its own vectors.
        routes: into the old vectors, by name; the old generation's own has none.
        exclusion: what each query must not find.
        simulation: of the refresh.
    """
    count, device, groups = len(new.vectors), new.vectors.device, exclusion.groups()
    order = torch.from_numpy(np.random.default_rng(simulation.seed).permutation(count)).to(device)
    place = torch.empty_like(order)
    place[order] = torch.arange(count, device=device)
    seen = _Answers(count, device, simulation.candidates)

    def scores(route: _RouteTensors, rows: slice) -> Tensor:
        found = route.queries[rows] @ route.vectors.T
        exclude(found, exclusion, groups, rows, slice(0, count))
        return found

    for rows in _blocks(len(new.queries), count):
        after = scores(new, rows)
        seen.first[Setting(way="refresh", share=1.0)].append(after.argmax(1))
        for name, route in routes.items():
            before = scores(route, rows)
            if not name:
                seen.first[Setting(way="wait")].append(before.argmax(1))
            ranks = before, after
            if route.scale is not None and new.scale is not None:
                ranks = route.scale.logits(before), new.scale.logits(after)
            for share in simulation.shares:
                refreshed = place < int(share * count)
                seen.first[_mixed(name, share)].append(torch.where(refreshed, ranks[1], ranks[0]).argmax(1))
                seen.rescore(Setting(way="rescore", through=name or None, share=share), before, after, refreshed)
    return _FirstAnswers(
        {key: torch.cat(parts) for key, parts in seen.first.items()}, dict(seen.images), dict(seen.embedded)
    )


class _Answers:
    """The first answers of every way so far, and which images were looked at again for them.

    Args:
        items: G of the gallery.
        device: that has the scores.
        candidates: how many are re-scored, each number by itself.
    """

    def __init__(self, items: int, device: torch.device, candidates: Sequence[int]) -> None:
        self.candidates = candidates
        self.first: dict[Setting, list[Tensor]] = defaultdict(list)
        """(q,) indices of items, for each block of queries."""
        self.images: dict[Setting, int] = defaultdict(int)
        """The number of images that were embedded while a query waited."""
        self.embedded: dict[Setting, Tensor] = defaultdict(lambda: torch.zeros(items, dtype=torch.bool, device=device))
        """(G,) whose images."""

    def rescore(self, setting: Setting, before: Tensor, after: Tensor, refreshed: Tensor) -> None:
        """Take the best of what is refreshed and of the first candidates by the old vectors, both by the new ones.

        Args:
            setting: the route by which the candidates are found, and the share of the gallery that is refreshed.
            before: (q, G) scores by the route.
            after: (q, G) scores by the new generation.
            refreshed: (G,) which items are.
        """
        found = before.topk(min(max(self.candidates), len(refreshed)), 1)
        again = after.gather(1, found.indices).masked_fill(found.values == -torch.inf, -torch.inf)
        own = after.masked_fill(~refreshed, -torch.inf).max(1)
        stale = ~refreshed[found.indices] & (found.values > -torch.inf)
        for number in self.candidates:
            best = again[:, :number].max(1)
            first = found.indices.gather(1, best.indices[:, None])[:, 0]
            key = setting.model_copy(update={"candidates": number})
            self.first[key].append(torch.where(own.values > best.values, own.indices, first))
            asked = found.indices[:, :number][stale[:, :number]]
            self.embedded[key][asked] = True
            self.images[key] += len(asked)


class _Worth:
    """The worth of an answer to each query that has a right one: 1 or 0, or nDCG@1 where judgements are graded."""

    def __init__(self, protocol: Protocol) -> None:
        labels = torch.from_numpy(protocol.images.labels)
        self._query, self._gallery = labels[protocol.query], labels[protocol.gallery]
        self._judged = (
            None if protocol.judgements is None else protocol.judgements.among(protocol.query, protocol.gallery)
        )
        exclusion = protocol.exclusion()
        if self._judged is not None:
            self._counted = self._judged.positives(exclusion) > 0
            self._ideal = self._judged.ideal(1)[:, 0] if self._judged.is_graded else None
        else:
            self._counted = count_positives(self._query, self._gallery, exclusion) > 0

    def of(self, found: Tensor) -> Tensor:
        """The worth (q,) float64 of first answers (Q,), for those queries that count."""
        if self._judged is None:
            return (self._query == self._gallery[found])[self._counted].double()
        grades = self._judged.grades(Neighbours(found[:, None], torch.zeros(len(found), 1)))[:, 0]
        if self._ideal is None:
            return (grades > 0)[self._counted].double()
        return ((torch.exp2(grades) - 1) / (torch.exp2(self._ideal) - 1).clamp_min(1e-12))[self._counted]

    def mean(self, found: Tensor) -> float:
        """The mean worth over the queries that count; 0 without any."""
        worth = self.of(found)
        return float(worth.mean()) if len(worth) else 0.0

    def lost(self, before: Tensor, after: Tensor) -> float:
        """Share of the queries that were answered rightly and are not any more."""
        lost = (self.of(before) > 0) & (self.of(after) == 0)
        return float(lost.double().mean()) if len(lost) else 0.0


def _mixed(route: str, share: float) -> Setting:
    if not route:
        return Setting(way="dual", share=share)
    return (
        Setting(way="direct", share=share) if route == "direct" else Setting(way="adapter", through=route, share=share)
    )


def _blocks(queries: int, items: int) -> Iterator[slice]:
    rows = max(1, BLOCK // max(1, items))
    for start in range(0, queries, rows):
        yield slice(start, min(start + rows, queries))
