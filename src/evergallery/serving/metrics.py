"""What Prometheus reads: how many requests of which kind, how long they took, and where the gallery stands."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Step = Literal["decode", "embed", "search", "total"]
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999)
SIZES = (1, 2, 4, 8, 16, 32)
SCORES = tuple(round(0.05 * step, 2) for step in range(21))
MARGINS = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("evergallery_requests", "Requests.", ("method", "route", "status"), registry=registry)
        self._request_seconds = Histogram(
            "evergallery_request_seconds", "Of whole requests.", ("route",), buckets=SECONDS, registry=registry
        )
        self._step_seconds = Histogram(
            "evergallery_search_seconds", "Of searches, by step; waiting is part of each.", ("step",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self._answer_seconds = Histogram(
            "evergallery_answer_seconds", "Of answered searches, by the generation that answers.", ("generation",),
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._unanswered = Counter(
            "evergallery_unanswered_searches", "Searches that failed, by the generation that would have answered.",
            ("generation",), registry=registry,
        )  # fmt: skip
        self._batches = Histogram(
            "evergallery_batch_images", "Images that the model looked at together.", buckets=SIZES, registry=registry
        )
        self._rescored = Counter(
            "evergallery_rescored_candidates",
            "Candidates that were scored again, by how they came by their vector: kept, embedded; or gone, late: they had none.",
            ("vector",),
            registry=registry,
        )
        self._shadow = Counter(
            "evergallery_shadow_searches", "Searches that were drawn for the shadow: compared, left out, failed.",
            ("outcome",), registry=registry,
        )  # fmt: skip
        self._shadow_overlap = Histogram(
            "evergallery_shadow_overlap", "Share of the results that both have.", buckets=SHARES, registry=registry
        )
        self._shadow_first = Counter(
            "evergallery_shadow_first", "Compared searches by whether the first result is the same.", ("same",),
            registry=registry,
        )  # fmt: skip
        self._shadow_seconds = Histogram(
            "evergallery_shadow_seconds", "Of answers in the shadow.", buckets=SECONDS, registry=registry
        )
        self._top_score = Histogram(
            "evergallery_top_score", "Score of the first result, by the generation that asks and the space that it lies in.",
            ("generation", "space"), buckets=SCORES, registry=registry,
        )  # fmt: skip
        self._margin = Histogram(
            "evergallery_top_margin", "Score of the first result above that of the second.", ("generation",),
            buckets=MARGINS, registry=registry,
        )  # fmt: skip
        self._drift = {
            name: Gauge(f"evergallery_query_drift_{name}", told, ("of",), registry=registry)
            for name, told in (
                ("distance", "Of the last window of searches from the reference, in [0, 1]."),
                ("limit", "From which it raises an alarm."),
                ("alarm", "1 since an alarm was raised, until the reference is begun anew."),
            )
        }
        self._items = Gauge(
            "evergallery_items", "Items by the space of their vector.", ("generation",), registry=registry
        )
        self._promoted = Gauge(
            "evergallery_promoted_info", "1 for the generation that answers.", ("generation",), registry=registry
        )
        self._job = Gauge(
            "evergallery_job_progress", "Share that is done of the running job.", ("kind",), registry=registry
        )
        self._problems = Gauge("evergallery_problems", "Items that keep an old vector.", ("kind",), registry=registry)
        self._ready = Gauge("evergallery_ready", "1 while the gallery is open and the model loaded.", registry=registry)

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

    def read(
        self,
        *,
        items: Mapping[str, int],
        promoted: str | None,
        job: tuple[str, float] | None,
        problems: Mapping[str, int],
        ready: bool,
        drift: Mapping[str, Mapping[str, float]],
    ) -> bytes:
        """All metrics as text, with where the gallery stands now."""
        for gauge, values in ((self._items, items), (self._problems, problems)):
            gauge.clear()
            for name, value in values.items():
                gauge.labels(name).set(value)
        self._promoted.clear()
        if promoted is not None:
            self._promoted.labels(promoted).set(1)
        self._job.clear()
        if job is not None:
            self._job.labels(job[0]).set(job[1])
        self._ready.set(ready)
        for figure, gauge in self._drift.items():
            gauge.clear()
            for of, told in drift.get(figure, {}).items():
                gauge.labels(of).set(told)
        return generate_latest(self._registry)
