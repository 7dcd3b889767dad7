"""Candidates from older vectors, ranked by vectors of the generation that answers, which are made where they are missing."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evergallery.errors import EvergalleryError, RefusedError, UnavailableError
from evergallery.extraction.images import find_images
from evergallery.gallery.items import Item
from evergallery.generations.generation import Generation
from evergallery.holdings.comparing import space_of
from evergallery.holdings.embedding import embed_pixels
from evergallery.holdings.holdings import Holdings, changing, unchanging
from evergallery.holdings.state import State
from evergallery.searching.routes import RankedResult, Route, ranked

Vector = NDArray[np.float32]
Outcome = Literal["kept", "embedded", "gone", "late"]
FIRST = 4
"""Images that are embedded before anybody knows how long one takes."""
TOGETHER = 16
AGAIN_SECONDS = 300.0
"""The time for which an image that could not be opened is not tried again."""


@dataclass(frozen=True)
class RescoreCounts:
    """The sources of the vectors by which the candidates of a query are ranked.

    Attributes:
        candidates: the first ones by the older vectors.
        kept: of these, whose new vector was there, or followed from the old one.
        embedded: whose image was embedded for this query, or for one that was answered together with it.
        gone: whose image is not there, which keep their older score.
        late: for which no time was left, which keep their older score.
    """

    candidates: int
    kept: int
    embedded: int
    gone: int
    late: int


@dataclass(frozen=True)
class Candidates:
    """Items that may be what a query is after.

    Attributes:
        found: for each query, by older vectors, best first, with their embeddings.
        current: the same items by id as they are seen now, with embeddings.
        calibrated: whether ranks are comparable over routes.
    """

    found: Sequence[Sequence[RankedResult]]
    current: Mapping[str, Item]
    calibrated: bool


def rescore(
    holdings: Holdings, candidates: Candidates, queries: NDArray[np.float32], route: Route, *, seconds: float
) -> list[tuple[list[RankedResult], RescoreCounts]]:
    """Rank the candidates of each query by vectors of one generation, best first.

    Args:
        holdings: of the workspace, whose open refresh for that generation keeps what is made.
        candidates: for each query.
        queries: (Q, D) by the generation.
        route: from them to vectors of their own.
        seconds: that may be spent on images, for all queries together.
    """
    target, current = route.space.fingerprint, candidates.current
    there = [[found for found in results if found.result.item.id in current] for results in candidates.found]
    new = _NewVectors(holdings, route.space.maker)
    new.make(there, current, time.monotonic() + seconds)
    answers = []
    for query, results in zip(queries, there, strict=True):
        ranking: list[RankedResult] = []
        counts = {"kept": 0, "embedded": 0, "gone": 0, "late": 0}
        for found in results:
            item = current[found.result.item.id]
            counts[new.how[item.id]] += 1
            vector = new.vectors.get(item.id)
            if vector is None:
                ranking.append(ranked(item, found.result.score, found.route, candidates.calibrated))
            else:
                ranking.append(
                    ranked(replace(item, generation=target), float(query @ vector), route, candidates.calibrated)
                )
        answers.append((ranking, RescoreCounts(len(results), **counts)))
    return answers


class _NewVectors:
    """Vectors (D,) of candidates by one generation.

    Args:
        holdings: of the workspace.
        target: the generation.

    Attributes:
        vectors: by id of the item, where there is one.
        how: by id, how each item came by its vector, or why it has none; see ``RescoreCounts``.
    """

    def __init__(self, holdings: Holdings, target: Generation) -> None:
        self._holdings, self._target = holdings, target
        self.vectors: dict[str, Vector] = {}
        self.how: dict[str, Outcome] = {}
        self._made: dict[str, Vector] = {}

    def make(self, candidates: Sequence[Sequence[RankedResult]], current: Mapping[str, Item], until: float) -> None:
        """Take the vectors that are there, make the others until a time, those of good rank first, and keep what was made."""
        longest = max(map(len, candidates), default=0)
        in_turn = [results[place] for place in range(longest) for results in candidates if place < len(results)]
        older = {candidate.result.item.id: candidate.result.item for candidate in in_turn}
        for name, item in older.items():
            self._take(item, current[name])
        self._embed([current[name] for name in older if name not in self.how], until)
        made = [replace(current[name], embedding=vector) for name, vector in self._made.items()]
        _keep(self._holdings, self._target, made)

    def _take(self, older: Item, current: Item) -> None:
        """The vector of an item that is stored, or that follows from an older one."""
        if current.generation == self._target.fingerprint:
            self.vectors[older.id], self.how[older.id] = current.embedding, "kept"
            return
        space = space_of(self._holdings, older.generation)
        follows = None if space.adapter else self._holdings.loaded.between(space.maker, self._target)
        if follows is not None:
            self._note(older, follows(older.embedding[None])[0], "kept")

    def _embed(self, left: list[Item], until: float) -> None:
        """Vectors of the items from their images, chunk by chunk while there is time."""
        unreadable, extracts = self._holdings.unreadable, self._target.extracts
        size, pace = FIRST, 0.0
        while left:
            now = time.monotonic()
            tried = [item for item in left if unreadable.get(item.id, 0.0) <= now]
            self.how |= {item.id: "gone" for item in left if item not in tried}
            # A chunk that is begun is waited for: none begins that would end too late.
            size = min(size, int((until - now) / pace)) if pace else size
            if not tried or now >= until or size < 1 or not extracts:
                self.how |= {item.id: "late" if extracts else "gone" for item in tried}
                return
            chunk, left = tried[:size], tried[size:]
            if not self._look(chunk, now):
                self.how |= {item.id: "late" for item in left}
                return
            pace, size = (time.monotonic() - now) / len(chunk), TOGETHER

    def _look(self, chunk: list[Item], now: float) -> bool:
        """Vectors of a chunk of items from their images; whether more may be asked for."""
        looked = find_images(chunk, self._target.preprocessing, self._holdings.roots)
        for problem in looked.problems:
            self.how[problem.item] = "gone"
            self._holdings.unreadable[problem.item] = now + AGAIN_SECONDS
        self._holdings.notes.record(looked.problems)
        if looked.items:
            try:
                vectors = embed_pixels(self._holdings, looked.images.pixels, self._target)
            except (UnavailableError, RefusedError):
                # An endpoint that does not answer, or may be asked no more: the older scores stand.
                self.how |= {item.id: "late" for item in looked.items}
                return False
            for item, vector in zip(looked.items, vectors, strict=True):
                self._note(item, vector, "embedded")
        return True

    def _note(self, item: Item, vector: Vector, how: Outcome) -> None:
        self.vectors[item.id] = self._made[item.id] = vector
        self.how[item.id] = how


def _keep(holdings: Holdings, target: Generation, items: Sequence[Item]) -> None:
    """Put new vectors into the refresh for their generation that searches see; where it was ended, into another."""
    if not items or not (_keeps(holdings.state, target) or _begins(holdings.state, target)):
        return
    try:
        if _begins(holdings.state, target):
            with changing(holdings, "keeping vectors of searches") as state:
                if _begins(state, target):
                    state.open_refresh(target.name, target.fingerprint, target.fingerprint)
                    state.show_refresh()
        # A commit that came between would settle the refresh and know nothing of these.
        with unchanging(holdings, "keeping vectors of a search") as state:
            if state.refresh is None or not _keeps(state, target):
                return
            kept = [replace(item, generation=target.fingerprint) for item in items]
            holdings.gallery.refresh(kept, state.refresh.id)
    except EvergalleryError:
        # Somebody changes the state, nothing can be written here, or an item has two versions of a refresh that is to be settled:
        # the answer does not depend on it, and a later search keeps it.
        return
    holdings.notes.solved(item.id for item in items)


def _keeps(state: State, target: Generation) -> bool:
    opened = state.refresh
    return opened is not None and opened.fingerprint == target.fingerprint and opened.shown


def _begins(state: State, target: Generation) -> bool:
    """Return whether searches may begin a refresh: they are answered by re-scoring, and nothing is left to be settled."""
    answers = state.answer.way == "rescore" and state.promoted == target.name
    return answers and state.refresh is None and not state.committed and not state.discarded
