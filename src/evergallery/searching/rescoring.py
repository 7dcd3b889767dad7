"""Candidates from older vectors, ranked by vectors of the generation that answers, which are made where they are missing."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
from evergallery.searching.routes import Found, Route, ranked

Vector = NDArray[np.float32]
FIRST = 4
"""Images that are embedded before anybody knows how long one takes."""
TOGETHER = 16
AGAIN_SECONDS = 300.0
"""How long an image that could not be opened is not tried again."""


@dataclass(frozen=True)
class Rescored:
    """How the candidates of a query got the vectors that they are ranked by.

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


def rescore(
    holdings: Holdings,
    candidates: Sequence[Sequence[Found]],
    current: Mapping[str, Item],
    queries: NDArray[np.float32],
    route: Route,
    *,
    seconds: float,
    calibrated: bool,
) -> list[tuple[list[Found], Rescored]]:
    """Rank the candidates of each query by vectors of one generation, best first.

    Args:
        holdings: of the workspace, whose open refresh for that generation keeps what is made.
        candidates: for each query, by older vectors, best first, with their embeddings.
        current: the candidates by id as they are seen now, with embeddings.
        queries: (Q, D) by the generation.
        route: from them to vectors of their own.
        seconds: that may be spent on images, for all queries together.
        calibrated: whether ranks are comparable over routes.
    """
    target = route.space.fingerprint
    there = [[one for one in some if one.result.item.id in current] for some in candidates]
    made = _Made.of(holdings, route.space.maker, there, current, seconds)
    answers = []
    for query, some in zip(queries, there, strict=True):
        ranking: list[Found] = []
        counts = {"kept": 0, "embedded": 0, "gone": 0, "late": 0}
        for one in some:
            item = current[one.result.item.id]
            counts[made.how[item.id]] += 1
            vector = made.vectors.get(item.id)
            if vector is None:
                ranking.append(ranked(item, one.result.score, one.route, calibrated))
            else:
                ranking.append(ranked(replace(item, generation=target), float(query @ vector), route, calibrated))
        answers.append((ranking, Rescored(len(some), **counts)))
    return answers


@dataclass(frozen=True)
class _Made:
    """New vectors (D,) of items by id, and how each item came by one, or why it has none."""

    vectors: Mapping[str, Vector]
    how: Mapping[str, str]

    @classmethod
    def of(
        cls,
        holdings: Holdings,
        target: Generation,
        candidates: Sequence[Sequence[Found]],
        current: Mapping[str, Item],
        seconds: float,
    ) -> "_Made":
        """Make the missing vectors of all queries' candidates, those of good rank first."""
        until = time.monotonic() + seconds
        longest = max(map(len, candidates), default=0)
        in_turn = [some[place] for place in range(longest) for some in candidates if place < len(some)]
        older = {one.result.item.id: one.result.item for one in in_turn}
        vectors: dict[str, Vector] = {}
        new: dict[str, Vector] = {}
        how: dict[str, str] = {}
        for name, item in older.items():
            if current[name].generation == target.fingerprint:
                vectors[name], how[name] = current[name].embedding, "kept"
                continue
            space = space_of(holdings, item.generation)
            follows = None if space.adapter else holdings.loaded.between(space.maker, target)
            if follows is not None:
                new[name], how[name] = follows(item.embedding[None])[0], "kept"
        left = [current[name] for name in older if name not in how]
        size, pace = FIRST, 0.0
        while left:
            now = time.monotonic()
            tried = [item for item in left if holdings.unreadable.get(item.id, 0.0) <= now]
            how |= {item.id: "gone" for item in left if item not in tried}
            # A chunk that is begun is waited for: none begins that would end too late.
            size = min(size, int((until - now) / pace)) if pace else size
            if not tried or now >= until or size < 1 or not target.extracts:
                how |= {item.id: "late" if target.extracts else "gone" for item in tried}
                break
            chunk, left = tried[:size], tried[size:]
            looked = find_images(chunk, target.preprocessing, holdings.roots)
            for problem in looked.problems:
                how[problem.item] = "gone"
                holdings.unreadable[problem.item] = now + AGAIN_SECONDS
            holdings.notes.record(looked.problems)
            if looked.items:
                try:
                    made = embed_pixels(holdings, looked.images.pixels, target)
                except (UnavailableError, RefusedError):
                    # An endpoint that does not answer, or may be asked no more: the older scores stand.
                    how |= {item.id: "late" for item in (*looked.items, *left)}
                    break
                for item, vector in zip(looked.items, made, strict=True):
                    new[item.id], how[item.id] = vector, "embedded"
            pace, size = (time.monotonic() - now) / len(chunk), TOGETHER
        _keep(holdings, target, [replace(current[name], embedding=vector) for name, vector in new.items()])
        return cls(vectors | new, how)


def _keep(holdings: Holdings, target: Generation, items: Sequence[Item]) -> None:
    """Put new vectors into the refresh for their generation that searches see; where it was ended, into another."""
    if not items or not (_keeps(holdings.state, target) or _begins(holdings.state, target)):
        return
    try:
        if _begins(holdings.state, target):
            with changing(holdings, "keeping vectors of searches") as state:
                if _begins(state, target):
                    state.open_refresh(target.name, target.fingerprint)
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
    """Whether searches may begin a refresh: they are answered by re-scoring, and nothing is left to be settled."""
    answers = state.answer.way == "rescore" and state.promoted == target.name
    return answers and state.refresh is None and not state.committed and not state.discarded
