"""Metrics for Prometheus: how many requests of which kind, how long they took, and where the gallery stands."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Step = Literal["decode", "embed", "search", "total"]
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999)
SIZES = (1, 2, 4, 8, 16, 32)
SCORES = tuple(round(0.05 * step, 2) for step in range(21))
MARGINS = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


@dataclass(frozen=True)
class GaugeValues:
    """The values of the gauges, read when the metrics are.

    Attributes:
        items: by the space of their vector.
        promoted: the generation that answers.
        job: kind of the running job, and the share of it that is done, in [0, 1].
        problems: items that keep an old vector, by kind.
        ready: whether the gallery is open and the model loaded.
        drift: of queries, by figure and by what it is of.
    """

    items: Mapping[str, int]
    promoted: str | None
    job: tuple[str, float] | None
    problems: Mapping[str, int]
    ready: bool
    drift: Mapping[str, Mapping[str, float]]


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._count_requests()
        self._count_searches()
        self._count_shadow()
        self._show_standing()

    def _count_requests(self) -> None:
        self._requests = self._counter("requests", "Requests.", "method", "route", "status")
        self._request_seconds = self._histogram("request_seconds", "Of whole requests.", SECONDS, "route")

    def _count_searches(self) -> None:
        self._step_seconds = self._histogram(
            "search_seconds", "Of searches, by step; waiting is part of each.", SECONDS, "step"
        )
        self._answer_seconds = self._histogram(
            "answer_seconds", "Of answered searches, by the generation that answers.", SECONDS, "generation"
        )
        self._unanswered = self._counter(
            "unanswered_searches",
            "Searches that failed, by the generation that would have answered.",
            "generation",
        )
        self._batches = self._histogram("batch_images", "Images that the model looked at together.", SIZES)
        self._rescored = self._counter(
            "rescored_candidates",
            "Candidates that were scored again, by how they came by their vector: kept, embedded; or gone, late: they had none.",
            "vector",
        )
        self._top_score = self._histogram(
            "top_score",
            "Score of the first result, by the generation that asks and the space that it lies in.",
            SCORES,
            "generation",
            "space",
        )
        self._margin = self._histogram(
            "top_margin", "Score of the first result above that of the second.", MARGINS, "generation"
        )

    def _count_shadow(self) -> None:
        self._shadow = self._counter(
            "shadow_searches", "Searches that were drawn for the shadow: compared, left out, failed.", "outcome"
        )
        self._shadow_overlap = self._histogram("shadow_overlap", "Share of the results that both have.", SHARES)
        self._shadow_first = self._counter(
            "shadow_first", "Compared searches by whether the first result is the same.", "same"
        )
        self._shadow_seconds = self._histogram("shadow_seconds", "Of answers in the shadow.", SECONDS)

    def _show_standing(self) -> None:
        self._drift = {
            "distance": self._gauge(
                "query_drift_distance", "Of the last window of searches from the reference, in [0, 1].", "of"
            ),
            "limit": self._gauge("query_drift_limit", "From which it raises an alarm.", "of"),
            "alarm": self._gauge(
                "query_drift_alarm", "1 since an alarm was raised, until the reference is begun anew.", "of"
            ),
        }
        self._items = self._gauge("items", "Items by the space of their vector.", "generation")
        self._promoted = self._gauge("promoted_info", "1 for the generation that answers.", "generation")
        self._job = self._gauge("job_progress", "Share that is done of the running job.", "kind")
        self._problems = self._gauge("problems", "Items that keep an old vector.", "kind")
        self._ready = self._gauge("ready", "1 while the gallery is open and the model loaded.")

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"evergallery_{name}", told, labels, registry=self._registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        return Gauge(f"evergallery_{name}", told, labels, registry=self._registry)

    def _histogram(self, name: str, told: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"evergallery_{name}", told, labels, buckets=buckets, registry=self._registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    @contextmanager
    def timing(self, step: Step) -> Iterator[None]:
        """Time a step of a search that succeeds."""
        began = time.perf_counter()
        yield
        self._step_seconds.labels(step).observe(time.perf_counter() - began)

    def answered_by(self, generation: str, seconds: float) -> None:
        """A generation answered a search."""
        self._answer_seconds.labels(generation).observe(seconds)

    def unanswered_by(self, generation: str) -> None:
        """A search failed that a generation was to answer."""
        self._unanswered.labels(generation).inc()

    def scored(self, generation: str, space: str, scores: Sequence[float]) -> None:
        """A search by a generation found results of these scores, the first of which lies in a space."""
        self._top_score.labels(generation, space).observe(scores[0])
        if len(scores) > 1:
            self._margin.labels(generation).observe(scores[0] - scores[1])

    def batched(self, size: int) -> None:
        """The model looked at so many images together."""
        self._batches.observe(size)

    def rescored(self, counts: Mapping[str, int]) -> None:
        """Candidates of a search were scored again, so many by each way to their vector."""
        for name, count in counts.items():
            self._rescored.labels(name).inc(count)

    def shadowed(self, outcome: str) -> None:
        """A search was drawn for the shadow."""
        self._shadow.labels(outcome).inc()

    def compared(self, overlap: float, same_first: bool, seconds: float) -> None:
        """A search was answered in the shadow too."""
        self._shadow_overlap.observe(overlap)
        self._shadow_first.labels(str(same_first).lower()).inc()
        self._shadow_seconds.observe(seconds)

    def read(self, values: GaugeValues) -> bytes:
        """All metrics as text, with what the gauges show now."""
        for gauge, counts in ((self._items, values.items), (self._problems, values.problems)):
            gauge.clear()
            for name, value in counts.items():
                gauge.labels(name).set(value)
        self._promoted.clear()
        if values.promoted is not None:
            self._promoted.labels(values.promoted).set(1)
        self._job.clear()
        if values.job is not None:
            self._job.labels(values.job[0]).set(values.job[1])
        self._ready.set(values.ready)
        for figure, gauge in self._drift.items():
            gauge.clear()
            for of, told in values.drift.get(figure, {}).items():
                gauge.labels(of).set(told)
        return generate_latest(self._registry)
