"""Watches whether queries are still drawn as they were when a generation began to answer, and raises an alarm once."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from evergallery.errors import InputError, StoredFileError
from evergallery.files import is_writable, read_json, write_json
from evergallery.generations.generation import Generation
from evergallery.holdings.state import now
from evergallery.retrieval.query_drift import DIRECTIONS, alarm_distance, dependence, directions, kolmogorov_distance
from evergallery.serving import schemas

log = logging.getLogger("evergallery.serving")

REFERENCE, LEAST_REFERENCE = 2000, 400
"""Searches that the reference is made of, by default and at least; a window is a quarter of it."""
FOLDER = "traffic"
WATCHED = {"score": slice(0, 1), "query": slice(1, 1 + DIRECTIONS)}
"""The first result's score, and the query's embedding as seen from fixed directions, as columns of what is kept."""


class Traffic(BaseModel):
    """The traffic that is kept of a generation: numbers that no picture, and no embedding, can be made from.

    Attributes:
        fingerprint: of the generation.
        way: how it answered.
        size: searches of the reference.
        reference: (n, 1 + P) rows: the first result's score, and P coordinates of the query.
        windows: that have been compared with the complete reference.
        distances: of the last window, by what is watched.
        limits: from which they raise an alarm.
        alarms: when each of them was raised.
    """

    model_config = ConfigDict(extra="forbid")

    fingerprint: str
    way: str
    size: int
    reference: list[list[float]] = Field(default_factory=list)
    windows: int = 0
    distances: dict[str, float] = Field(default_factory=dict)
    limits: dict[str, float] = Field(default_factory=dict)
    alarms: dict[str, str] = Field(default_factory=dict)


class Drift:
    """Compares window after window of searches with those of the reference.

    Args:
        directory: of the workspace.
        size: searches of the reference.
        executor: where windows are compared and kept.

    Raises:
        InputError: a reference of so few searches that nothing could be told.
    """

    def __init__(self, directory: Path, size: int, executor: Executor) -> None:
        if size < LEAST_REFERENCE:
            raise InputError(
                f"A reference of {size} searches tells nothing: give at least {LEAST_REFERENCE}, or 0 for none."
            )
        self._folder = directory / FOLDER
        self._size = size
        self._executor = executor
        self._one_at_a_time = threading.Lock()
        self._name = ""
        self._traffic: Traffic | None = None
        self._directions: NDArray[np.float32] = np.zeros((DIRECTIONS, 0), np.float32)
        self._window: dict[tuple[float, ...], None] = {}

    def observe(self, generation: Generation, way: str, query: NDArray[np.float32], score: float) -> None:
        """A search was answered; returns at once.

        Args:
            generation: that embedded the query, and answers.
            way: how it answers.
            query: (D,) its embedding.
            score: of the first result.
        """
        with self._one_at_a_time:
            traffic = self._of(generation, way)
            row = (round(score, 6), *(round(float(coordinate), 6) for coordinate in self._directions @ query))
            if len(traffic.reference) < traffic.size:
                traffic.reference.append(list(row))
                if len(traffic.reference) == traffic.size:
                    self._later(self._keep, traffic)
                return
            # The same picture again is no new draw.
            self._window[row] = None
            if len(self._window) >= traffic.size // 4:
                window, self._window = np.array(list(self._window)), {}
                self._later(self._compare, traffic, window)

    def forget(self) -> None:
        """Begin a new reference: what is searched for from now on is what is usual."""
        with self._one_at_a_time:
            (self._folder / f"{self._name}.json").unlink(missing_ok=True)
            self._traffic, self._window = None, {}

    def told(self) -> schemas.Drift | None:
        """Return what clients hear of the comparison; ``None`` before the first search."""
        with self._one_at_a_time:
            traffic = self._traffic
            if traffic is None:
                return None
            return schemas.Drift(
                generation=self._name,
                reference=len(traffic.reference),
                of=traffic.size,
                windows=traffic.windows,
                distances=dict(traffic.distances),
                limits=dict(traffic.limits),
                alarms=dict(traffic.alarms),
            )

    def close(self) -> None:
        """Keep a reference that is not complete."""
        with self._one_at_a_time:
            if self._traffic is not None and not self._traffic.windows:
                self._keep(self._traffic)

    def _later(self, work: Callable[..., None], *arguments: object) -> None:
        self._executor.submit(work, *arguments)

    def _of(self, generation: Generation, way: str) -> Traffic:
        known = self._traffic
        if known is not None and (known.fingerprint, known.way) == (generation.fingerprint, way):
            return known
        if known is not None and not known.windows:
            self._later(self._keep, known, self._name)
        self._name, self._window = generation.name, {}
        self._directions = directions(generation.fingerprint, generation.card.dimension)
        fresh = Traffic(fingerprint=generation.fingerprint, way=way, size=self._size)
        self._traffic = self._read(fresh) or fresh
        return self._traffic

    def _read(self, like: Traffic) -> Traffic | None:
        """Return what an earlier process has kept, if it is of the same generation, way and size."""
        path = self._folder / f"{self._name}.json"
        if not path.is_file():
            return None
        try:
            kept = Traffic.model_validate(read_json(path))
        except (ValueError, StoredFileError):
            aside = path.with_name(f"{path.name}.damaged")
            if is_writable(path.parent):
                path.replace(aside)
            log.warning("%s cannot be read, so that a new reference of the queries begins: it lies in %s", path, aside)
            return None
        fits = (kept.fingerprint, kept.way, kept.size) == (like.fingerprint, like.way, like.size)
        rows = all(len(row) == 1 + DIRECTIONS for row in kept.reference) and len(kept.reference) <= kept.size
        return kept if fits and rows else None

    def _keep(self, traffic: Traffic, name: str | None = None) -> None:
        if is_writable(self._folder.parent):
            self._folder.mkdir(exist_ok=True)
            write_json(
                self._folder / f"{name or self._name}.json", traffic.model_copy(deep=True).model_dump(mode="json")
            )

    def _compare(self, traffic: Traffic, window: NDArray[np.float64]) -> None:
        reference = np.array(traffic.reference)
        with self._one_at_a_time:
            traffic.windows += 1
            number = traffic.windows
        for name, columns in WATCHED.items():
            before, recent = reference[:, columns], window[:, columns]
            distance = max(
                kolmogorov_distance(before[:, column], recent[:, column]) for column in range(before.shape[1])
            )
            limit = alarm_distance(
                len(before), len(recent), number, samples=len(WATCHED) * before.shape[1], stretch=dependence(before)
            )
            with self._one_at_a_time:
                traffic.distances[name], traffic.limits[name] = distance, limit
                is_new = distance >= limit and name not in traffic.alarms
                if is_new:
                    traffic.alarms[name] = now()
            if is_new:
                what = "scores of first results" if name == "score" else "embeddings of queries"
                log.warning(
                    "queries have drifted: %s of the last %d searches are at a distance of %.3f from those of the reference, and "
                    "%.3f raises an alarm",
                    what,
                    len(recent),
                    distance,
                    limit,
                )
        if self._traffic is traffic:
            self._keep(traffic)
