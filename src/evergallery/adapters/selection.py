"""The choice of an adapter: each kind fitted on a part of the pairs, judged on pairs and classes that it has not seen."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from evergallery.adapters.adapter import Adapter, check_pairs
from evergallery.adapters.card import Direction
from evergallery.adapters.held_out import folds, reciprocal_ranks
from evergallery.adapters.kinds import ADAPTERS
from evergallery.errors import InputError
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import count_positives

MINIMUM_PAIRS = 20
MINIMUM_CLASSES = 5
MOST_QUERIES = 5_000
ENOUGH_JUDGED = 500
GAP = 0.05

Fit = Callable[[Tensor, Tensor], Adapter]
Measure = Literal["recall@1", "partner recall@1"]


@dataclass(frozen=True)
class MapJudgement:
    """A map judged on some of the pairs, as it will be used: queries look for stored vectors, whichever side is mapped.

    Attributes:
        recall: share of queries whose nearest stored vector is right, in [0, 1].
        reciprocal_rank: mean of one over the place of a query's own partner among the stored vectors of all pairs, in (0, 1].
        cosine: mean cosine of mapped vectors with their own targets.
        queries: how many the recall is of.
    """

    recall: float
    reciprocal_rank: float
    cosine: float
    queries: int

    @property
    def variance(self) -> float:
        """The variance of the recall, as a share of so many queries."""
        return self.recall * (1 - self.recall) / max(self.queries, 1)


@dataclass(frozen=True)
class AdapterTrial:
    """One kind of adapter, fitted on a part of the pairs.

    Attributes:
        name: of the kind.
        in_sample: on pairs that it was fitted to, as many as are held out.
        out_of_sample: on images held out, of classes that others of the images show; of few pairs each is held out once.
        unseen_classes: fitted again without some classes, and judged on these; ``None`` without labels.
        seen_classes: the same images by the first map, which has seen their classes, and most of them.
        seconds: to fit.
        microseconds: to map one vector, median.
    """

    name: str
    in_sample: MapJudgement
    out_of_sample: MapJudgement
    unseen_classes: MapJudgement | None
    seen_classes: MapJudgement | None
    seconds: float
    microseconds: float

    @property
    def worse(self) -> MapJudgement:
        """Return what it is chosen by: of the judgements on pairs that it was not fitted to, the one with the lower rank."""
        judgements = [judgement for judgement in (self.out_of_sample, self.unseen_classes) if judgement]
        return min(judgements, key=lambda judgement: judgement.reciprocal_rank)

    @property
    def warning(self) -> str | None:
        """A sentence, where it does clearly worse on what it was not fitted to."""
        seen, unseen = self.seen_classes, self.unseen_classes
        if seen and unseen and _clearly_lower(unseen, seen):
            return (
                f"The adapter {self.name} is right for {seen.recall:.1%} of images where it has seen their classes and for "
                f"{unseen.recall:.1%} where it has not: fit it to images of more classes, or use it for these alone."
            )
        if _clearly_lower(self.out_of_sample, self.in_sample):
            return (
                f"The adapter {self.name} is right for {self.in_sample.recall:.1%} of images that it was fitted to and for "
                f"{self.out_of_sample.recall:.1%} of others: fit it to more images, or choose a kind with less freedom."
            )
        return None


@dataclass(frozen=True)
class Selection:
    """The adapter that was chosen, and what was tried.

    Attributes:
        name: of the kind that was chosen.
        adapter: of that kind, fitted to all pairs.
        trials: every kind, in the order given.
        measure: what recall means: ``recall@1``, a stored vector of the same class, itself excluded, among all of them;
            ``partner recall@1``, the stored vector of the same image among those of all pairs.
        target_recall: recall of the held-out target vectors themselves; a better source may find more, well mapped.
        pairs: how many there are.
    """

    name: str
    adapter: Adapter = field(repr=False, compare=False)
    trials: tuple[AdapterTrial, ...]
    measure: Measure
    target_recall: float
    pairs: int

    @property
    def chosen(self) -> AdapterTrial:
        """The trial of the kind that was chosen."""
        return next(trial for trial in self.trials if trial.name == self.name)

    @property
    def warning(self) -> str | None:
        """A sentence, where the chosen kind does clearly worse on what it was not fitted to."""
        return self.chosen.warning

    def to_dict(self) -> dict[str, Any]:
        """The selection as JSON values."""
        return {
            "chosen": self.name,
            "measure": self.measure,
            "target_recall": self.target_recall,
            "pairs": self.pairs,
            "trials": [{**asdict(trial), "warning": trial.warning} for trial in self.trials],
        }


def select_adapter(
    source: Tensor,
    target: Tensor,
    labels: Tensor | None = None,
    *,
    direction: Direction = "query",
    fits: Mapping[str, Fit] | None = None,
    held_out: float = 0.2,
    seed: int = 0,
) -> Selection:
    """Fit every kind on a part of the pairs and take the one that does best on the others.

    What decides is the reciprocal rank at which a query that was held out finds its own partner: a mean cosine is high for
    a map that shrinks everything together, and recall of a few hundred queries is coarse. Images are held out at random.
    Where labels are known each kind is fitted once more without some of the classes, because a map may be right for the
    classes of its pairs and wrong for all others, and images held out of the same classes do not show it. The worse of the
    two counts.

    The chosen kind is then fitted to all pairs: the held-out ones have told what they can, and the more images and classes
    a map has seen the better, so the figures are those of a map that knew less than the one returned.

    Args:
        source: (N, D) unit rows.
        target: (N, D') unit rows of the same images.
        labels: (N,) any int64, or ``None``.
        direction: what the adapter is for; kinds too slow for queries are tried for stored vectors only.
        fits: kinds to try, ``{"rank 32": partial(fit_linear, rank=32)}``; by default all that fit direction and widths,
            with their own parameters.
        held_out: share of the classes that is held out, in (0, 0.5]; of images it is a fifth.
        seed: of both splits.

    Raises:
        InputError: not two finite embeddings of each image, fewer than 20 pairs, labels that do not fit, or a share outside
            its range.
    """
    _check(source, target, labels, held_out)
    fits = fits if fits is not None else default_fits(direction, source.shape[1], target.shape[1])
    if labels is not None and len(torch.unique(labels)) == len(labels):
        # No image has another one of its class to find.
        labels = None
    by_image = tuple(
        (fitted.to(source.device), judged.to(source.device))
        for fitted, judged in folds(len(source), ENOUGH_JUDGED, seed)
    )
    by_class = None if labels is None else split_by_class(labels, held_out, torch.Generator().manual_seed(seed))
    pairs = _Pairs(source, target, labels, direction)
    trials = tuple(_trial(name, fit, pairs, by_image, by_class) for name, fit in fits.items())
    best = choose(trials)
    held = torch.cat([rows for _, rows in by_image])
    return Selection(
        name=best.name,
        adapter=fits[best.name](source, target),
        trials=trials,
        measure="partner recall@1" if labels is None else "recall@1",
        target_recall=judge(target[held], target, held, labels).recall,
        pairs=len(source),
    )


def require_pairs(count: int) -> None:
    """Refuse fewer pairs than an adapter can be chosen by.

    Raises:
        InputError: there are fewer.
    """
    if count < MINIMUM_PAIRS:
        raise InputError(
            f"Choosing an adapter needs at least {MINIMUM_PAIRS} pairs, some to fit it and some to judge it, and got {count}: "
            f"give more images."
        )


def _check(source: Tensor, target: Tensor, labels: Tensor | None, held_out: float) -> None:
    check_pairs(source, target)
    require_pairs(len(source))
    if labels is not None and tuple(labels.shape) != (len(source),):
        raise InputError(f"There are {len(source)} pairs and labels of shape {tuple(labels.shape)}: give one for each.")
    if not 0 < held_out <= 0.5:
        raise InputError(f"The share of classes held out is {held_out}: it must be above 0 and at most 0.5.")


def choose(trials: Sequence[AdapterTrial]) -> AdapterTrial:
    """The first of the trials with the highest reciprocal rank, on pairs that they were not fitted to."""
    return max(trials, key=lambda trial: trial.worse.reciprocal_rank)


def default_fits(direction: Direction, source_dimension: int, target_dimension: int) -> dict[str, Fit]:
    """Every kind that is tried unasked, is good for this direction and can map between these widths."""
    kinds = {
        name: kind
        for name, kind in ADAPTERS.items()
        if kind.tried and kind.serves(direction, source_dimension, target_dimension)
    }
    return {name: kind.fit_for(direction) for name, kind in kinds.items()}


def split_by_class(labels: Tensor, held_out: float, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """Rows of labels (N,) to fit and to judge, of no class in common, in random order; ``None`` of fewer than five classes."""
    classes: Tensor = torch.unique(labels)
    if len(classes) < MINIMUM_CLASSES:
        return None
    judged = classes[torch.randperm(len(classes), generator=generator)[: max(1, round(held_out * len(classes)))]]
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    unseen = torch.isin(labels[order], judged)
    return order[~unseen], order[unseen]


def judge(queries: Tensor, stored: Tensor, rows: Tensor, labels: Tensor | None, *, cosine: float = 1.0) -> MapJudgement:
    """Return how well queries find what they should among stored vectors.

    Args:
        queries: (M, E) as they are compared.
        stored: (N, E) of all pairs, as they are compared.
        rows: (M,) the pair that each query is of.
        labels: (N,) of the pairs: each looks for a vector of its class among all but its own, and one that has none does not
            count. Without labels each looks for its own.
        cosine: of mapped vectors with their own targets, which is passed on.
    """
    ranks = reciprocal_ranks(queries, stored, rows)
    if labels is None:
        hits = ranks == 1
    else:
        itself = Exclusion(rows)
        valid = count_positives(labels[rows], labels, itself) > 0
        found = nearest(queries, stored, 1, exclusion=itself).indices[:, 0]
        hits = (labels[found] == labels[rows])[valid]
    return MapJudgement(hits.double().mean().item() if len(hits) else 0.0, ranks.mean().item(), cosine, len(hits))


def together(judgements: Sequence[MapJudgement]) -> MapJudgement:
    """One judgement of the queries of several."""
    queries = sum(judgement.queries for judgement in judgements)
    weights = [judgement.queries / queries if queries else 1 / len(judgements) for judgement in judgements]

    def mean(values: Sequence[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    return MapJudgement(
        mean([judgement.recall for judgement in judgements]),
        mean([judgement.reciprocal_rank for judgement in judgements]),
        mean([judgement.cosine for judgement in judgements]),
        queries,
    )


def microseconds_for_one(adapter: Adapter, embedding: Tensor, calls: int = 300, seconds: float = 0.5) -> float:
    """Median time to map one vector, of so many calls or of those that end in time.

    Args:
        adapter: the map.
        embedding: (1, D).
        calls: at most.
        seconds: at most, about.
    """
    for _ in range(10):
        adapter(embedding)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < calls and (not taken or time.perf_counter() < end):
        start = time.perf_counter()
        adapter(embedding)
        taken.append(time.perf_counter() - start)
    return 1e6 * statistics.median(taken)


@dataclass(frozen=True)
class _Pairs:
    """Embeddings (N, D) and (N, D') of the same images, and what a map between them is for."""

    source: Tensor
    target: Tensor
    labels: Tensor | None
    direction: Direction

    def judged(self, adapter: Adapter, rows: Tensor) -> MapJudgement:
        """An adapter on some of the pairs, each among the stored vectors of all."""
        rows = rows[:MOST_QUERIES]
        if self.direction == "query":
            mapped = adapter(self.source[rows])
            queries, stored = adapter.query_side(self.source[rows]), adapter.stored_side(self.target)
        else:
            stored = adapter(self.source)
            queries, mapped = self.target[rows], stored[rows]
        cosine = F.cosine_similarity(mapped, self.target[rows]).mean().item()
        return judge(queries, stored, rows, self.labels, cosine=cosine)

    def fitted(self, fit: Fit, rows: Tensor) -> Adapter:
        """An adapter fitted to some of the pairs."""
        return fit(self.source[rows], self.target[rows])


def _trial(
    name: str,
    fit: Fit,
    pairs: _Pairs,
    by_image: Sequence[tuple[Tensor, Tensor]],
    by_class: tuple[Tensor, Tensor] | None,
) -> AdapterTrial:
    start = time.perf_counter()
    adapters = [pairs.fitted(fit, rows) for rows, _ in by_image]
    seconds = (time.perf_counter() - start) / len(adapters)
    adapter, (rows, held_out) = adapters[0], by_image[0]
    unseen = seen = None
    if by_class is not None:
        known, others = by_class
        unseen, seen = pairs.judged(pairs.fitted(fit, known), others), pairs.judged(adapter, others)
    return AdapterTrial(
        name=name,
        in_sample=pairs.judged(adapter, rows[: len(held_out)]),
        out_of_sample=together([pairs.judged(fold, held) for fold, (_, held) in zip(adapters, by_image, strict=True)]),
        unseen_classes=unseen,
        seen_classes=seen,
        seconds=seconds,
        # Queries are mapped on the processor, wherever the map was fitted.
        microseconds=microseconds_for_one(adapter.to("cpu"), pairs.source[:1].cpu()),
    )


def _clearly_lower(new: MapJudgement, known: MapJudgement) -> bool:
    """Return whether a recall is lower by more than a few points, and by more than two standard errors of the difference."""
    return known.recall - new.recall > max(GAP, 2 * math.sqrt(new.variance + known.variance))
